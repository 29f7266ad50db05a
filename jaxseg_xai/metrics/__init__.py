"""How good a segmentation or an explanation is."""
