"""The U-Net alone: what every explainer spends nearly all of its time in."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.cases import base, checks
from benchmarks.cost import flops_of
from benchmarks.inputs import Pictures, open_model
from benchmarks.machine import peak_memory
from benchmarks.record import Measurement
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from benchmarks.validation import Validation
from jaxseg_xai.devices.mesh import AXIS, replicate, shard_examples


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Logits of a batch of images, split over the devices."""
    bundle = open_model(settings)
    pictures = Pictures(
        settings.size, bundle.card.architecture_config().in_channels, settings.lanes
    )
    images = np.stack([sample.image for sample in pictures])
    variables = replicate(bundle.variables, mesh)
    batch = jax.device_put(images, NamedSharding(mesh, PartitionSpec(AXIS)))
    forward = jax.jit(shard_examples(bundle.predict, mesh))
    compiled, compile_seconds = compile_apart(forward, variables, batch)

    contenders: dict[str, Callable[[], Any]] = {"ours": lambda: compiled(variables, batch)}
    contenders |= _peers(settings, bundle, images)
    timings, results = interleave(contenders, base.pace(settings))
    flops = flops_of(bundle.predict, bundle.variables, images[:1])
    return Measurement(
        compile_seconds=compile_seconds,
        timings=timings,
        work={"forwards": settings.lanes},
        flops=None if flops is None else flops * settings.lanes,
        flops_of="forward passes",
        memory=peak_memory(compiled, mesh),
        ratios=base.ratios(timings, {}),
        validation=_validate(settings, results),
    )


def _peers(settings: Settings, bundle: Any, images: np.ndarray) -> dict[str, Callable[[], Any]]:
    if not settings.peers:
        return {}
    import torch

    from benchmarks.peers.device import finished, tuned_convolutions
    from benchmarks.peers.unet import channels_first, channels_last, class_logits, tuned_copy

    model = base.peer_model(bundle)
    # Images are on the device beforehand, and logits stay there: so they do in ours.
    plain = channels_first(images, model.device)
    last, folded = channels_last(images, model.device), tuned_copy(model)

    def original() -> torch.Tensor:
        with torch.no_grad():
            logits = [class_logits(model(plain[i : i + 1])) for i in range(len(plain))]
        return finished(torch.cat(logits))

    @tuned_convolutions()
    def tuned() -> torch.Tensor:
        with torch.inference_mode():
            return finished(class_logits(folded(last)))

    both = {"original": original, "tuned": tuned}
    return {name: both[name] for name in settings.peers}


def _validate(settings: Settings, results: dict[str, Any]) -> Validation:
    found = {"frozen reference": checks.frozen_logits(settings.dtype)}
    for name in settings.peers:
        logits = results[name].permute(0, 2, 3, 1).cpu().numpy()
        found[name] = checks.compare_logits(results["ours"], logits, settings.dtype, rounded=2)
    return checks.all_of(found)
