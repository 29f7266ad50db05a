"""Small images, patches and targets for the ATE, and one call to explain them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.data import PatchPool
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Ate, Batch, explain

HEIGHT, WIDTH = 20, 36  # blocks of 8: the last row and column are cut off
SMALL = Ate(num_screen=2, num_patches=4, batch_size=3)


def image(seed=0, cue=1.0):
    pixels = np.random.default_rng(seed).random((HEIGHT, WIDTH, 1)).astype(np.float32)
    pixels[3, 29] = cue
    return pixels


def make_pool(count=40, size=8, value=None):
    patches = np.random.default_rng(9).random((count, size, size, 1)).astype(np.float32)
    if value is not None:
        patches[:] = value
    return PatchPool(patches=patches, sources=np.sort(np.arange(count) % 5 + 100).astype(np.uint32))


def make_batch(images, pool, region=None, reference=None, first_id=1):
    count = len(images)
    if region is None:
        region = np.zeros((count, HEIGHT, WIDTH), bool)
        region[:, 8:16, 8:16] = True
    if reference is None:
        reference = images[..., 0] > 0.5
    return Batch(
        images=images,
        targets=SegmentTarget(
            class_index=np.ones(count, np.int32), region=region, reference=reference
        ),
        valid=np.ones(count, bool),
        image_ids=np.arange(first_id, first_id + count, dtype=np.uint32),
        pool=pool,
        key=jax.random.key(5),
    )


def run(predict, batch, explainer=SMALL, devices=None):
    explained = explain(
        explainer, jnp.float32(0.4), batch, predict=predict, mesh=device_mesh(devices)
    )
    chex.assert_tree_all_finite((explained.attribution, explained.maps, explained.traces))
    return explained
