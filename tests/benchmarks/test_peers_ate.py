import dataclasses

import numpy as np
import pytest

from benchmarks.agree.ate import TOLERANCE
from benchmarks.agree.frozen import REFERENCE
from benchmarks.agree.published import pdcr_triangle
from benchmarks.peers.pdcr import original, tuned
from benchmarks.peers.unet import torch_unet, tuned_copy
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.models import load_model
from jaxseg_xai.ops.replacements import Draws
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
both = pytest.mark.parametrize("explain", [original, tuned])


@pytest.fixture(scope="module")
def models():
    bundle = load_model(REFERENCE)
    model = torch_unet(bundle.card.architecture_config(), bundle.variables)
    return {original: model, tuned: tuned_copy(model)}


@pytest.fixture(scope="module")
def reference():
    """Triangle 3, the published function's draws, and what it found."""
    return pdcr_triangle(3)


def some_blocks(reference, num_passing, num_screened):
    """Evenly spaced blocks of both kinds, and how many interventions they take."""
    passing, blocks = reference.result["ate"] != 0, np.zeros((1, 16, 16), bool)
    visited = reference.inputs.blocks
    for kind, count in ((visited & passing, num_passing), (visited & ~passing, num_screened)):
        places = np.argwhere(kind)
        chosen = places[np.linspace(0, len(places) - 1, count).astype(int)]
        blocks[tuple(chosen.T)] = True
    return blocks


@both
def test_equals_the_published_function(reference, models, explain):
    blocks = some_blocks(reference, 2, 4)
    found = explain(models[explain], reference.inputs.replace(blocks=blocks), Ate())
    expected = np.where(blocks, reference.result["ate"], 0)
    assert np.count_nonzero(expected) == 2
    np.testing.assert_allclose(found["ate"], expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found["base_dice"], reference.result["base_dice"], atol=1e-4)
    # Those without an effect in the end may have passed the screening.
    assert found["num_interventions"][0] in {3 * 6 + 50 * count for count in range(2, 7)}


@both
def test_zero_perturbation(models, explain):
    reference = pdcr_triangle(3, "zero")
    blocks = np.zeros((1, 16, 16), bool)
    blocks[:, 8:12] = True
    found = explain(models[explain], reference.inputs.replace(blocks=blocks), reference.explainer)
    # The published function zeroes blocks whose corner lies on the region's edge; ours does not.
    outside = blocks & ~reference.inputs.targets.region[:, ::8, ::8]
    expected = np.where(outside, reference.result["ate"], 0)
    assert np.count_nonzero(expected) > 0
    np.testing.assert_allclose(found["ate"], expected, rtol=0, atol=TOLERANCE)
    assert found["num_interventions"] == outside.sum()


def test_no_screening_and_any_call_size(reference, models):
    blocks, draws = some_blocks(reference, 1, 2), reference.inputs.draws
    draws = Draws(draws.patches, draws.screen[..., :0], draws.full[..., :5])
    inputs = reference.inputs.replace(draws=draws, blocks=blocks)
    settings = Ate(num_screen=0, num_patches=5)
    first = original(models[original], inputs, settings)
    assert first["num_interventions"] == 15
    for batch_size in (1, 7, 64):
        again = tuned(models[tuned], inputs, settings, size=batch_size)
        np.testing.assert_allclose(again["ate"], first["ate"], rtol=0, atol=TOLERANCE)
        assert again["num_interventions"] == 15


@both
def test_nothing_to_visit(reference, models, explain):
    targets = reference.inputs.targets
    targets = dataclasses.replace(targets, region=np.ones_like(targets.region))
    found = explain(models[explain], reference.inputs.replace(targets=targets), Ate())
    assert found["num_interventions"] == 0
    assert not found["ate"].any()


@pytest.mark.parametrize("options", [{"sequential": True}, {"outcome": "soft_dice"}])
def test_what_the_peers_do_not_know_is_refused(reference, models, options):
    with pytest.raises(ValueError, match="the peers know"):
        tuned(models[tuned], reference.inputs, Ate(**options))
