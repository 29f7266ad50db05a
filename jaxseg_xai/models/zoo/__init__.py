"""Families of models, one a file; a further one is a file here and a line in `models.registry`."""
