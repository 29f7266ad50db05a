"""Gradients with respect to the image."""
