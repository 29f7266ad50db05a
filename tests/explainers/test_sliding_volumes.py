"""Volumes that a network sees patch by patch: few patches against the whole sliding window."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.ate import sliding
from jaxseg_xai.explainers.perturbation.kernel_shap import KernelShap
from jaxseg_xai.explainers.perturbation.occlusion import Occlusion
from jaxseg_xai.ops.sliding import SlidingWindow
from tests.explainers.ate_inputs import make_pool, make_problem, run
from tests.explainers.test_ate_volumes import EXPLAINER, SLOW, smooth, volume_batch

WINDOW = SlidingWindow(network=smooth, patch=(3, 4, 4), axes=(0, 1, 2))
POOL = make_pool(shape=(4, 4, 4, 1))


def whole(variables, volumes):
    """The same, of which nothing is known."""
    return WINDOW(variables, volumes)


@pytest.mark.parametrize(
    "explainer",
    [
        Occlusion(block_size=3, outcome="soft_dice"),
        pytest.param(EXPLAINER, marks=SLOW),
        pytest.param(KernelShap(block_size=4, players="superpixels", num_samples=48), marks=SLOW),
    ],
    ids=lambda explainer: explainer.name,
)
def test_few_patches_say_what_all_of_them_say(explainer, monkeypatch):
    asked = []
    build = sliding.SlidingEngine.build.__func__

    def told(cls, *arguments):
        asked.append(build(cls, *arguments))
        return asked[-1]

    monkeypatch.setattr(sliding.SlidingEngine, "build", classmethod(told))
    few, all_of_them = (
        make_problem(model, POOL, jnp.float32(0.5), rank=3) for model in (WINDOW, whole)
    )
    batch, near = volume_batch(), explainer.in_box(4)
    found, wanted = run(few, batch, near), run(all_of_them, batch, explainer)
    assert asked
    assert all(isinstance(engine, sliding.SlidingEngine) for engine in asked)
    assert found.status.tolist() == [Status.OK, Status.OK]
    assert np.ptp(wanted.attribution) > 0.1
    # Of the whole nothing is known, and blocks that reach nothing are evaluated as well.
    for one in (found, wanted):
        one.scores.pop("num_interventions", None)
    chex.assert_trees_all_close(found, wanted, atol=1e-3)
