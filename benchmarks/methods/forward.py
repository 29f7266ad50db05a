"""The U-Net alone: what every explainer spends nearly all of its time in."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.agree.frozen import compare_logits, frozen_logits
from benchmarks.agree.verdict import all_of
from benchmarks.harness.machine import flops_of, peak_memory
from benchmarks.harness.record import Measurement
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import compile_apart, interleave
from benchmarks.methods.base import Case, asked_peers, pace, peer_model, ratios
from benchmarks.methods.inputs import Pictures, channels_of, open_model
from jaxseg_xai.devices.mesh import AXIS, replicate, shard_examples
from jaxseg_xai.models import Bundle


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardCase(Case):
    """Logits of a batch of images, split over the devices."""

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        bundle = open_model(settings)
        pictures = Pictures(settings.size, channels_of(bundle), settings.lanes)
        images = np.stack([pictures[i].image for i in range(settings.lanes)])
        variables = replicate(bundle.variables, mesh)
        batch = jax.device_put(images, NamedSharding(mesh, PartitionSpec(AXIS)))
        forward = jax.jit(shard_examples(bundle.segmenter, mesh))
        compiled, compile_seconds = compile_apart(forward, variables, batch)

        contenders: dict[str, Callable[[], Any]] = {"ours": lambda: compiled(variables, batch)}
        contenders |= _peers(settings, bundle, images)
        timings, results = interleave(contenders, pace(settings))
        flops = flops_of(bundle.segmenter, bundle.variables, images[:1])
        verdicts = {"frozen reference": frozen_logits(settings.dtype)}
        for name in settings.peers:
            logits = results[name].permute(0, 2, 3, 1).cpu().numpy()
            verdicts[name] = compare_logits(results["ours"], logits, settings.dtype, rounded=2)
        return Measurement(
            compile_seconds=compile_seconds,
            timings=timings,
            work={"forwards": settings.lanes},
            flops=None if flops is None else flops * settings.lanes,
            flops_of="forward passes",
            memory=peak_memory(compiled, mesh),
            ratios=ratios(timings, {}),
            validation=all_of(verdicts),
        )


def _peers(settings: Settings, bundle: Bundle, images: np.ndarray) -> dict[str, Callable[[], Any]]:
    if not settings.peers:
        return {}
    import torch

    from benchmarks.peers.running import finished, tuned_convolutions
    from benchmarks.peers.unet import channels_first, channels_last, class_logits

    model = peer_model(bundle)
    # Images are on the device beforehand, and logits stay there: so they do in ours.
    plain, last = (to(images, model.device) for to in (channels_first, channels_last))

    def original() -> torch.Tensor:
        with torch.no_grad():
            logits = [class_logits(model(plain[i : i + 1])) for i in range(len(plain))]
        return finished(torch.cat(logits))

    @tuned_convolutions()
    def at_once(fast: Any) -> torch.Tensor:
        with torch.inference_mode():
            return finished(class_logits(fast(last)))

    return asked_peers(settings, model, original, at_once)


FORWARD = ForwardCase(
    name="unet-forward",
    about="logits of a batch of images",
    compiles=True,
    defaults=Settings(model="reference", size=256, lanes=16),
    quick=Settings(model="reference", size=128, lanes=8),
)
