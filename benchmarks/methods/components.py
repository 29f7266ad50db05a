"""The ATE of a network's parts: layers, their channels, skip connections."""

import dataclasses
from typing import Any

import jax
import numpy as np

from benchmarks.agree.components import every
from benchmarks.arrays import Arrays
from benchmarks.harness.machine import flops_of
from benchmarks.harness.record import PeerSample, Row
from benchmarks.harness.settings import Settings
from benchmarks.methods.base import MethodCase, Prepared, Ran, fewer_flops, peer_model
from benchmarks.methods.inputs import choose_images, inputs_of
from jaxseg_xai.explainers.parts.components import ComponentAte
from jaxseg_xai.explainers.parts.effects import read_by
from jaxseg_xai.models import Bundle

#: Images whose activations are put in, for each.
_NUM_OTHERS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComponentCase(MethodCase):
    """Exact and first-order effects of all parts on `lanes` images."""

    split_lanes: bool = False

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        count = settings.lanes
        chosen, classes = choose_images(bundle, settings, count * (1 + _NUM_OTHERS))
        images, others = chosen[:count], chosen[count:]
        whole = np.ones(images.shape[:3], bool)
        inputs = inputs_of(bundle, images, classes[:count], explainer, whole)
        others = others.reshape(count, _NUM_OTHERS, *images.shape[1:])
        if settings.peers:  # these refuse some models: before anything has run
            from benchmarks.peers.components import find_sites

            find_sites(peer_model(bundle))
        return {"ours": (explainer, inputs.replace(others=others, every=every()))}

    def figures(self, ran: Ran) -> dict[str, Any]:
        count, parts = len(ran.main.inputs.images), np.shape(ran.found.traces["ate"])[1]
        samples, looks = {}, 1 + _NUM_OTHERS  # everyone looks at the image and the others, besides
        for name, found in ran.peers.items():
            done = int(found["asked"][0].sum())
            samples[name] = PeerSample(
                what=f"{done} of {parts} parts, without first order",
                scale=(parts * _NUM_OTHERS + looks) / (done * _NUM_OTHERS + looks),
            )
        flops, table = _flops(ran)
        return {
            "work": {
                "explanations": float(count),
                "interventions": float(count * parts * _NUM_OTHERS),
            },
            "flops": None if flops is None else flops * count,
            "flops_of": "the layers after each intervention",
            "peer_sample": samples,
            "series": {"flops": table},
        }

    def compared_results(self, ran: Ran) -> tuple[Any, dict[str, Arrays]]:
        """With the effects of first order."""
        if not ran.peers:
            return ran.found, {}
        from benchmarks.peers.components import first_order

        slopes = {"first_order": first_order(peer_model(ran.main.bundle), ran.main.inputs)}
        return ran.found, {name: found | slopes for name, found in ran.peers.items()}


def _flops(ran: Ran) -> tuple[float | None, list[Row]]:
    """Of all interventions on an image; what they save on average, as the peers save nothing."""
    bundle, images = ran.main.bundle, ran.main.inputs.images
    forward = flops_of(bundle.segmenter, bundle.variables, images[:1])
    if forward is None:
        return None, []
    program, sites = ran.main.explainer.find(bundle.segmenter, bundle.variables, images.shape[1:])
    weights = dict(zip(program.variables, jax.tree.leaves(bundle.variables), strict=True))
    total, count = 0.0, 0
    for site in sites:

        def after(weights: Any, values: Any, put: Any, site: Any = site) -> jax.Array:
            return site.run_from(program, weights | values, put)

        values = {value: program.shapes[value] for value in read_by(program, site)}
        # After the head XLA counts none.
        each = flops_of(after, weights, values, program.shapes[site.value]) or 0.0
        times = _NUM_OTHERS * (1 if site.kind == "skip" else site.num_channels + 1)
        total, count = total + each * times, count + times
    return total, [fewer_flops(forward, total / count)]


COMPONENTS = ComponentCase(
    name="components",
    about="the ATE of a network's layers, channels and skip connections",
    defaults=Settings(model="reference", size=128, lanes=1),
    quick=Settings(model="triangle", size=64, lanes=1),
    # The soft Dice, which rounding does not flip.
    explainer=ComponentAte(outcome="soft_dice", num_others=_NUM_OTHERS),
    references=("components",),
)
