"""Ours against the frozen references of the PyTorch peers, and what validation lets through."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from benchmarks.agree.ate import compare_one
from benchmarks.agree.components import Components
from benchmarks.agree.frozen import KINDS, explain_prediction, load, ours_of
from benchmarks.agree.kind import Subject, check, logits_of
from benchmarks.agree.make_references import SETTINGS, make
from benchmarks.agree.misure import compare_stage_1, compare_stages
from benchmarks.agree.verdict import Bound, all_of, explained, judge
from benchmarks.arrays import Inputs, some
from benchmarks.peers import components as component_peers
from benchmarks.peers.misure import rounding
from benchmarks.peers.pdcr import tuned
from benchmarks.peers.unet import torch_unet, tuned_copy
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.models import load_model
from jaxseg_xai.ops.replacements import Draws
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
MAPS = ["grad_cam", "integrated_gradients", "confidence"]
MISURE = ["misure", "misure_paper"]


@functools.cache
def bundle():
    return load_model("triangle")


@functools.cache
def model():
    return torch_unet(bundle().card.architecture_config(), bundle().variables)


@functools.cache
def mesh(name=""):
    # Three devices, for which two images are filled up (and the pool must not be).
    return device_mesh(jax.devices()[: 3 if name == "ate_gradient_path" else 1])


@functools.cache
def frozen(name):
    """Ours on the inputs of a reference, its explanation and what both are of."""
    ours = ours_of(load(name), bundle(), mesh(name))
    return ours, jax.device_get(ours()), ours.subject(bundle(), "float32")


def subject_of(reference, dtype="float32"):
    return Subject(
        explainer=reference.explainer,
        inputs=reference.inputs,
        logits=logits_of(bundle()),
        dtype=dtype,
    )


def verdict(name, *, dtype="float32", **changes):
    """On our result with changes; `dtype` other than float32: on the reference's own."""
    reference = load(name)
    if dtype == "float32":
        ours, found, subject = frozen(name)
        right = ours.arrays(found)
    else:
        right, subject = reference.result, subject_of(reference, dtype)
    changed = right | {key: change(right[key]) for key, change in changes.items()}
    return KINDS[reference.explainer.name].compare(changed, reference.result, subject)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_frozen_references_are_what_the_peers_make(name):
    stored, made = load(name), make(name, 1, every=8)
    assert stored.explainer == made.explainer
    np.testing.assert_allclose(stored.inputs.images[:1], made.inputs.images, atol=1e-7)
    if made.inputs.draws is not None:
        np.testing.assert_array_equal(stored.inputs.draws.full[:1], made.inputs.draws.full)
    # Another machine may round otherwise; on one the files are equal byte for byte.
    kind, asked = KINDS[stored.explainer.name], made.result.get("asked")
    expected = some(stored.result, slice(1)) | ({} if asked is None else {"asked": asked})
    assert kind.compare(made.result, expected, subject_of(made)).passed


def test_references_hold_what_makes_them_worth_comparing():
    ate = load("ate").result["ate"]
    assert all((ate > 0).any((1, 2)))
    assert (ate < 0).any()
    assert (ate == 0).any()
    for name in (*MAPS, "ate_gradient", "ate_gradient_path"):
        maps = load(name).result["attribution"]
        assert maps.any((1, 2)).all()
        assert (maps.min() < 0) == (name not in ("grad_cam", "confidence"))
    assert np.ptp(load("components").result["effects"]) > 10
    for name in MISURE:
        result, explainer = load(name).result, load(name).explainer
        assert (result["dilations"] > 0).all()
        assert (result["stable"] >= 5).all()
        # A mask is compared, too.
        whole = result["stable"] == explainer.num_iterations
        assert (result["moved"][whole] == 0).any()
    steps = np.isfinite(load("misure").result["trace"]).sum(1)
    assert (steps < load("misure").explainer.num_iterations).any()


CHANGES = {
    "sign": lambda maps: -maps,
    "shift": lambda maps: np.roll(maps, 1, axis=2),
    "scale": lambda maps: 1.01 * maps,
    "swapped images": lambda maps: maps[::-1],
    "not a number": lambda maps: np.where(maps == maps.max(), np.nan, maps),
}


@pytest.mark.parametrize(
    "name", [*MAPS, pytest.param("ate_gradient", marks=pytest.mark.slow), "ate_gradient_path"]
)
def test_only_the_right_map_passes(name):
    assert verdict(name).passed
    for what, change in CHANGES.items():
        wrong = verdict(name, attribution=change)
        assert not wrong.passed, what
        assert wrong.unit in ("relative L2", "maps that are not numbers"), what
        assert wrong.max_abs_diff > wrong.tolerance, what
    for score in KINDS[load(name).explainer.name].scores:
        wrong = verdict(name, **{score: lambda values: values + 0.002})
        assert (wrong.passed, wrong.unit) == (False, score)


def test_copies_that_fill_up_a_batch_are_no_work():
    inputs, mesh = load("grad_cam").inputs.one(0), device_mesh(jax.devices()[:2])
    _, _, batch = KINDS["grad_cam"].arguments(GradCam(), bundle(), inputs, mesh)
    assert len(batch.images) == 2
    assert batch.valid.tolist() == [True, False]


def test_few_bits_do_not_excuse_wrong_scores():
    few = functools.partial(verdict, "confidence", dtype="bfloat16")
    assert few().passed
    assert not few(entropy_band=lambda values: values + 0.2).passed
    assert not few(tta_pairwise=lambda values: values * np.nan).passed


def test_another_layer_fails():
    ours, _, subject = frozen("grad_cam")
    other = explain(GradCam(layer="encoder/4/conv1"), *ours.arguments[1:], mesh=mesh())
    expected = {"": load("grad_cam").result}
    assert not all_of(check(ours, jax.device_get(other), expected, subject)).passed


def test_pixels_on_the_threshold_are_excused_and_their_image_left_out():
    """Only if they are on it, and not if less than half of the images remain."""
    reference, logits = load("grad_cam"), logits_of(bundle())
    images, kind = reference.inputs.images, KINDS["grad_cam"]
    pixel = np.unravel_index(np.argmin(np.abs(logits(images[:1])[0, ..., 1])), (64, 64))

    def on_it(images):
        found = logits(images).copy()
        found[:, *pixel] = 0
        return found

    def compare(count, look, moved=(0, 0, 0)):
        subject = dataclasses.replace(subject_of(reference), logits=look, moved=np.array(moved))
        expected = some(reference.result, slice(count))
        segment = expected["segment"].copy()
        segment[0][pixel] ^= True
        found = expected | {"segment": segment}
        return kind.compare(found, expected, subject.some(slice(count)))

    excused = compare(3, on_it)
    assert excused.passed
    assert [flip["excused"] for flip in excused.flips] == [True]
    assert compare(3, logits).unit == "flips without an excuse"
    assert compare(1, on_it).unit == "share of the images left out"
    # What rounding moves is left out, too.
    assert not compare(3, on_it, moved=(0, 1, 0)).passed


def few_rows(ate):
    """Blocks of the first rows that have an effect: each wrong one is looked into for long."""
    rows = np.zeros(ate.shape, bool)
    rows[np.flatnonzero(ate.any(1))[:2]] = True
    return rows


def test_our_ate_passes_and_wrong_ones_fail():
    ours, found, subject = frozen("ate")
    right, expected = ours.arrays(found), load("ate").result
    assert verdict("ate").max_abs_diff < 1e-4
    for i, changes in enumerate(
        [[lambda ate: -ate, lambda ate: np.roll(ate, 1, axis=0)], [lambda ate: np.roll(ate, 1, 1)]]
    ):
        one = subject.some(slice(i, i + 1))
        mine, other = some(right, i), some(expected, i)
        ate, rows = mine["ate"], few_rows(mine["ate"])
        for change in changes:
            wrong = compare_one(mine | {"ate": np.where(rows, change(ate), ate)}, other, one)
            assert not wrong.passed
            assert not all(flip["excused"] for flip in wrong.flips)
        broken = np.where(rows & (ate != 0), np.nan, ate)
        assert not compare_one(mine | {"ate": broken}, other, one).passed
        shifted = compare_one(mine | {"base_dice": mine["base_dice"] + 0.5}, other, one)
        assert (shifted.passed, shifted.unit) == (False, "base Dice, difference")


@pytest.mark.parametrize("reused", ["one patch", "the screening's patches", "a neighbour's"])
def test_ate_with_reused_patches_fails(reused):
    subject, settings = subject_of(load("ate")).some(slice(1, 2)), load("ate").explainer
    expected = some(load("ate").result, 1)
    rows, draws = few_rows(expected["ate"]), subject.inputs.draws
    full = {
        "one patch": np.repeat(draws.full[..., :1], draws.full.shape[-1], axis=-1),
        "the screening's patches": np.resize(draws.screen, (1, 64, 10)),
        "a neighbour's": np.roll(draws.full, 1, axis=1),
    }

    def compare(full):
        inputs = subject.inputs.replace(draws=draws._replace(full=full), blocks=rows[None])
        found = tuned(tuned_copy(model()), inputs, settings)
        few = expected | {"ate": np.where(rows, expected["ate"], 0)}
        return compare_one(some(found, 0), few, subject)

    assert compare(draws.full).passed
    assert not compare(full[reused]).passed


WRONG = {
    "misure_paper": [
        {"l1_weight": 0.11},
        {"background_weight": 0.5},
        {"learning_rate": 0.011},
        {"weight_decay": 0.1},
        {"cut": 0.5},
        {"tau": 0.5},
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


@pytest.mark.parametrize("name", MISURE)
def test_our_misure_passes_and_wrong_ones_fail(name):
    ours, found, subject = frozen(name)
    right_of = load(name).result
    right = all_of(check(ours, found, {"": right_of}, subject))
    assert right.passed
    assert not right.flips
    # The wrong ones on one image alone, which rounding leaves as it is.
    explainer, problem, batch = ours.arguments
    still = (right_of["stable"] == explainer.num_iterations) & (right_of["moved"] == 0)
    index = int(np.flatnonzero(still)[0])
    one, alone = slice(index, index + 1), dataclasses.replace(batch, valid=np.arange(3) == index)

    def passes(**changes):
        other = dataclasses.replace(explainer, **changes)
        found = ours.arrays(jax.device_get(ours.compiled(other, problem, alone)))
        return ours.kind.compare(some(found, one), some(right_of, one), subject.some(one)).passed

    assert passes()
    for changes in WRONG[name]:
        assert not passes(**changes), changes


@pytest.mark.parametrize("name", MISURE)
def test_what_rounding_does_is_stored_with_the_reference(name):
    reference = load(name)
    found = rounding(tuned_copy(model()), reference.inputs, reference.explainer)
    np.testing.assert_array_equal(found["stable"], reference.result["stable"])
    whole = found["stable"] == reference.explainer.num_iterations
    np.testing.assert_array_equal(found["moved"][whole], reference.result["moved"][whole])


def stages(found, expected):
    return compare_stages(found, expected, subject_of(load("misure_paper")))


def test_only_what_rounding_leaves_alone_counts():
    expected = load("misure_paper").result | {"moved": np.zeros(3)}
    trace, mask = expected["trace"].copy(), expected["mask"].copy()
    trace[0, 20:] *= 1.1
    mask[0] = 0.5
    wrong = {k: v for k, v in expected.items() if k not in ("stable", "moved")}
    wrong |= {"trace": trace, "mask": mask}

    def passes(*stable):
        return stages(wrong, expected | {"stable": np.array(stable)}).passed

    assert not passes(40, 40, 40)
    assert passes(20, 40, 40)
    assert not passes(21, 40, 40)
    assert not passes(0, 0, 0)


@pytest.mark.parametrize(
    ("changed", "unit"),
    [(0.02, "share of mask off by > 0.01"), (0.5, "area of the mask, relative")],
)
def test_a_mask_that_rounding_decides_is_judged_by_loss_area_and_dice(changed, unit):
    """The verdict names the bound that broke, not one that is kept."""
    expected = load("misure_paper").result | {"stable": np.full(3, 40), "moved": np.zeros(3)}
    found = {k: v for k, v in expected.items() if k not in ("stable", "moved")}
    mask = expected["mask"].copy()
    inside = np.flatnonzero((mask[1] > 0.6) & (mask[1] < 0.9))[:40]
    assert len(inside) == 40  # one pixel in 300
    mask[1].ravel()[inside] += np.where(np.arange(40) % 2, 1, -1) * changed
    if changed > 0.1:
        mask[1] *= 0.9
    broken = stages(found | {"mask": mask}, expected)
    assert not broken.passed
    assert broken.max_abs_diff > broken.tolerance
    moved = stages(found | {"mask": mask}, expected | {"moved": np.array([0, 0.01, 0])})
    if changed < 0.1:
        assert broken.unit == unit
        assert moved.passed
        assert moved.measured["images whose mask was compared"] == 2
    else:
        assert (moved.passed, moved.unit) == (False, unit)
    dice = expected["dice_minimal"] + np.array([0, 0.01, 0])
    worse = stages(found | {"dice_minimal": dice}, expected)
    assert (worse.passed, worse.unit) == (False, "final Dice, difference")


def test_stage_1_flips_of_misure():
    reference = load("misure_paper")
    expected, subject = reference.result, subject_of(reference)
    right = {k: v for k, v in expected.items() if k not in ("stable", "moved")}
    segment = expected["segment"].copy()
    segment[0, 0, 0] ^= True
    wrong = right | {"segment": segment}
    found = compare_stages(wrong, expected, subject)
    assert (found.passed, found.unit) == (False, "flips without an excuse")
    assert found.flips[0]["where"] == "segment"
    assert found.flips[0]["nearest_to_half"] > subject.margin
    # A pixel on the threshold excuses that image; the others are still compared.
    near = dataclasses.replace(subject, logits=on_the_edge(1e-6))
    assert compare_stages(wrong, expected, near).passed
    assert not compare_stages(wrong | {"trace": expected["trace"] * 1.01}, expected, near).passed
    trace = expected["dice_trace"].copy()
    trace[1, 2] += 0.01
    found = compare_stages(right | {"dice_trace": trace}, expected, subject)
    assert not found.passed
    assert found.flips[0]["where"] == "Dice after 2 dilations"
    assert compare_stage_1(right, expected, subject).passed
    sufficient = expected["sufficient"].copy()
    sufficient[1, 0, 0] ^= True
    assert not compare_stage_1(right | {"sufficient": sufficient}, expected, subject).passed


@pytest.mark.parametrize("name", MISURE)
def test_few_bits_do_not_excuse_another_region(name):
    few = functools.partial(verdict, name, dtype="bfloat16")
    assert few().passed
    assert not few(mask=lambda mask: np.ones_like(mask)).passed
    assert not few(dice_minimal=lambda dice: dice * np.nan).passed


def test_one_value_of_a_mask_that_is_not_a_number_fails():
    def spoil(mask):
        mask = mask.copy()
        mask[0, 0, 0] = np.nan
        return mask

    expected = load("misure_paper").result
    found = {k: v for k, v in expected.items() if k not in ("stable", "moved")}
    assert not stages(found | {"mask": spoil(found["mask"])}, expected).passed


def on_the_edge(z):
    """Logits (0, z) whose z is the first channel, but for pixel (0, 0), where it is `z`."""

    def logits(images):
        second = images[..., 0].copy()
        second[:, 0, 0] = z
        return np.stack([np.zeros_like(second), second], axis=-1)

    return logits


@pytest.mark.parametrize(("z", "passed"), [(1e-6, True), (1e-3, False)])
def test_a_flip_is_excused_only_within_the_margin(z, passed):
    image = np.full((1, 4, 4, 1), -1.0, np.float32)
    image[:, :2, :2] = 1
    inside = image[..., 0] > 0
    targets = SegmentTarget(class_index=np.ones(1, np.int32), region=inside, reference=inside)
    nothing, one = np.zeros((1, 4, 0), np.int32), np.zeros((1, 4, 1), np.int32)
    draws = Draws(np.zeros((1, 2, 2, 1), np.float32), nothing, one)
    subject = Subject(
        logits=on_the_edge(z),
        inputs=Inputs(images=image, targets=targets, draws=draws),
        explainer=Ate(block_size=2, num_screen=0, num_patches=1),
    )
    expected = {"ate": np.zeros((2, 2)), "base_dice": 100.0, "num_interventions": 3}
    found = expected | {"ate": np.array([[0, 40.0], [0, 0]])}
    flipped = compare_one(found, expected, subject)
    assert flipped.passed is passed
    assert len(flipped.flips) == 1
    # More than the doubtful pixel can do, whatever the margin.
    beyond = expected | {"ate": np.array([[0, 90.0], [0, 0]])}
    assert not compare_one(beyond, expected, subject).passed


def rolled_in_layers(result):
    """Every channel's effects given to the next of its layer."""
    effects = result["effects"].copy()
    layers = np.array([part.rpartition("/")[0] for part in result["parts"][0]])
    channels = np.array([part.rpartition("/")[2].isdigit() for part in result["parts"][0]])
    for layer in set(layers):
        which = np.flatnonzero((layers == layer) & channels)
        effects[:, which] = effects[:, np.roll(which, 1)]
    return effects


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_right_effects_of_parts_pass_and_wrong_ones_fail(dtype):
    reference = load("components")
    right, subject = reference.result, subject_of(reference, dtype)
    effects, slopes = right["effects"], right["first_order"]
    channel = np.array([part.rpartition("/")[2].isdigit() for part in right["parts"][0]])
    assert Components().compare(right, right, subject).passed
    for wrong in (
        {"effects": -effects},
        {"effects": np.roll(effects, 1, axis=1)},
        {"effects": rolled_in_layers(right)},
        {"effects": effects[::-1]},
        {"effects": np.where(channel, 0, effects)},
        {"effects": np.where(effects == effects.min(), np.nan, effects)},
        {"first_order": -slopes},
        {"first_order": np.where(channel, 0, slopes)},
        {"parts": right["parts"][:, ::-1]},
    ):
        assert not Components().compare(right | wrong, right, subject).passed
        if "parts" not in wrong:  # nor does a peer that is wrong
            assert not Components().compare(right, right | wrong, subject).passed


def test_one_replacement_used_twice_fails():
    reference = load("components")
    inputs = reference.inputs.replace(others=reference.inputs.others[:, [0, 0]])
    found = component_peers.tuned(
        tuned_copy(model()), inputs.replace(every=16), reference.explainer
    )
    expected = reference.result | {"asked": found["asked"]}
    subject = subject_of(reference)
    assert Components().compare(reference.result, expected, subject).passed
    wrong = reference.result | {"effects": found["effects"]}
    assert not Components().compare(wrong, expected, subject).passed


@pytest.mark.parametrize(
    ("status", "passed"),
    [(Status.OK, True), (Status.NOT_REACHED, True), (Status.NON_FINITE, False)],
)
def test_an_image_without_an_explanation_fails(status, passed):
    found = Explanation(attribution=np.zeros((2, 4, 4)), status=np.array([Status.OK, status]))
    assert explained(found).passed is passed


def test_a_verdict_names_the_bound_that_broke():
    kept, broken = Bound("loss", 2e-6, 1e-3), Bound("share of the mask", 0.0052, 0.002)
    found = judge(kept, broken, why="rounding")
    assert (found.passed, found.unit, found.max_abs_diff) == (False, "share of the mask", 0.0052)
    assert found.measured == {"loss": 2e-6, "loss (at most)": 1e-3}
    assert judge(kept, why="").unit == "loss"
    assert judge(Bound("a", np.nan, 1), kept, why="").max_abs_diff == np.inf
    every = all_of({"one": judge(kept, why="x"), "two": found})
    assert (every.passed, every.unit) == (False, "share of the mask")
    assert "the figures are those against two" in every.why


def test_the_prediction_is_what_is_explained_where_a_method_says_so():
    inputs = load("grad_cam").inputs
    own = explain_prediction(inputs, load("grad_cam").explainer, bundle())
    np.testing.assert_array_equal(own.targets.segment, load("grad_cam").result["segment"])
    assert explain_prediction(inputs, load("ate").explainer, bundle()) is inputs
