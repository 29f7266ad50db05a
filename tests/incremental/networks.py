"""Random networks of these layers, and the comparison of a plan with the dense result."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseg_xai.incremental import Place, intervene, make_plan, prepare
from jaxseg_xai.models import as_model
from tests.incremental import layers

P = 2
K = 3


def _options(*candidates):
    """The first compiler options that this version of XLA knows."""
    for options in candidates:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(jnp.sin, compiler_options=options).lower(1.0).compile()
            return options
    return {}


#: Compiling takes most of the time of these tests, and the results are the same.
QUICK = _options(
    {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
    {"xla_backend_optimization_level": 0},
)


def quick(function):
    """`jax.jit` that compiles quickly."""
    return jax.jit(function, compiler_options=QUICK)


def fitted(x, size, how):
    """A map of any size brought to the image's."""
    if how == "crop":
        for d, side in enumerate(size, 1):
            x = jnp.repeat(x, -(-side // x.shape[d]), d)
        x = x[:, *map(slice, size)]
        missing = [side - n for side, n in zip(size, x.shape[1:], strict=False)]
        return jnp.pad(x, ((0, 0), *((0, n) for n in missing), (0, 0)))
    return jax.image.resize(x, (len(x), *size, x.shape[-1]), how)


def network(seed, kinds, *, rank=2, channels=2, how="nearest", skip=None):
    """(predict, variables): stem, the layers with ReLUs between, back to the image's size, head.

    Args:
      seed: of the weights.
      kinds: makers of layers.
      rank: 2, or 3 of volumes.
      channels: of the image.
      how: "crop", or a method of `jax.image.resize`.
      skip: None, "add" or "concat" of the stem's output.
    """
    rng = np.random.default_rng(seed)
    made = [kind(rng) for kind in kinds]
    size, ones = (3,) * rank, (1,) * rank
    stem = layers.kernel(rng, *size, channels, layers.C)
    head = layers.kernel(rng, *size, layers.C * (2 if skip == "concat" else 1), K)
    numbers = layers.NUMBERS[rank]

    def predict(variables, images):
        stem, weights, head = variables
        first = jax.lax.conv_general_dilated(images, stem, ones, "SAME", dimension_numbers=numbers)
        x = first
        for w, (_, apply) in zip(weights, made, strict=True):
            x = apply(w, jax.nn.relu(x) + 0.1 * x)
        if x.shape[1:-1] != images.shape[1:-1]:
            x = fitted(x, images.shape[1:-1], how)
        if skip == "add":
            x = x + first
        if skip == "concat":
            x = jnp.concatenate([first, x], -1)
        return jax.lax.conv_general_dilated(x, head, ones, "SAME", dimension_numbers=numbers)

    return predict, (stem, [w for w, _ in made], head)


def unet(config, dtype="float32"):
    """(segmenter, variables) of a U-Net of images or volumes with random weights."""
    rng, spec = np.random.default_rng(0), config.input_spec()
    # Only its shapes: compiling Flax's initialisers takes seconds.
    bundle = as_model(
        nnx.eval_shape(lambda: config.build(nnx.Rngs(0))),
        class_names=[f"class {k}" for k in range(max(2, config.num_logits))],
        rank=spec.rank,
        channels=spec.channels,
        multiple_of=spec.multiple_of,
        dtype=dtype,
    )

    def weight(leaf):  # variances are positive
        return abs(layers.kernel(rng, *leaf.shape)) + (0.1 if leaf.ndim == 1 else -0.05)

    return bundle.segmenter, jax.tree.map(weight, bundle.variables)


def padding(predict, stride, mode):
    """A model that pads images to multiples of a stride and crops its logits, by itself."""

    def padded(variables, images):
        height, width = images.shape[1:3]
        extra = [(0, 0), (0, -height % stride), (0, -width % stride), (0, 0)]
        return predict(variables, jnp.pad(images, extra, mode=mode))[:, :height, :width]

    return padded


def places_of(plan, seed, count=10):
    """All corners and random places: (blocks, regions), int32 [n, rank] each."""
    rng = np.random.default_rng(seed)
    grid = np.array([reaches.shape for reaches in plan.reaches.values()])  # [axis, block or region]
    ends = np.array(list(itertools.product((0, 1), repeat=len(grid))))
    blocks, regions = (
        np.concatenate([ends * (of - 1), rng.integers(of, size=(count, len(grid)))])
        for of in grid.T
    )
    regions[-3:] = regions[[0, 3, 2]]
    return blocks.astype(np.int32), regions.astype(np.int32)


def changed_images(image, patches, blocks, block):
    """[n, P, *S, C]: the image with each patch in each block, cut off at the border."""
    found = np.tile(image, (len(blocks), len(patches), *(1,) * image.ndim))
    for k, position in enumerate(blocks):
        here = box_at(position * block, block)
        part = found[k][here]
        part[...] = patches[:, *map(slice, part.shape[1:-1])]
    return found


def box_at(corner, sides):
    """Index of a box in [P, *S, C]."""
    return (slice(None), *(slice(a, a + n) for a, n in zip(corner, sides, strict=True)))


def compare(predict, variables, shape, block, region, *, seed=0, mapped="vmap"):
    """The plan, and max |incremental - dense| over the range of the dense logits."""
    plan = make_plan(predict, variables, shape, block=block, region=region, num_patches=P)
    rng = np.random.default_rng(seed)
    image = rng.uniform(size=shape).astype(np.float32)
    patches = rng.uniform(-1, 2, size=(P, *block, shape[-1])).astype(np.float32)
    blocks, regions = places_of(plan, seed)

    def run(variables, image, places):
        prepared = prepare(plan, variables, image)
        each = {"vmap": jax.vmap, "loop": lambda f: lambda places: jax.lax.map(f, places)}[mapped]
        return each(lambda place: intervene(plan, prepared, place, patches))(places)

    def dense(variables, images):
        flat = predict(variables, images.reshape(-1, *shape))
        return flat.reshape(*images.shape[:-1], -1)

    places = Place(blocks, regions)
    found = np.asarray(jax.jit(run, compiler_options=QUICK)(variables, image, places), np.float32)
    everything = np.concatenate(
        [changed_images(image, patches, blocks, block), image[None, None].repeat(P, 1)]
    )
    wanted = jax.jit(dense, compiler_options=QUICK)(variables, everything)
    wanted = np.asarray(wanted, np.float32)
    scale, worst = np.ptp(wanted), 0.0
    assert np.isfinite(wanted).all()
    assert scale > 0
    for k, corner in enumerate(regions):
        box = box_at(corner, region)
        assert found[k].shape == wanted[k][box].shape
        worst = np.maximum(worst, np.abs(found[k] - wanted[k][box]).max() / scale)
        reached = all(r[blocks[k][d], regions[k][d]] for d, r in enumerate(plan.reaches.values()))
        if not reached:
            worst = np.maximum(worst, np.abs(wanted[k][box] - wanted[-1][box]).max() / scale)
    assert np.isfinite(worst)
    return plan, worst
