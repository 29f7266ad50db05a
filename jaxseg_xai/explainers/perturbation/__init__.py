"""Many perturbed copies of the image, and what the model makes of them."""
