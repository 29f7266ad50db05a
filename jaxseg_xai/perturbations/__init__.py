"""What is done to an input to see what the model makes of it."""
