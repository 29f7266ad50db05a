"""Models simple enough that their explanations are known."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.models.adapters.nnx import NNXAdapter
from tests.support import batch_of, problem_of


def problem_of_module(module, **options):
    """A problem of an NNX module, its weights in it."""
    apply, variables = NNXAdapter.adapt(module, None)
    return problem_of(apply, variables, **options)


def frozen(found):
    """The network of a file of `benchmarks.agree.pytorch_grad_cam`, and a batch of its image."""
    kernels = {
        layer: found[f"{layer}_weight"].transpose(2, 3, 1, 0) for layer in ("0_0", "0_2", "1")
    }

    def apply(variables, x):
        for layer, kernel in variables["kernels"].items():
            dims = ("NHWC", "HWIO", "NHWC")
            x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dims)
            x = x + variables["biases"][layer]
            x = x if layer == "1" else jax.nn.relu(x)
        return x

    biases = {layer: found[f"{layer}_bias"] for layer in kernels}
    variables = {"kernels": kernels, "biases": biases}
    problem = problem_of(apply, variables, class_names=("a", "b", "c"))
    image = found["image"][None, ..., None]
    return problem, batch_of(problem, image, class_index=found["class_index"])


def two_classes(score):
    return jnp.stack([jnp.zeros_like(score), score], axis=-1)


def bright_pixels(variables, images):
    """Class 1 where the pixel itself is brighter than 0.5: needs nothing but itself."""
    return two_classes(20 * (images[..., 0] - 0.5))


def blurred_brightness(variables, images):
    """Class 1 where the 15x15 mean is above `variables`: needs its surroundings."""
    kernel = jnp.full((15, 15, 1, 1), 1 / 225)
    mean = lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return two_classes(50 * (mean[..., 0] - variables))


def cued(variables, images):
    """Class 1 where bright, and only if the cue pixel (3, 29) is bright too."""
    cue = images[:, 3, 29, 0] > 0.5
    return two_classes(jnp.where((images[..., 0] > 0.5) & cue[:, None, None], 1.0, -1.0))


def broken(variables, images):
    """NaN logits."""
    return bright_pixels(variables, images) * jnp.nan


def overflowing(variables, images):
    """As bright_pixels, but infinite for huge values."""
    poison = jnp.square(images).sum(axis=(1, 2, 3), keepdims=True) * 0  # inf * 0 = NaN
    return bright_pixels(variables, images) + poison


def impossible(variables, images):
    """Class 1 everywhere, but only for an image without a black pixel."""
    whole = jnp.all(images > 0, axis=(1, 2, 3))
    return two_classes(jnp.where(whole[:, None, None], 1.0, -1.0) * jnp.ones(images.shape[:3]))
