"""What a sweep computed, on disk."""
