import dataclasses
import functools

import jax
import numpy as np
import pytest

from benchmarks.cases import checks
from benchmarks.flips import AteDoubt, MisureDoubt, bundle_logits
from benchmarks.peers.make_references import ATE_ITEMS, MISURE_ITEMS, make_ate, make_misure
from benchmarks.peers.misure import stable_iterations
from benchmarks.peers.pdcr import ate_tuned
from benchmarks.peers.results import AteResult, MisureResult
from benchmarks.peers.unet import torch_unet
from benchmarks.references import MISURE_METHODS, load_ate, load_misure
from benchmarks.validation import compare_ate, compare_misure, compare_stage_1
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Ate, Batch, explain
from jaxseg_xai.explainers.ate.ate import Draws
from jaxseg_xai.models.bundle import load_model
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bundle():
    return load_model("triangle")


@pytest.fixture(scope="module")
def ate():
    return load_ate()


@pytest.fixture(scope="module")
def misure():
    return load_misure("misure_paper")


def doubt_of(ate, index, bundle):
    image, target, draws = ate.one(index)
    return AteDoubt(
        logits=bundle_logits(bundle),
        image=image,
        target=target,
        draws=draws,
        settings=ate.settings,
    )


@pytest.fixture(scope="module")
def misure_doubt(misure, bundle):
    return doubt_of_misure(misure, bundle)


def doubt_of_misure(reference, bundle):
    return MisureDoubt(
        logits=bundle_logits(bundle),
        images=reference.images,
        class_indices=reference.class_indices,
        settings=reference.settings,
    )


def verdict_on_ours(reference, bundle, **changes):
    """On our MiSuRe of the reference's images, given changed settings."""
    whole = np.ones(reference.images.shape[:3], bool)
    targets = SegmentTarget(class_index=reference.class_indices, region=whole, reference=whole)
    batch = Batch(
        images=reference.images,
        targets=targets,
        valid=whole[:, 0, 0],
        image_ids=np.arange(len(whole), dtype=np.uint32),
        pool=None,
        key=jax.random.key(0),
    )
    settings = dataclasses.replace(reference.settings, **changes)
    mesh = device_mesh(jax.devices()[:1])
    found = explain(settings, bundle.variables, batch, predict=bundle.predict, mesh=mesh)
    ours = MisureResult.of(jax.device_get(found), targets)
    return compare_misure(
        ours, reference.result, doubt_of_misure(reference, bundle), reference.stable
    )


def test_references_regenerate(ate):
    (item, corner), *_ = ATE_ITEMS.items()
    again = make_ate({item: corner})
    np.testing.assert_array_equal(again.images, ate.images[:1])
    np.testing.assert_array_equal(again.draws.patches, ate.draws.patches)
    np.testing.assert_array_equal(again.draws.full, ate.draws.full[:1])
    # Another machine may round otherwise; on one the files are equal byte for byte.
    assert compare_ate(again.results[0], ate.results[0]).passed
    for method in MISURE_METHODS:
        again = make_misure(method, MISURE_ITEMS[1:2])
        first = {name: value[1:2] for name, value in vars(load_misure(method).result).items()}
        assert compare_misure(again.result, MisureResult(**first)).passed


@pytest.mark.parametrize("method", MISURE_METHODS)
def test_misure_references_are_not_spoilt_by_rounding(method, bundle):
    misure = load_misure(method)
    model = torch_unet(bundle.card.architecture_config(), bundle.variables)
    stable = stable_iterations(model, misure.images, misure.class_indices, misure.settings)
    np.testing.assert_array_equal(stable, misure.stable)
    assert (stable >= 5).all()
    assert (stable == misure.settings.num_iterations).any()  # a mask is compared, too


def test_only_stable_iterations_count(misure):
    expected = misure.result
    trace, mask = expected.trace.copy(), expected.mask.copy()
    trace[0, 20:] *= 1.1
    mask[0] = 0.5
    wrong = dataclasses.replace(expected, trace=trace, mask=mask)
    assert not compare_misure(wrong, expected).passed
    assert compare_misure(wrong, expected, stable=np.array([20, 40, 40])).passed
    assert not compare_misure(wrong, expected, stable=np.array([21, 40, 40])).passed
    assert not compare_misure(wrong, expected, stable=np.zeros(3, int)).passed


def test_references_hold_what_makes_them_worth_comparing(ate, misure):
    effects = np.stack([result.ate for result in ate.results])
    assert all((effects > 0).any((1, 2)))
    assert (effects < 0).any()
    assert (effects == 0).any()
    assert (misure.result.dilations > 0).all()


def test_our_ate_passes_and_wrong_ones_fail(ate, bundle):
    mesh = device_mesh(jax.devices()[:1])
    run = jax.jit(functools.partial(ate.settings.explain, bundle.predict, mesh=mesh))
    found = jax.device_get(run(bundle.variables, ate.images, ate.targets, ate.draws))
    for index, expected in enumerate(ate.results):
        doubt = doubt_of(ate, index, bundle)
        right = AteResult.of(found, index, ate.settings.block_size)
        verdict = compare_ate(right, expected, doubt)
        assert verdict.passed
        assert verdict.max_abs_diff < 1e-4
        # Every block of a wrong map is looked into, which takes long: not each kind twice.
        kinds = [[-right.ate, np.roll(right.ate, 1, axis=0)], [np.roll(right.ate, 1, axis=1)]]
        for wrong in kinds[index]:
            verdict = compare_ate(dataclasses.replace(right, ate=wrong), expected, doubt)
            assert not verdict.passed
            assert verdict.flips
            assert not all(flip["excused"] for flip in verdict.flips)
        broken = np.where(right.ate == 0, right.ate, np.nan)
        assert not compare_ate(dataclasses.replace(right, ate=broken), expected, doubt).passed
        shifted = dataclasses.replace(right, base_dice=right.base_dice + 0.5)
        assert not compare_ate(shifted, expected, doubt).passed


@pytest.mark.parametrize("reused", ["one patch", "the screening's patches", "a neighbour's"])
def test_ate_with_reused_patches_fails(ate, bundle, reused):
    image, target, draws = ate.one(1)
    full = {
        "one patch": np.repeat(draws.full[..., :1], draws.full.shape[-1], axis=-1),
        "the screening's patches": np.resize(draws.screen, (1, 64, 10)),
        "a neighbour's": np.roll(draws.full, 1, axis=1),
    }[reused]
    model = torch_unet(bundle.card.architecture_config(), bundle.variables)
    wrong = ate_tuned(model, image, target, draws._replace(full=full), ate.settings)
    assert not compare_ate(wrong, ate.results[1], doubt_of(ate, 1, bundle)).passed


WRONG = {
    "misure_paper": [
        {"l1_weight": 0.11},
        {"background_weight": 0.5},
        {"learning_rate": 0.011},
        {"weight_decay": 0.1},
        {"cut": 0.5},
        {"tau": 0.8},
        {"tv_weight": 0.1},
    ],
    "misure": [
        {"learning_rate": 0.051},
        {"multiplier_rate": 0.25},
        {"max_misses": 2},
        {"patience": 3},
        {"tau": 0.8},
    ],
}


@pytest.mark.parametrize("method", MISURE_METHODS)
def test_our_misure_passes_and_wrong_ones_fail(method, bundle):
    reference = load_misure(method)
    verdict = verdict_on_ours(reference, bundle)
    assert verdict.passed
    assert not verdict.flips
    for changes in WRONG[method]:
        assert not verdict_on_ours(reference, bundle, **changes).passed, changes


def on_the_edge(z):
    """Logits (0, z) whose z is the first channel, but for pixel (0, 0), where it is `z`."""

    def logits(images):
        second = images[..., 0].copy()
        second[:, 0, 0] = z
        return np.stack([np.zeros_like(second), second], axis=-1)

    return logits


@pytest.mark.parametrize(("z", "ate", "passed"), [(1e-6, 200 / 5, True), (1e-3, 200 / 5, False)])
def test_a_flip_is_excused_only_within_the_margin(z, ate, passed):
    image = np.full((4, 4, 1), -1.0, np.float32)
    image[:2, :2] = 1
    target = SegmentTarget(
        class_index=np.int32(1), region=image[..., 0] > 0, reference=image[..., 0] > 0
    )
    settings = Ate(block_size=2, num_screen=0, num_patches=1)
    nothing, one = np.zeros((1, 4, 0), np.int32), np.zeros((1, 4, 1), np.int32)
    doubt = AteDoubt(
        logits=on_the_edge(z),
        image=image,
        target=target,
        draws=Draws(np.zeros((1, 2, 2, 1), np.float32), nothing, one),
        settings=settings,
    )
    expected = AteResult(ate=np.zeros((2, 2)), base_dice=100.0, num_interventions=3)
    found = dataclasses.replace(expected, ate=np.array([[0, ate], [0, 0]]))
    verdict = compare_ate(found, expected, doubt)
    assert verdict.passed is passed
    assert len(verdict.flips) == 1
    assert not compare_ate(found, expected).passed
    # More than the doubtful pixel can do, whatever the margin.
    beyond = dataclasses.replace(expected, ate=np.array([[0, 90.0], [0, 0]]))
    assert not compare_ate(beyond, expected, doubt).passed


def test_stage_1_flips_of_misure(misure, misure_doubt):
    expected = misure.result
    segment = expected.segment.copy()
    segment[0, 0, 0] ^= True
    wrong = dataclasses.replace(expected, segment=segment)
    verdict = compare_misure(wrong, expected, misure_doubt)
    assert not verdict.passed
    assert verdict.flips[0]["where"] == "segment"
    assert verdict.flips[0]["nearest_to_half"] > misure_doubt.margin
    # A pixel on the threshold excuses that image; the others are still compared.
    near = dataclasses.replace(misure_doubt, logits=on_the_edge(1e-6))
    assert compare_misure(wrong, expected, near).passed
    wrong = dataclasses.replace(wrong, trace=expected.trace * 1.01)
    assert not compare_misure(wrong, expected, near).passed
    trace = expected.dice_trace.copy()
    trace[1, 2] += 0.01
    verdict = compare_misure(
        dataclasses.replace(expected, dice_trace=trace), expected, misure_doubt
    )
    assert not verdict.passed
    assert verdict.flips[0]["where"] == "Dice after 2 dilations"


def test_a_mask_with_one_value_that_is_not_a_number_fails(misure):
    mask = misure.result.mask.copy()
    mask[0, 0, 0] = np.nan
    wrong = dataclasses.replace(misure.result, mask=mask)
    assert not compare_misure(wrong, misure.result).passed


def test_stage_1_alone(misure, misure_doubt):
    expected = misure.result
    assert compare_stage_1(expected, expected, misure_doubt).passed
    sufficient = expected.sufficient.copy()
    sufficient[1, 0, 0] ^= True
    wrong = dataclasses.replace(expected, sufficient=sufficient)
    assert not compare_stage_1(wrong, expected, misure_doubt).passed


@pytest.mark.parametrize(
    ("status", "passed"),
    [(Status.OK, True), (Status.NOT_REACHED, True), (Status.NON_FINITE, False)],
)
def test_an_image_without_an_explanation_fails(status, passed):
    found = Explanation(
        attribution=np.zeros((2, 4, 4)),
        status=np.array([Status.OK, status]),
        scores={},
        maps={},
        traces={},
    )
    assert checks.explained(found).passed is passed


@pytest.mark.parametrize("method", MISURE_METHODS)
def test_few_bits_do_not_excuse_another_region(method):
    reference = load_misure(method)
    expected, doubt = reference.result, None
    assert checks.compare_misure(expected, expected, doubt, "bfloat16").passed
    larger = dataclasses.replace(expected, mask=expected.sufficient.astype(np.float32))
    lost = dataclasses.replace(expected, dice_minimal=expected.dice_minimal * np.nan)
    for wrong in (larger, lost):
        assert not checks.compare_misure(wrong, expected, doubt, "bfloat16").passed


def test_our_search_ends_by_itself_in_the_reference():
    steps = np.isfinite(load_misure("misure").result.trace).sum(1)
    assert (steps < load_misure("misure").settings.num_iterations).any()


def test_shapes_must_agree(ate, misure):
    small = dataclasses.replace(ate.results[0], ate=ate.results[0].ate[1:])
    with pytest.raises(ValueError, match="different shape"):
        compare_ate(small, ate.results[0])
    short = dataclasses.replace(misure.result, trace=misure.result.trace[:, 1:])
    with pytest.raises(ValueError, match="trace"):
        compare_misure(short, misure.result)
