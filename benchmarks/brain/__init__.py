"""Small networks of many families, trained on the same brain slices."""
