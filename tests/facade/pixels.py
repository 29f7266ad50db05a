"""A model of single pixels, pictures for it, and a quick method."""

import numpy as np

import jaxseg_xai

SIDE = 16
RNG = np.random.default_rng(0)


def bright(inputs):
    """Class 1 where a pixel is bright."""
    return 20 * (inputs - 0.5)


def pictures(count=3, size=(SIDE, SIDE)):
    return np.random.default_rng(1).random((count, *size, 1)).astype(np.float32)


def ig(model, images, *rest, **settings):
    return jaxseg_xai.explain(
        model, images, "bright", "integrated_gradients", *rest, num_nodes=2, **settings
    )


def model_of_pixels():
    return jaxseg_xai.as_model(bright, class_names=["dark", "bright"], channels=1, name="pixels")
