"""Random networks of these layers, and the comparison of a plan with the dense result."""

import contextlib

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


def fitted(x, height, width, how):
    """A map of any size brought to the image's."""
    b, h, w, c = x.shape
    if how == "crop":
        x = jnp.repeat(jnp.repeat(x, -(-height // h), 1), -(-width // w), 2)[:, :height, :width]
        return jnp.pad(x, ((0, 0), (0, height - x.shape[1]), (0, width - x.shape[2]), (0, 0)))
    return jax.image.resize(x, (b, height, width, c), how)


def network(seed, kinds, *, channels=2, how="nearest", skip=None):
    """(predict, variables): stem, the layers with ReLUs between, back to the image's size, head.

    Args:
      seed: of the weights.
      kinds: makers of layers.
      channels: of the image.
      how: "crop", or a method of `jax.image.resize`.
      skip: None, "add" or "concat" of the stem's output.
    """
    rng = np.random.default_rng(seed)
    made = [kind(rng) for kind in kinds]
    stem = layers.kernel(rng, 3, 3, channels, layers.C)
    head = layers.kernel(rng, 3, 3, layers.C * (2 if skip == "concat" else 1), K)
    numbers = ("NHWC", "HWIO", "NHWC")

    def predict(variables, images):
        stem, weights, head = variables
        first = jax.lax.conv_general_dilated(
            images, stem, (1, 1), "SAME", dimension_numbers=numbers
        )
        x = first
        for w, (_, apply) in zip(weights, made, strict=True):
            x = apply(w, jax.nn.relu(x) + 0.1 * x)
        if x.shape[1:3] != images.shape[1:3]:
            x = fitted(x, *images.shape[1:3], how)
        if skip == "add":
            x = x + first
        if skip == "concat":
            x = jnp.concatenate([first, x], -1)
        return jax.lax.conv_general_dilated(x, head, (1, 1), "SAME", dimension_numbers=numbers)

    return predict, (stem, [w for w, _ in made], head)


def unet(config, dtype="float32"):
    """(segmenter, variables) of a U-Net with random weights."""
    rng, spec = np.random.default_rng(0), config.input_spec()
    # Only its shapes: compiling Flax's initialisers takes seconds.
    bundle = as_model(
        nnx.eval_shape(lambda: config.build(nnx.Rngs(0))),
        class_names=[f"class {k}" for k in range(max(2, config.num_logits))],
        channels=spec.channels,
        multiple_of=spec.multiple_of,
        dtype=dtype,
    )
    return bundle.segmenter, jax.tree.map(
        lambda leaf: abs(layers.kernel(rng, *leaf.shape)) - 0.05, bundle.variables
    )


def padding(predict, stride, mode):
    """A model that pads images to multiples of a stride and crops its logits, by itself."""

    def padded(variables, images):
        height, width = images.shape[1:3]
        extra = [(0, 0), (0, -height % stride), (0, -width % stride), (0, 0)]
        return predict(variables, jnp.pad(images, extra, mode=mode))[:, :height, :width]

    return padded


def places_of(plan, seed, count=10):
    """Corners and random places: (blocks, regions), int32 [n, 2] each."""
    rng = np.random.default_rng(seed)
    grid = np.array([reaches.shape for reaches in plan.reaches.values()])  # [axis, block or region]
    ends = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])
    blocks = np.concatenate([ends * (grid[:, 0] - 1), rng.integers(grid[:, 0], size=(count, 2))])
    regions = np.concatenate([ends * (grid[:, 1] - 1), rng.integers(grid[:, 1], size=(count, 2))])
    regions[-3:] = regions[[0, 3, 2]]
    return blocks.astype(np.int32), regions.astype(np.int32)


def changed_images(image, patches, blocks, block):
    """[n, P, H, W, C]: the image with each patch in each block, cut off at the border."""
    height, width, _ = image.shape
    found = np.tile(image, (len(blocks), len(patches), 1, 1, 1))
    for k, (row, column) in enumerate(blocks):
        y, x = row * block[0], column * block[1]
        part = found[k, :, y : y + block[0], x : x + block[1]]
        part[...] = patches[:, : height - y, : width - x][:, : block[0], : block[1]]
    return found


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
    for k, (y, x) in enumerate(regions):
        box = np.s_[:, y : y + region[0], x : x + region[1]]
        assert found[k].shape == wanted[k][box].shape
        worst = np.maximum(worst, np.abs(found[k] - wanted[k][box]).max() / scale)
        reached = all(r[blocks[k][d], regions[k][d]] for d, r in enumerate(plan.reaches.values()))
        if not reached:
            worst = np.maximum(worst, np.abs(wanted[k][box] - wanted[-1][box]).max() / scale)
    assert np.isfinite(worst)
    return plan, worst
