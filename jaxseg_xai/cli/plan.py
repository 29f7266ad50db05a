"""`jaxseg-xai plan`: what interventions on a model cost, layer by layer."""

import dataclasses
from typing import Any

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check, setting
from jaxseg_xai.core.input_spec import Pad
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.incremental.reads import kept_bytes
from jaxseg_xai.incremental.sliding import make_sliding_plan, slides
from jaxseg_xai.models import load_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Which windows of a model an intervention computes, and what that saves.

    Attributes:
      model: name of a bundled model (see `jaxseg-xai models`), or a folder with `model.json`.
      depth: of the volume, where the model takes volumes.
      height: of the image in pixels.
      width: of the image in pixels.
      block_size: side of the blocks that are intervened on.
      region_side: side of the box in the output that matters.
      num_patches: interventions on one block that are evaluated at once.
      pad: what to do with sizes that the model does not take: "refuse", or pad to the next one that
        it takes ("edge", "reflect", "constant"); None: what the model's card says.
    """

    model: str = "brain"
    depth: int = setting(256, at_least=1)
    height: int = setting(256, at_least=1)
    width: int = setting(256, at_least=1)
    block_size: int = setting(8, at_least=1)
    region_side: int = setting(32, at_least=1)
    num_patches: int = setting(10, at_least=1)
    pad: Pad | None = None


def plan_text(config: PlanConfig) -> str:
    """The table that the command prints."""
    check(config)
    bundle = load_model(config.model, pad=config.pad)
    spec = bundle.segmenter.input
    size = (config.depth, config.height, config.width)[-spec.rank :]
    taken = tuple(n + -n % spec.multiple_of for n in size)
    if spec.pad == "refuse" and taken != size:
        raise ConfigError(
            f"{'x'.join(map(str, size))} is not a multiple of the model's stride "
            f"{spec.multiple_of}; set pad to edge, reflect or constant"
        )
    given: Any = (bundle.segmenter, bundle.variables, (*taken, spec.channels))
    sides: Any = {
        "block": (config.block_size,) * spec.rank,
        "region": (config.region_side,) * spec.rank,
        "num_patches": config.num_patches,
    }
    if slides(bundle.segmenter):
        plan = make_sliding_plan(*given, **sides)
        kept = plan.kept_bytes
    else:
        plan = make_plan(*given, **sides)
        kept = kept_bytes(plan)
    return (
        f"{plan}\nActivations that are kept, for windows to be filled up from: "
        f"{kept / 2**20:.3g} MiB."
    )


def run(config: PlanConfig, command: str) -> int:
    """Print the table."""
    del command
    print(plan_text(config))
    return EXIT_OK


COMMAND = Command(
    config=PlanConfig,
    run=run,
    example="jaxseg-xai plan --model brain --height 192 --width 192 --block-size 8 "
    "--region-side 32",
)
