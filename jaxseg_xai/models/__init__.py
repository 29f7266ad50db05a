"""Segmentation models, their weights, and the adapters that make them pure functions."""
