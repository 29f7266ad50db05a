"""One network of two layers for images and volumes, and examples that it segments."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import Batch, Problem
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.ops.random import make_key

SIZES = {2: (8, 8), 3: (4, 8, 8)}
#: Classes exclude each other in images, and overlap in volumes.
ACTIVATIONS = {2: "softmax", 3: "sigmoid"}
NUM_EXAMPLES = 8
#: The class that is never predicted.
NEVER = 2
_AXES = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


@dataclasses.dataclass(frozen=True)
class TwoLayers:
    """Two convolutions of 3 pixels a side with a ReLU between; hashable by value.

    Attributes:
      output: what becomes of the logits: "plain", or one of the ways to be wrong.
    """

    output: str = "plain"

    def __call__(self, variables, x):
        """Logits of the classes background, bright and never; or something wrong."""
        _TRACED.append(x.shape)
        for i, name in enumerate(("first", "head")):
            layer = variables[name]
            x = jax.lax.conv_general_dilated(
                jax.nn.relu(x) if i else x,
                layer["kernel"],
                (1,) * (x.ndim - 2),
                "SAME",
                dimension_numbers=_AXES[x.ndim - 2],
            )
            x = x + layer["bias"]
        match self.output:
            case "channels first":
                return jnp.moveaxis(x, -1, 1)
            case "larger":
                return jnp.pad(x, [(0, 0), *[(0, 2)] * (x.ndim - 2), (0, 0)])
            case "dict":
                return {"out": x}
            case "without a gradient":
                shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
                return jax.pure_callback(np.asarray, shape, x, vmap_method="sequential")
        return x


#: An entry whenever a network is traced.
_TRACED: list = []


def num_traced():
    """How often networks were traced up to now."""
    return len(_TRACED)


def network(rank, *, output="plain"):
    """A problem without a pool: class 1 is where it is bright.

    In volumes class 0 is the same but larger, so that they overlap.
    """
    activation = ACTIVATIONS[rank]
    rng = np.random.default_rng(rank)
    first = rng.normal(0, 0.1, (*(3,) * rank, 1, 4))
    first[..., 0, 0] += 1 / 3**rank
    first[(*(1,) * rank, 0, 1)] += 1
    head = rng.normal(0, 0.05, (*(3,) * rank, 4, 3))
    # One more than a class: bright pixels of bright surroundings, and what is near them.
    head[(*(1,) * rank, slice(0, 2), 1)] += 3
    shares = {"softmax": (0.0, -3.0, -60.0), "sigmoid": (-1.5, -3.0, -60.0)}[activation]
    if activation == "sigmoid":
        head[..., 0] = head[..., 1]
    variables = {
        "first": {"kernel": first.astype(np.float32), "bias": np.zeros(4, np.float32)},
        "head": {"kernel": head.astype(np.float32), "bias": np.array(shares, np.float32)},
    }
    segmenter = Segmenter(
        apply=TwoLayers(output),
        input=InputSpec(rank=rank, channels=1),
        output=OutputSpec(class_names=("rest", "bright", "never"), activation=activation),
    )
    return Problem(segmenter=segmenter, variables=variables, key=make_key(0))


def problem_for(explainer, rank, *, seed=0, **options):
    """A problem with the patches that a method needs."""
    problem = dataclasses.replace(network(rank, **options), key=make_key(seed))
    if "patches" not in explainer.needs:
        return problem
    rng = np.random.default_rng(1)
    shape = (12, *(explainer.patch_side,) * rank, 1)
    sources = np.stack([np.full(12, 7), np.arange(12) // 3], axis=1).astype(np.uint32)
    patches = rng.uniform(0, 1, shape).astype(np.float32)
    return dataclasses.replace(problem, pool=PatchPool(patches=patches, sources=sources))


@functools.cache
def pictures(rank):
    """Images [8, *S, 1]: bright boxes on noise. In volumes the last four are the first again."""
    rng = np.random.default_rng(10 + rank)
    images = rng.uniform(0, 0.4, (NUM_EXAMPLES, *SIZES[rank], 1))
    for i, image in enumerate(images):
        low = [1 + (i >> axis) % 2 for axis in range(rank)]
        image[tuple(slice(n, n + 3) for n in low)] += 0.6
    if rank == 3:
        images[4:] = images[:4]
    return images.astype(np.float32)


def batch_for(explainer, problem):
    """The examples of `pictures`: in the whole image, or a box of it, by what is explained.

    Of class 1; in volumes of class 0 the second time.
    """
    output, rank = problem.segmenter.output, problem.segmenter.input.rank
    images, size = pictures(rank).copy(), SIZES[rank]
    classes = np.ones(NUM_EXAMPLES, np.int32)
    numbers = np.arange(NUM_EXAMPLES)
    if rank == 3:
        classes[4:], numbers[4:] = 0, numbers[:4]
    part = explainer.meta.target == "reference"
    region = np.zeros((NUM_EXAMPLES, *size), bool)
    region[(slice(None), *(slice(4 if part else None) for _ in size))] = True
    logits = problem.segmenter.logits(problem.variables, images)
    planes = [output.segment_of(z, c) for z, c in zip(logits, classes, strict=True)]
    others = None
    if "others" in explainer.needs:
        rng = np.random.default_rng(2)
        shape = (explainer.num_others, *size, 1)
        others = np.broadcast_to(
            rng.uniform(0, 0.5, shape).astype(np.float32), (NUM_EXAMPLES, *shape)
        )
    return Batch(
        images=images,
        targets=SegmentTarget(
            class_index=classes, region=region, reference=np.stack([np.array(p) for p in planes])
        ),
        image_ids=np.stack([np.full(NUM_EXAMPLES, 3), numbers], axis=1).astype(np.uint32),
        valid=np.ones(NUM_EXAMPLES, bool),
        others=others,
    )
