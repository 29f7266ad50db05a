"""The contract of an explanation method, and what it is given and gives back.

A method is one file: a frozen dataclass derived from `Explainer`, registered as a pytree, with a
name, a `meta` and `explain_one`; and one line in `explainers/__init__.py`. What all methods need
(batches, memory, devices, keys, prediction, status, NaN) is the runner's.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import jax
from jax.sharding import Mesh

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Array, Explanation, SegmentTarget
from jaxseg_xai.ops.padding import own_pixels
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.outcomes import get_outcome

Need = Literal["gradient", "patches", "others"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meta:
    """What everybody else may know of a method; figures and tables go by it, never by a name.

    Attributes:
      target: what is explained by itself: "prediction", the model's own segment in the whole image,
        or "reference", the class in a region, against the ground truth where there is one.
      figure: kind of picture: "heat" (a map over the image), "effects" (signed effects of blocks),
        "regions" (nested regions), "uncertainty" or "parts" (of the network).
      unit: of the attribution; "{outcome}" stands for the unit of the setting `outcome`.
      signed: whether the attribution has two signs.
      high: what a high attribution says of a pixel: it speaks "for" the segment, "against" it (an
        effect of replacing the pixel), or "neither" (uncertainty); metrics go by it.
      needs: "gradient" of the model, "patches" of other images, "others": whole other images.
      note: how to read the map, one sentence or two for a person; "{outcome}" stands for the
        outcome in words.
      caption: a line about the scores, a format string of their names: "Dice {dice_minimal:.2f}".
        Where no score has these names, "{outcome}" is the outcome in words and "{unit}" the unit.
      titles: "attribution" or name of a map -> title of its panel, where its name does not do.
      scores: name -> meaning and unit, of the scores.
      counts_beside: of a method without the setting `outcome`, whether what is segmented beside the
        reference counts, see `jaxseg_xai.outcomes.Outcome`.
      features: whether the scores describe a whole predicted segment, so that reliability may learn
        from them.
      sureness: scores that tell by themselves how sure the model is -> 1 where they rise with its
        confidence, -1 where they fall.
      revision: raised when the same settings give other numbers than before.
    """

    target: Literal["prediction", "reference"] = "prediction"
    figure: Literal["heat", "effects", "regions", "uncertainty", "parts"] = "heat"
    unit: str
    signed: bool
    high: Literal["for", "against", "neither"] = "for"
    needs: frozenset[Need] = frozenset()
    note: str = ""
    caption: str = ""
    titles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, str] = dataclasses.field(default_factory=dict)
    counts_beside: bool = False
    features: bool = False
    sureness: Mapping[str, int] = dataclasses.field(default_factory=dict)
    revision: int = 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What all examples share.

    Attributes:
      segmenter: the model.
      variables: its weights.
      key: from `ops.random.make_key`; what is drawn for an image folds its id and class into it.
      pool: patches of other images, for methods that need them.
    """

    segmenter: Segmenter = dataclasses.field(metadata={"static": True})
    variables: Any
    key: jax.Array
    pool: PatchPool | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples to explain at once.

    Attributes:
      images: float32 [B, *S, C], prepared for the model.
      targets: [B, ...].
      image_ids: uint32 [B, 2], `ops.random.image_id` of the images' names.
      valid: bool [B], False where an example only fills up the batch; its result means nothing.
      others: float32 [B, N, *S, C], other images for each, for methods that need them; or None.
      groups: uint32 [B, 2], `image_id` of what each image belongs to (a volume, a patient), whose
        patches it does not draw; None: each to itself.
      sizes: int32 [B, rank], of the images themselves, where what lies past them along each axis is
        padding; None where there is none.
    """

    images: Array
    targets: SegmentTarget
    image_ids: Array
    valid: Array
    others: Array | None = None
    groups: Array | None = None
    sizes: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One image and what is explained in it.

    Attributes:
      image: float32 [*S, C], prepared for the model.
      target: class, region and reference, leaves [*S].
      image_id: uint32 [2].
      key: the problem's, with the image's id and the class folded in.
      logits: float32 [*S, K] of the image.
      others: float32 [N, *S, C], or None.
      group: uint32 [2], of what the image belongs to; None: to itself.
      size: int32 [rank], of the image without its padding; None where it has none.
    """

    image: jax.Array
    target: SegmentTarget
    image_id: jax.Array
    key: jax.Array
    logits: jax.Array
    others: jax.Array | None = None
    group: jax.Array | None = None
    size: jax.Array | None = None

    @property
    def own(self) -> jax.Array | bool:
        """Which pixels are the image's own, bool [*S, 1]; True where there is no padding."""
        if self.size is None:
            return True
        return own_pixels(self.size, self.image.shape[:-1])[..., None]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What a method finds; the runner makes an `Explanation` of it.

    Attributes:
      attribution: float32 [*S]; None of a method that explains no pixels.
      scores: name -> float32 [].
      maps: name -> [*S].
      traces: name -> float32 [T].
      finite: bool [], whether everything behind it is, where its own values do not tell; or None.
      status: int32 [], instead of OK where the method has something to say; or None.
      logits: of the image, where the method computes them anyway; or None.
    """

    attribution: jax.Array | None
    scores: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    maps: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    traces: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    finite: jax.Array | None = None
    status: jax.Array | None = None
    logits: jax.Array | None = None


class Explainer:
    """Base of all methods: a frozen pytree dataclass of settings (`core.fields.setting`).

    Static settings change the program, numbers are traced. A subclass has `explain_one`, or, where
    one example at a time would be slow, an `explain_batch` of its own.
    """

    name: ClassVar[str]
    meta: ClassVar[Meta]
    #: Whether `explain_batch` may be traced; else it compiles what it needs by itself.
    traceable: ClassVar[bool] = True
    #: Settings of volumes that stand in the place of the defaults, where nobody says another value.
    in_volumes: ClassVar[Mapping[str, Any]] = {}
    #: How many other images each example needs; a setting of methods that need "others".
    num_others: int = 0

    @property
    def needs(self) -> frozenset[Need]:
        """What must be there, with these settings."""
        return self.meta.needs

    @property
    def counts_beside(self) -> bool:
        """Whether what is segmented in the region beside the reference counts, as with Dice."""
        outcome = getattr(self, "outcome", "")
        return get_outcome(outcome).counts_beside if outcome else self.meta.counts_beside

    @property
    def block_side(self) -> int:
        """Side of the blocks into which it divides an image, in pixels; 1 where it does not."""
        return getattr(self, "block_size", 1)

    @property
    def patch_side(self) -> int:
        """Side of the patches that it draws, in pixels; asked where "patches" are needed."""
        return self.block_side

    def in_box(self, side: int) -> Self:
        """The same for regions that fit into a box of a side; faster for those that can use it."""
        del side
        return self

    def num_passes(self, shape: tuple[int, ...]) -> int | None:
        """Forward passes of one explanation at most; a gradient counts as three.

        None where it cannot be said, or where windows make passes of them that are no whole ones.

        Args:
          shape: (*S, C) of the image.
        """
        del shape
        return None

    def window_share(
        self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]
    ) -> float | None:
        """FLOPs of one of the passes of `num_passes` over those of a whole one, in (0, 1].

        1 where windows save nothing of this model; None, as here, where the method has none.

        Args:
          segmenter: the model.
          variables: its weights, or their shapes.
          shape: (*S, C) of the image.
        """
        del segmenter, variables, shape
        return None

    def check_model(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> None:
        """Raise `JaxsegError` for settings that do not fit the model, before anything is computed.

        Args:
          segmenter: the model.
          variables: its weights, or their shapes.
          shape: (*S, C) of an image that the model takes.
        """

    def describe(
        self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]
    ) -> dict[str, Any]:
        """What a reader of the results must know beside them, as JSON values (names of parts)."""
        del segmenter, variables, shape
        return {}

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """Explain one example; traced, vmapped, and never given a batch."""
        raise NotImplementedError(f"{type(self).__name__} needs explain_one, or its own batch")

    def explain_batch(self, problem: Problem, batch: Batch, mesh: Mesh) -> Explanation | None:
        """Explain a batch, B a multiple of the mesh's size; leaves of the result are [B, ...].

        None, as here, leaves it to the runner, which explains one example after the other.
        """
        del problem, batch, mesh
        return None
