"""Work over many devices."""
