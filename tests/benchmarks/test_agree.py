"""Ours against the frozen references of the PyTorch peers, and what validation lets through."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from benchmarks.agree.components import Components
from benchmarks.agree.frozen import KINDS, explain_prediction, load
from benchmarks.agree.kind import check, logits_of
from benchmarks.agree.make_references import SETTINGS, make
from benchmarks.agree.verdict import Bound, all_of, explained, judge
from benchmarks.arrays import some
from benchmarks.peers import components as component_peers
from benchmarks.peers.unet import tuned_copy
from jaxseg_xai.core.types import Explanation, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from tests.benchmarks.agreed import (
    MAPS,
    MISURE,
    bundle,
    frozen,
    mesh,
    model,
    subject_of,
    verdict,
)
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


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
    effects = load("occlusion_volume").result["ate"]
    assert effects.min() < 0 < effects.max()
    assert load("misure_paper_volume").result["dilations"] > 0
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
    "name",
    [
        "grad_cam",
        "confidence",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("integrated_gradients", "ate_gradient", "ate_gradient_path")
        ),
    ],
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
