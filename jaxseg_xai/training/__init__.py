"""Training of the segmentation models."""
