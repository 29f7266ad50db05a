"""What can be set about a case, and what each case takes where nothing is said."""

import dataclasses
from typing import Annotated, Any, Literal

import tyro

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check, setting
from jaxseg_xai.core.segmenter import Dtype

Peer = Literal["none", "original", "tuned", "all", "compiled", "graphs", "autotuned"]
#: Peer that is the tuned one through `torch.compile` -> its mode.
COMPILED = {"compiled": "default", "graphs": "reduce-overhead", "autotuned": "max-autotune"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Settings of `run`; a case has its own defaults for what is left out.

    Attributes:
      model: a bundled model (triangle, brain, ...), a model folder, `reference` (the U-Net of width
        16 in tests/reference), `random` (a U-Net of --width with random weights), an architecture
        (with random weights), or `torch:NAME`, a network of benchmarks/agree/torch_nets.py or
        published_nets.py (with --peer original only: what is tuned is the U-Net).
      size: side of the images in pixels.
      width: of the random U-Net.
      lanes: images at a time, over all devices.
      blocks: of the ATE, at most so many of each image, evenly spaced; a large number means all.
      devices: how many; all where left out. On CPUs, one per core and virtual beyond.
      dtype: what the model computes in.
      peer: PyTorch code to time and compare with in the same run: as published, tuned, or both
        (all); or tuned and also compiled by `torch.compile`: as it is by default (compiled), with
        CUDA graphs (graphs), or with kernels that are tried out (autotuned).
      quick: less work, for a look within a minute; not for figures to publish.
      repetitions: timed repetitions of ours, and of each peer that is not too slow.
    """

    model: str | None = None
    size: int | None = setting(None, at_least=1)
    width: int | None = setting(None, at_least=1)
    lanes: int | None = setting(None, at_least=1)
    blocks: int | None = setting(None, at_least=1)
    devices: int | None = setting(None, at_least=1)
    dtype: Dtype = "float32"
    peer: Peer = "none"
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    repetitions: int = setting(5, at_least=1)

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        check(self)
        if self.width is not None and self.model not in (None, "random"):
            raise ConfigError(f"--width is for --model random, not for {self.model}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Flags):
    """All of a case; as its defaults, `width` is that of the random model.

    Else it is None where the model has its own.
    """

    model: str = ""
    size: int = 0
    lanes: int = 0
    width: int | None = 16
    devices: int = 1

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the peers to time."""
        if self.peer in COMPILED:
            return ("tuned", self.peer)
        return {"none": (), "all": ("original", "tuned")}.get(self.peer, (self.peer,))


def resolve(
    flags: Flags, defaults: Settings, num_devices: int, *, split_lanes: bool = True
) -> Settings:
    """Fill in the defaults of a case on a machine of so many devices.

    With `split_lanes` the images are dealt out to the devices, equally many to each.
    """
    flags.validate()
    given = {f.name: getattr(flags, f.name) for f in dataclasses.fields(Flags)}
    chosen: dict[str, Any] = {"devices": num_devices}
    chosen |= {name: value for name, value in given.items() if value is not None}
    if flags.width is not None:
        chosen["model"] = "random"
    found = dataclasses.replace(defaults, **chosen)
    if found.devices > num_devices:
        raise ConfigError(f"--devices is {found.devices}; there are {num_devices}")
    lanes = found.lanes
    if split_lanes and lanes % found.devices:
        # Asked for lanes are kept to; defaults are for any number of devices.
        if flags.lanes is not None:
            raise ConfigError(
                f"--lanes is {lanes}; make it a multiple of the {found.devices} devices"
            )
        lanes = -(-lanes // found.devices) * found.devices
    width = found.width if found.model == "random" else None
    return dataclasses.replace(found, lanes=lanes, width=width)
