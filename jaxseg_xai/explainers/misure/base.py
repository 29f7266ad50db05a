"""Settings and entry points that all forms of MiSuRe have in common."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, Predict, SegmentTarget
from jaxseg_xai.devices.lanes import LaneUse
from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.explainers.base import Batch, check_finite
from jaxseg_xai.explainers.misure.stages import explain_jobs
from jaxseg_xai.explainers.misure.windows import plan_windows
from jaxseg_xai.program.memory import forward_lanes, gradients_that_fit

#: Dilating is a few operations a pixel of the element.
_LARGEST_ELEMENT = 63


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MisureBase:
    """Stage 1 and how jobs go through both stages; a subclass is a `Stage2`.

    Attributes:
      tau: hard Dice at which a region is sufficient, in (0, 1].
      learning_rate: of stage 2.
      max_dilations: stage 1 gives up after so many.
      num_iterations: steps of stage 2, at most.
      element_size: side of the elliptical structuring element, in pixels, odd.
      lanes: images that a device works on at a time, each replaced as soon as it is done; None fits
        its memory (on CPU: two). It changes results by rounding, which a search can amplify.
      windows: sides in pixels of the square windows that may be looked through, where they hold the
        mask: exact up to rounding, and cheaper. Those that save little for the model are left out.
        None chooses them for large images, () has none.
      region_side: every region fits into a box of this side, so that windows need not show what the
        model makes of the rest of the image: cheaper still. None if nothing is known of the
        regions. Where one is larger the whole image is looked at.
    """

    name: ClassVar[str]
    whole_image: ClassVar[bool] = True
    tau: float = 0.9
    learning_rate: float = 0.01
    max_dilations: int = dataclasses.field(default=64, metadata={"static": True})
    num_iterations: int = dataclasses.field(default=100, metadata={"static": True})
    element_size: int = dataclasses.field(default=7, metadata={"static": True})
    lanes: int | None = dataclasses.field(default=None, metadata={"static": True})
    windows: tuple[int, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    region_side: int | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def needs_pool(self) -> bool:
        """No: zero is the baseline."""
        return False

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        check_finite(self)
        if not 0 < self.tau <= 1:
            raise ConfigError(f"{self.name}.tau is {self.tau}; it must be in (0, 1]")
        if not 1 <= self.element_size <= _LARGEST_ELEMENT or self.element_size % 2 == 0:
            raise ConfigError(
                f"{self.name}.element_size is {self.element_size}; it must be odd, at most "
                f"{_LARGEST_ELEMENT}"
            )
        if not self.learning_rate > 0:
            raise ConfigError(
                f"{self.name}.learning_rate is {self.learning_rate}; it must be positive"
            )
        for name in ("max_dilations", "num_iterations", "lanes", "region_side"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{self.name}.{name} is {value}; it must be at least 1")
        if any(side < 1 for side in self.windows or ()):
            raise ConfigError(f"{self.name}.windows is {self.windows}; sides are at least 1")
        if self.max_dilations > 10_000:
            raise ConfigError(f"{self.name}.max_dilations is {self.max_dilations}; at most 10000")

    def explain(
        self, predict: Predict, variables: Any, image: jax.Array, target: SegmentTarget
    ) -> Explanation:
        """Both stages for one image and class, without windows.

        For many, `explain_batch` keeps all devices busy.

        Args:
          predict: the model.
          variables: its weights.
          image: float32 [H, W, C], normalised; 0 is the baseline.
          target: class c and region; its `reference` is not used.

        Returns:
          Attribution [H, W] in [0, 1]; maps `sufficient_region`, `minimal_region` (attribution
          above 0.5), `prediction` and `masked_prediction` (what the model segments from the masked
          input); scores; traces `dice` (per dilation) and those of stage 2. Status EMPTY_TARGET,
          EMPTY_REGION or NON_FINITE come with maps of zeros, NOT_REACHED with the result from the
          last dilation.
        """
        images, targets = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (image, target))
        found, _ = explain_jobs(
            self._search(), predict, variables, images, targets, jnp.ones(1, bool), lanes=(1, 1)
        )
        return jax.tree.map(lambda leaf: leaf[0], found)

    def explain_batch(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> Explanation:
        """`explain` for every example of a batch, the examples split over the mesh."""
        return self.explain_batch_counting(predict, variables, batch, mesh)[0]

    def explain_batch_counting(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> tuple[Explanation, LaneUse]:
        """As `explain_batch`; also how busy the lanes of stage 2 were, int32 [devices]."""
        shape = batch.images.shape[1:]
        device = mesh.devices.flat[0]
        num_lanes = self.lanes or gradients_that_fit(device, predict, variables, shape)
        lanes = (forward_lanes(device, num_lanes), num_lanes)
        crops = plan_windows(predict, variables, shape, self.windows, self.region_side)

        def part(shared: tuple, examples: tuple) -> tuple[Explanation, LaneUse]:
            explainer, variables = shared
            search = explainer._search()
            found, use = explain_jobs(
                search, predict, variables, *examples, lanes=lanes, crops=crops
            )
            return found, jax.tree.map(lambda count: count[None], use)

        examples = (batch.images, batch.targets, batch.valid)
        return shard_examples(part, mesh)((self, variables), examples)

    def _search(self) -> Any:
        """Itself: a subclass is a `Stage2`."""
        return self
