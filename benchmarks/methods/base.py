"""What a case is, and what several cases need."""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from benchmarks.record import Measurement, Timing
from benchmarks.settings import Defaults, Settings
from benchmarks.timing import Pace
from jaxseg_xai.core.errors import ConfigError, MissingExtraError
from jaxseg_xai.models.bundle import Bundle


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure.

    Attributes:
      name: on the command line.
      about: one line.
      defaults: settings where a flag is left out.
      quick: the same with --quick.
      run: measures and validates it on the devices of a mesh.
      has_peers: whether there is PyTorch code that does the same work.
      split_lanes: whether images are dealt out to the devices, so that their number must divide.
      all_devices: whether it always uses every device of this process.
    """

    name: str
    about: str
    defaults: Defaults
    quick: Defaults
    run: Callable[[Settings, Mesh], Measurement]
    has_peers: bool = True
    split_lanes: bool = True
    all_devices: bool = False

    def check(self, settings: Settings) -> None:
        """Raise `ConfigError` or `MissingExtraError` for settings that the case cannot have."""
        if settings.peer in ("original", "tuned") and not self.has_peers:
            raise ConfigError(f"case {self.name} has no PyTorch peer; use --peer none")
        if self.all_devices and settings.devices != jax.local_device_count():
            raise ConfigError(
                f"case {self.name} uses all {jax.local_device_count()} devices; leave out --devices"
            )
        if settings.peers and self.has_peers:
            if importlib.util.find_spec("torch") is None:
                raise MissingExtraError(f"--peer {settings.peer}", "peers")
            from benchmarks.peers.device import torch_device  # PyTorch only where it is needed

            if torch_device().type != "cpu" and settings.devices > 1:
                raise ConfigError(
                    f"the PyTorch peers run on one GPU, and ours would on {settings.devices}: add "
                    "--devices 1, or use --peer none"
                )


def peer_model(bundle: Bundle) -> Any:
    """The bundle's model in PyTorch, on the device and in the dtype of ours."""
    from benchmarks.peers.device import place
    from benchmarks.peers.unet import torch_unet

    model = torch_unet(bundle.card.architecture_config(), bundle.variables)
    return place(model, bundle.predict.dtype)


def pace(settings: Settings) -> Pace:
    """How often and for how long everyone runs."""
    if settings.quick:
        return Pace(repetitions=settings.repetitions, slow_seconds=8.0)
    return Pace(repetitions=settings.repetitions, short_seconds=1.0, slow_seconds=60.0)


def ratios(timings: dict[str, Timing], scale: dict[str, float]) -> dict[str, float]:
    """Median time of each peer over ours on the same work.

    Args:
      timings: of everyone.
      scale: peer -> the work over the part of it that the peer did, where it did not do all.
    """
    return {
        name: timing.median * scale.get(name, 1.0) / timings["ours"].median
        for name, timing in timings.items()
        if not name.startswith("ours")
    }
