"""The contract between explainers and whoever runs them over many images."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import jax
from jax.sharding import Mesh

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Array, Explanation, Predict, SegmentTarget
from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.ops.patches import PatchPool


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """What an explainer is given at once.

    Attributes:
      images: float32 [B, H, W, C].
      targets: [B, ...].
      valid: bool [B], False where an example only fills up the batch; its result means nothing.
      image_ids: uint32 [B], `data.image_id` of the images' names.
      pool: patches of other images, for explainers that need them.
      key: `jax.random.key`; an explainer folds the image's id and the class into it, so that no
        result depends on the batch, its order or the number of devices.
    """

    images: Array
    targets: SegmentTarget
    valid: Array
    image_ids: Array
    pool: PatchPool | None
    key: jax.Array


class Explainer(Protocol):
    """A frozen pytree dataclass: static fields change the program, numbers are traced."""

    name: ClassVar[str]
    #: Whether it explains the predicted class in the whole image; else the reference in a region.
    whole_image: ClassVar[bool]

    @property
    def needs_pool(self) -> bool:
        """Whether `Batch.pool` must be there."""
        ...

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        ...

    def explain_batch(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> Explanation:
        """Explain a batch, B a multiple of the mesh's size; leaves of the result are [B, ...]."""
        ...


def check_finite(explainer: Any) -> None:
    """Raise `ConfigError` for a setting that is NaN or infinite."""
    for field in dataclasses.fields(explainer):
        value = getattr(explainer, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{explainer.name}.{field.name} is {value}; it must be finite")


def explain_each(
    one: Callable[[Any, jax.Array, SegmentTarget], Explanation],
    shared: Any,
    batch: Batch,
    mesh: Mesh,
    at_a_time: int,
) -> Explanation:
    """`one(shared, image, target)` for every example, the examples split over the mesh.

    Args:
      one: explains an image [H, W, C].
      shared: pytree of what all examples need.
      batch: B a multiple of the mesh's size.
      mesh: from `device_mesh`.
      at_a_time: images that a device looks at together.
    """

    def part(shared: Any, examples: tuple) -> Explanation:
        return jax.lax.map(
            lambda example: one(shared, *example),
            examples,
            batch_size=min(at_a_time, examples[0].shape[0]),
        )

    return shard_examples(part, mesh)(shared, (batch.images, batch.targets))


@functools.partial(jax.jit, static_argnames=("predict", "mesh"))
def explain(
    explainer: Any, variables: Any, batch: Batch, *, predict: Predict, mesh: Mesh
) -> Explanation:
    """Any explainer's `explain_batch`, compiled once per shape and static setting."""
    return explainer.explain_batch(predict, variables, batch, mesh)
