"""`jaxseg-xai plan`: what interventions on a model cost, layer by layer."""

import dataclasses

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.models.predict import Pad


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Which windows of a model an intervention computes, and what that saves.

    Attributes:
      model: name of a bundled model (see `jaxseg-xai models`), or a folder with `model.json`.
      height: of the image in pixels.
      width: of the image in pixels.
      block_size: side of the blocks that are intervened on.
      region_side: side of the box in the output that matters.
      num_patches: interventions on one block that are evaluated at once.
      pad: what to do with sizes that the model does not take: "refuse", "edge", "reflect" or
        "constant".
    """

    model: str = "brain"
    height: int = 256
    width: int = 256
    block_size: int = 8
    region_side: int = 32
    num_patches: int = 10
    pad: Pad = "refuse"


def plan_text(config: PlanConfig) -> str:
    """The table that the command prints."""
    for name in ("height", "width", "block_size", "region_side", "num_patches"):
        if (value := getattr(config, name)) < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")
    bundle = load_model(config.model, pad=config.pad)
    channels = bundle.card.architecture_config().in_channels
    plan = make_plan(
        bundle.predict,
        bundle.variables,
        (config.height, config.width, channels),
        block=(config.block_size, config.block_size),
        region=(config.region_side, config.region_side),
        num_patches=config.num_patches,
    )
    return str(plan)
