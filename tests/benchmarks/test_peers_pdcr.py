import dataclasses

import numpy as np
import pytest

from benchmarks.agreement import REFERENCE, TOLERANCE, triangles
from benchmarks.peers.pdcr import ate_original, ate_tuned
from benchmarks.peers.unet import torch_unet
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import Ate
from jaxseg_xai.explainers.ate.ate import Draws
from jaxseg_xai.models.bundle import load_model
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def case():
    """Triangle 3, the published function's draws, and what it found."""
    bundle, data = load_model(REFERENCE), triangles()
    with np.load(REFERENCE / "pdcr_triangle.npz") as file:
        reference = {name.removesuffix("_3"): file[name] for name in file.files}
    region = np.zeros((128, 128), bool)
    y, x = reference["roi"]
    region[y : y + 32, x : x + 32] = True
    target = SegmentTarget(class_index=np.int32(1), region=region, reference=data["masks"][3])
    screen, full = np.zeros((1, 256, 3), int), np.zeros((1, 256, 50), int)
    number = reference["blocks"][:, 0] // 8 * 16 + reference["blocks"][:, 1] // 8
    screen[0, number], full[0, number] = reference["screen"], np.maximum(reference["draws"], 0)
    patches = (reference["patches_u8"] / 255).astype(np.float32)
    model = torch_unet(bundle.card.architecture_config(), bundle.variables)
    return model, data["images"][3], target, Draws(patches, screen, full), reference


def some_blocks(reference, num_passing, num_screened):
    """Evenly spaced blocks of both kinds, and how many interventions they take."""
    passing = reference["draws"][:, 0] >= 0
    blocks = np.zeros((16, 16), bool)
    for kind, num in ((passing, num_passing), (~passing, num_screened)):
        chosen = np.flatnonzero(kind)[np.linspace(0, kind.sum() - 1, num).astype(int)]
        blocks[tuple(reference["blocks"][chosen].T // 8)] = True
    return blocks, 3 * (num_passing + num_screened) + 50 * num_passing


@pytest.mark.parametrize("explain", [ate_original, ate_tuned])
def test_equals_the_published_function(case, explain):
    model, image, target, draws, reference = case
    blocks, count = some_blocks(reference, 2, 4)
    found = explain(model, image, target, draws, Ate(), blocks)
    expected = np.where(blocks, reference["heat"][::8, ::8], 0)
    assert np.count_nonzero(expected) > 0
    np.testing.assert_allclose(found.ate, expected, rtol=0, atol=TOLERANCE)
    assert found.base_dice == pytest.approx(float(reference["base"]), abs=1e-4)
    assert found.num_interventions == count


@pytest.mark.parametrize("explain", [ate_original, ate_tuned])
def test_zero_perturbation(case, explain):
    model, image, target, draws, reference = case
    blocks = np.zeros((16, 16), bool)
    blocks[8:12] = True
    found = explain(model, image, target, draws, Ate(perturbation="zero"), blocks)
    # The published function zeroes blocks whose corner lies on the region's edge; ours does not.
    outside = blocks & ~target.region[::8, ::8]
    expected = np.where(outside, reference["zero"][::8, ::8], 0)
    assert np.count_nonzero(expected) > 0
    np.testing.assert_allclose(found.ate, expected, rtol=0, atol=TOLERANCE)
    assert found.num_interventions == outside.sum()


def test_no_screening_and_any_call_size(case):
    model, image, target, draws, reference = case
    blocks, _ = some_blocks(reference, 1, 2)
    draws = Draws(draws.patches, draws.screen[..., :0], draws.full[..., :5])
    settings = Ate(num_screen=0, num_patches=5)
    first = ate_original(model, image, target, draws, settings, blocks)
    assert first.num_interventions == 15
    for batch_size in (1, 7, 64):
        again = ate_tuned(model, image, target, draws, settings, blocks, batch_size)
        np.testing.assert_allclose(again.ate, first.ate, rtol=0, atol=TOLERANCE)
        assert again.num_interventions == 15


def test_nothing_to_visit(case):
    model, image, target, draws, _ = case
    target = dataclasses.replace(target, region=np.ones_like(target.region))
    for explain in (ate_original, ate_tuned):
        found = explain(model, image, target, draws, Ate())
        assert found.num_interventions == 0
        assert not found.ate.any()


@pytest.mark.parametrize("options", [{"perturbation": "mean"}, {"outcome": "soft_dice"}])
def test_what_the_peers_do_not_know_is_refused(case, options):
    model, image, target, draws, _ = case
    with pytest.raises(ValueError, match="the peers know"):
        ate_tuned(model, image, target, draws, Ate(**options))
