"""PyTorch implementations of the same methods, written for this project as its peers."""
