"""Effects of a network's parts."""
