"""Small images, patches and targets for the ATE, and one call to explain them."""

import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Problem, explain
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.outcomes import get_outcome
from tests.support import batch_of, problem_of

HEIGHT, WIDTH = 20, 36  # blocks of 8: the last row and column are cut off
SMALL = Ate(num_screen=2, num_patches=4, batch_size=3)
LEVEL = jnp.float32(0.4)


def image(seed=0, cue=1.0):
    pixels = np.random.default_rng(seed).random((HEIGHT, WIDTH, 1)).astype(np.float32)
    pixels[3, 29] = cue
    return pixels


def ids_of(numbers):
    """uint32 [n, 2] with the numbers as low words."""
    return np.stack([np.zeros(len(numbers)), numbers], axis=1).astype(np.uint32)


def make_pool(count=40, shape=(8, 8, 1), value=None):
    patches = np.random.default_rng(9).random((count, *shape)).astype(np.float32)
    if value is not None:
        patches[:] = value
    return PatchPool(patches=patches, sources=ids_of(np.sort(np.arange(count) % 5 + 100)))


#: Never changed by a test.
POOL = make_pool()


def make_problem(apply, pool=POOL, variables=LEVEL, **options) -> Problem:
    return problem_of(apply, variables, seed=5, pool=pool, **options)


def make_batch(images, region=None, reference=None, first_id=1):
    """A batch whose region is one block, and whose reference is what is bright."""
    if region is None:
        region = np.zeros(images.shape[:-1], bool)
        region[:, 8:16, 8:16] = True
    if reference is None:
        reference = np.nan_to_num(images[..., 0]) > 0.5
    batch = batch_of(None, images, region=region, reference=reference)
    return dataclasses.replace(batch, image_ids=ids_of(np.arange(first_id, first_id + len(images))))


def run(problem, batch, explainer=SMALL, devices=None):
    explained = explain(explainer, problem, batch, mesh=device_mesh(devices))
    usable = explained.status == Status.OK
    traces = jax.tree.map(lambda trace: trace[usable], explained.traces)
    chex.assert_tree_all_finite((explained.attribution, explained.maps, traces))
    return explained


def brute_force(problem, batch, explainer, draws):
    """The published algorithm: block by block, patch by patch."""
    rank, size = batch.images.ndim - 2, explainer.block_size
    output, outcome = problem.segmenter.output, get_outcome(explainer.outcome)
    maps = np.zeros(batch.images.shape[:-1], np.float32)
    for b, picture in enumerate(batch.images):
        target = jax.tree.map(lambda leaf, b=b: jnp.asarray(leaf[b]), batch.targets)

        @jax.jit
        def value_of(pixels, target=target):
            logits = problem.segmenter.logits(problem.variables, pixels[None])[0]
            return outcome.value(output, logits, target)

        base = float(value_of(picture))
        corners = itertools.product(*(range(0, n, size) for n in picture.shape[:rank]))
        for block, corner in enumerate(corners):
            here = tuple(slice(start, start + size) for start in corner)
            if batch.targets.region[b][here].any():
                continue

            def effect(patch, picture=picture, here=here, value_of=value_of, base=base):
                changed = picture.copy()
                area = tuple(slice(n) for n in changed[here].shape)
                changed[here] = np.asarray(draws.patches)[patch][area]
                return float(value_of(changed)) - base

            if all(abs(effect(p)) < explainer.threshold for p in draws.screen[b, block]):
                continue
            ate = np.mean([effect(p) for p in draws.full[b, block]])
            maps[b][here] = ate if abs(ate) >= explainer.threshold else 0
    return maps
