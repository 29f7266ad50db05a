"""PyTorch implementations of the same methods, written for this project as its peers.

Each module has `original(model, inputs, settings)`, the published code's way (one image, or one
block, at a time; eager; channels first), and `tuned(folded, inputs, settings)`, what a PyTorch
expert would do; `folded` is `unet.tuned_copy` of the model. Both take `Inputs` and the settings of
our method, and return `Arrays`.
"""
