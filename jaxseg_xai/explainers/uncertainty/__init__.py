"""How sure the model is."""
