"""PdCR's ATE: hundreds of blocks, up to 53 interventions on each, hard outcomes."""

import dataclasses
from typing import Any

import jax
import numpy as np

from benchmarks.agree.kind import Kind, Ours
from benchmarks.arrays import Arrays, Inputs, even
from benchmarks.harness.record import PeerSample
from benchmarks.harness.settings import Settings
from benchmarks.methods.base import MethodCase, Prepared, Ran, fewer_flops
from benchmarks.methods.inputs import BOX_SIDE, channels_of, choose_images, inputs_of, make_pool
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.incremental import Plan, make_plan
from jaxseg_xai.models import Bundle
from jaxseg_xai.ops.blocks import any_in_block
from jaxseg_xai.ops.replacements import Draws


@dataclasses.dataclass(frozen=True, kw_only=True)
class AteCase(MethodCase):
    """Blocks of `lanes` images; the peers do a sample of those of the first.

    Attributes:
      peer_blocks: how many, evenly spaced; one that passes the screening costs 53 forward passes.
    """

    peer_blocks: int = 8
    split_lanes: bool = False  # it is the interventions that are dealt out
    flops_of: str = (
        "convolutions and products in the windows of every intervention, and a forward pass per "
        "image"
    )

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        images, classes = choose_images(bundle, settings, settings.lanes)
        inputs = inputs_of(bundle, images, classes, explainer)
        inputs = pooled(settings, bundle, inputs, explainer)
        blocks = [even(one, settings.blocks or one.size) for one in outside(inputs, explainer)]
        return {"ours": (explainer, inputs.replace(blocks=np.array(blocks)))}

    def peer_inputs(self, ours: Ours) -> tuple[Inputs, Inputs]:
        first = ours.inputs.one(0)
        sample = first.replace(blocks=even(first.blocks, self.peer_blocks))
        return sample, sample

    def figures(self, ran: Ran) -> dict[str, Any]:
        settings, ours = ran.settings, ran.main
        blocks = ours.inputs.blocks
        made = np.asarray(ran.found.scores["num_interventions"])
        explainer = ours.explainer
        plan = plan_of(ours.bundle, settings.size, explainer.block_size, explainer.region_side)
        work = {"interventions": float(made.sum()), "blocks": float(blocks.sum())}
        if (blocks == outside(ours.inputs, ours.explainer)).all():
            work["explanations"] = float(settings.lanes)
        passes, samples = _forward_passes(ours, plan, blocks, made), {}
        for name, found in ran.peers.items():
            some = int(self.peer_inputs(ours)[0].blocks.sum())
            samples[name] = PeerSample(
                what=f"{'all' if name == 'captum' else f'{some} evenly spaced'} blocks of the "
                f"first image; ours {int(blocks.sum())}, and the peer's time is scaled by the "
                "forward passes it would make for them",
                scale=passes / float(found["num_interventions"].sum()),
            )
        return {
            "work": work,
            "flops": float(plan.flops * work["interventions"] + plan.dense_flops * settings.lanes),
            "flops_of": self.flops_of,
            "peer_sample": samples,
            "series": {"flops": [fewer_flops(plan.dense_flops, plan.flops)]},
        }

    def compared_results(self, ran: Ran) -> tuple[Any, dict[str, Arrays]]:
        """Ours on the blocks that the peers did."""
        if not ran.peers:
            return ran.found, {}
        blocks = np.zeros_like(ran.main.inputs.blocks)
        blocks[:1] = self.peer_inputs(ran.main)[0].blocks
        inputs = ran.main.inputs.replace(blocks=blocks)
        return ran.main.compiled(*ran.main.placed(inputs)), ran.peers


def pooled(settings: Settings, bundle: Bundle, inputs: Inputs, explainer: Ate) -> Inputs:
    """With a pool of 1000 patches, and the method's draws from it."""
    pool = make_pool(bundle, settings, explainer.block_size)
    return drawn(bundle, inputs.replace(pool=pool), explainer)


def drawn(bundle: Bundle, inputs: Inputs, explainer: Ate) -> Inputs:
    """With the method's draws."""
    _, problem, batch = Kind().arguments(explainer, bundle, inputs, device_mesh(jax.devices()[:1]))
    draws = explainer.draw(problem, batch)
    return inputs.replace(draws=Draws(*(np.array(part) for part in draws)))  # PyTorch wants copies


def outside(inputs: Inputs, explainer: Ate) -> np.ndarray:
    """Blocks that do not touch the region, bool [N, rows, columns]."""
    return np.stack([~any_in_block(r, explainer.block_size) for r in inputs.targets.region])


def plan_of(bundle: Bundle, size: int, block_size: int, box: int) -> Plan:
    """What an intervention on a block costs, seen through a box of a side."""
    rank = bundle.segmenter.input.rank
    block, region = (block_size,) * rank, (box,) * rank
    shape = (*(size,) * rank, channels_of(bundle))
    model = (bundle.segmenter, bundle.variables)
    return make_plan(*model, shape, block=block, region=region, num_patches=1)


def _forward_passes(ours: Ours, plan: Plan, blocks: np.ndarray, made: np.ndarray) -> float:
    """Forward passes of the published algorithm where we made `made` [N] interventions.

    It also looks at the blocks that cannot reach the region, and that cost us nothing.
    """
    draws, total = ours.inputs.draws, float(made.sum())
    each = draws.screen.shape[-1] or draws.full.shape[-1]
    for region, wanted in zip(ours.inputs.targets.region, blocks, strict=True):
        reached = np.array(True)
        for reaches, first in zip(plan.reaches.values(), np.argwhere(region).min(0), strict=True):
            reached = reached[..., None] & reaches[:, first]
        total += each * np.sum(wanted & ~reached)
    return total


_EXPLAINER = Ate(region_side=BOX_SIDE)

ATE = AteCase(
    name="ate",
    about="PdCR's ATE of 8x8 blocks on a region of side 32",
    compiles=True,
    defaults=Settings(model="reference", size=256, lanes=1, blocks=256),
    quick=Settings(model="reference", size=128, lanes=1, blocks=8),
    explainer=_EXPLAINER,
    references=("ate",),
)
ATE_512 = dataclasses.replace(
    ATE,
    name="ate-512",
    about="the same on images four times as large",
    defaults=dataclasses.replace(ATE.defaults, size=512),
    quick=Settings(model="random", size=512, lanes=1, width=4, blocks=8),
)
ATE_WIDE = dataclasses.replace(
    ATE,
    name="ate-wide",
    about="the same with a U-Net of width 64",
    defaults=Settings(model="random", size=256, lanes=1, width=64, blocks=32),
    quick=Settings(model="random", size=128, lanes=1, width=32, blocks=4),
)
OCCLUSION = dataclasses.replace(
    ATE,
    name="occlusion",
    about="occlusion: all 8x8 blocks replaced by 0, once each",
    defaults=Settings(model="reference", size=256, lanes=1),
    quick=Settings(model="reference", size=128, lanes=1),
    explainer=dataclasses.replace(_EXPLAINER, perturbation="zero"),
    references=("occlusion",),
    peer_blocks=256,
    captum="occlusion",
)
