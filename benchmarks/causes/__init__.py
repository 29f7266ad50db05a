"""Known causes: models that learnt them, and which methods find them."""
