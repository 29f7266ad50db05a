"""What the tests of agreement share: one small model, and ours on the frozen inputs."""

import functools

import jax
import numpy as np

from benchmarks.agree.frozen import KINDS, load, ours_of
from benchmarks.agree.kind import Subject, logits_of
from benchmarks.peers.unet import torch_unet
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.models import load_model

MAPS = ["grad_cam", "integrated_gradients", "confidence"]
MISURE = ["misure", "misure_paper"]


@functools.cache
def bundle(name="triangle"):
    return load_model(name)


@functools.cache
def model():
    return torch_unet(bundle().card.architecture_config(), bundle().variables)


@functools.cache
def mesh(name=""):
    # Three devices, for which two images are filled up (and the pool must not be).
    return device_mesh(jax.devices()[: 3 if name == "ate_gradient_path" else 1])


@functools.cache
def frozen(name):
    """Ours on the inputs of a reference, its explanation and what both are of."""
    reference = load(name)
    own = bundle(reference.model)
    ours = ours_of(reference, own, mesh(name))
    return ours, jax.device_get(ours()), ours.subject(own, "float32")


def subject_of(reference, dtype="float32"):
    return Subject(
        explainer=reference.explainer,
        inputs=reference.inputs,
        logits=logits_of(bundle(reference.model)),
        dtype=dtype,
    )


def verdict(name, *, dtype="float32", **changes):
    """On our result with changes; `dtype` other than float32: on the reference's own."""
    reference = load(name)
    if dtype == "float32":
        ours, found, subject = frozen(name)
        right = ours.arrays(found)
    else:
        right, subject = reference.result, subject_of(reference, dtype)
    changed = right | {key: change(right[key]) for key, change in changes.items()}
    return KINDS[reference.explainer.name].compare(changed, reference.result, subject)


def on_the_edge(z):
    """Logits (0, z) whose z is the first channel, but for pixel (0, 0), where it is `z`."""

    def logits(images):
        second = images[..., 0].copy()
        second[:, 0, 0] = z
        return np.stack([np.zeros_like(second), second], axis=-1)

    return logits
