"""What an explanation explains: one number of a model's output in a region."""
