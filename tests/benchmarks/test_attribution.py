"""Maps of one image each against PyTorch, and what their validation lets through."""

import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.cases import CASES, ate_screen, attribution, checks
from benchmarks.flips import bundle_logits
from benchmarks.harness import prepare
from benchmarks.peers import attribution as gradient_peers
from benchmarks.peers import confidence as confidence_peers
from benchmarks.peers import with_captum
from benchmarks.peers.make_references import make_gradient, make_map
from benchmarks.peers.unet import torch_unet, tuned_copy
from benchmarks.references import (
    GRADIENT_FORMS,
    MAP_METHODS,
    MAP_SCORES,
    load_ate,
    load_gradient,
    load_map,
)
from benchmarks.settings import Flags
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import GradCam, IntegratedGradients, explain
from jaxseg_xai.models.bundle import load_model
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
each_method = pytest.mark.parametrize("name", list(MAP_METHODS))
captum = pytest.mark.skipif(
    importlib.util.find_spec("captum") is None, reason="captum is not installed"
)


@pytest.fixture(scope="module")
def bundle():
    return load_model("triangle")


@pytest.fixture(scope="module")
def model(bundle):
    return torch_unet(bundle.card.architecture_config(), bundle.variables)


def verdict(found, reference, bundle):
    images, still = reference.images, np.zeros(len(reference.images))
    arguments = (images, reference.class_indices, still, reference.settings, "float32")
    return attribution.compare(found, reference.result, bundle, *arguments)


def whole(image):
    everywhere = np.ones(image.shape[:2], bool)
    return SegmentTarget(class_index=np.int32(1), region=everywhere, reference=everywhere)


@each_method
def test_the_frozen_maps_are_what_the_peer_makes(name):
    stored, made = load_map(name), make_map(name)
    assert stored.settings == made.settings
    np.testing.assert_allclose(stored.images, made.images, atol=1e-7)
    np.testing.assert_array_equal(stored.result.segment, made.result.segment)
    assert stored.result.attribution.any((1, 2)).all()
    assert (stored.result.attribution.min() < 0) == (name == IntegratedGradients.name)


@each_method
@pytest.mark.parametrize("inputs", [32, 5])
def test_the_tuned_peer_finds_the_same(name, inputs, model, bundle, monkeypatch):
    reference = load_map(name)
    peers = confidence_peers if name == "confidence" else gradient_peers
    monkeypatch.setattr(peers, "inputs_per_call", lambda *_: inputs)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = peers.explain_tuned(
        tuned_copy(model), reference.images, reference.class_indices, reference.settings
    )
    assert verdict(found, reference, bundle).passed
    assert all((before[key] == value).all() for key, value in model.state_dict().items())


def test_original_leaves_no_gradients_and_no_hooks(model):
    reference = load_map("grad_cam")
    gradient_peers.explain_original(
        model, reference.images[:1], reference.class_indices[:1], GradCam()
    )
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not model.encoder[-1]._forward_hooks


@captum
def test_captum_finds_the_same(model, bundle):
    reference = load_map("integrated_gradients")
    found = with_captum.integrated_gradients(
        model, reference.images, reference.class_indices, reference.settings
    )
    assert verdict(found, reference, bundle).passed


@captum
def test_captums_occlusion_is_the_zero_perturbation(model):
    reference = load_ate("occlusion")
    image, target, _ = reference.one(0)
    expected = reference.results[0]
    blocks = ~target.region[::8, ::8]
    found = with_captum.occlusion(model, image, target, reference.settings, blocks)
    touched = target.region.reshape(8, 8, 8, 8).any((1, 3))
    np.testing.assert_allclose(found.ate[~touched], expected.ate[~touched], atol=1e-3)
    assert np.count_nonzero(expected.ate) > 0
    assert found.num_interventions == 64


def frozen(name):
    settings = prepare(CASES[name.replace("_", "-")], Flags(quick=True))
    return attribution.frozen(settings, device_mesh(), MAP_METHODS[name]())


def explained(name):
    """Our explanation of the images of the frozen reference, which is right."""
    kept = []

    def keep(*arguments, **named):
        kept.append(explain(*arguments, **named))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribution, "explain", keep)
        assert frozen(name).passed
    return kept[0]


CHANGES = {
    "sign": lambda maps: -maps,
    "shift": lambda maps: jnp.roll(maps, 1, axis=2),
    "scale": lambda maps: 1.01 * maps,
    "not a number": lambda maps: maps.at[0, 0, 0].set(jnp.nan),
}


@each_method
def test_validation_lets_only_the_right_map_through(name, monkeypatch):
    found = explained(name)
    for what, change in CHANGES.items():
        changed = dataclasses.replace(found, attribution=change(found.attribution))
        monkeypatch.setattr(attribution, "explain", lambda *_, changed=changed, **__: changed)
        verdict = frozen(name)
        assert not verdict.passed, what
        assert verdict.max_abs_diff > verdict.tolerance, what
    for score in MAP_SCORES[name]:
        wrong = {**found.scores, score: found.scores[score] + 0.002}
        changed = dataclasses.replace(found, scores=wrong)
        monkeypatch.setattr(attribution, "explain", lambda *_, changed=changed, **__: changed)
        assert not frozen(name).passed, score


def test_few_bits_do_not_excuse_wrong_scores():
    expected = load_map("confidence").result
    wrong = {**expected.scores, "entropy_band": expected.scores["entropy_band"] + 0.2}
    broken = {**expected.scores, "tta_pairwise": expected.scores["tta_pairwise"] * np.nan}
    compare = functools.partial(checks.compare_rough_maps, tolerance=0.3, why="few bits")
    assert compare(expected, expected).passed
    for scores in (wrong, broken):
        assert not compare(dataclasses.replace(expected, scores=scores), expected).passed


@pytest.mark.parametrize("form", GRADIENT_FORMS)
def test_the_frozen_gradients_are_what_the_peer_makes(form):
    stored, made = load_gradient(form), make_gradient(form)
    assert stored.settings == made.settings
    np.testing.assert_array_equal(stored.patch_of, made.patch_of)
    np.testing.assert_allclose(
        stored.result.attribution, made.result.attribution, rtol=1e-3, atol=1e-4
    )
    assert (np.abs(stored.result.attribution).max((1, 2)) > 0.1).all()


@pytest.mark.parametrize(
    "form",
    [pytest.param("ate_gradient", marks=pytest.mark.slow), "ate_gradient_path"],
)
def test_validation_lets_only_the_right_gradient_through(form, monkeypatch):
    settings, kept = prepare(CASES["ate-screen"], Flags(quick=True)), []

    def keep(*arguments, **named):
        kept.append(explain(*arguments, **named))
        return kept[0]

    # Three devices, for which the two images are filled up (and the pool must not be).
    mesh = device_mesh(jax.devices()[:3])
    monkeypatch.setattr(ate_screen, "explain", keep)
    assert ate_screen.frozen_gradient(settings, mesh, form).passed
    for name, change in CHANGES.items():
        changed = dataclasses.replace(kept[0], attribution=change(kept[0].attribution))
        monkeypatch.setattr(ate_screen, "explain", lambda *_, found=changed, **__: found)
        verdict = ate_screen.frozen_gradient(settings, mesh, form)
        assert not verdict.passed, name


def test_another_layer_fails(bundle):
    reference = load_map("grad_cam")
    elsewhere = jax.jit(functools.partial(GradCam(layer="encoder/4/conv1").explain, bundle.predict))
    maps = np.stack(
        [elsewhere(bundle.variables, i, whole(i)).attribution for i in reference.images]
    )
    result = dataclasses.replace(reference.result, attribution=maps)
    assert not verdict(result, reference, bundle).passed


def test_pixels_on_the_threshold_are_excused_and_their_image_left_out(bundle):
    """Only if they are on it, and not if no image remains."""
    reference = load_map("grad_cam")
    logits = bundle_logits(bundle)
    pixel = np.unravel_index(np.argmin(np.abs(logits(reference.images[:1])[0, ..., 1])), (64, 64))

    def on_it(images):
        found = logits(images).copy()
        found[:, *pixel] = 0
        return found

    def compare(which, look, moved=(0, 0, 0)):
        few = slice(which)
        expected = checks.images_of(reference.result, few)
        segment = expected.segment.copy()
        segment[0][pixel] ^= True
        found = dataclasses.replace(expected, segment=segment)
        images, classes = reference.images[few], reference.class_indices[few]
        moved = np.array(moved[few])
        return checks.compare_maps(found, expected, look, images, classes, moved, 1e-4, "rounding")

    excused = compare(3, on_it)
    assert excused.passed
    assert [flip["excused"] for flip in excused.flips] == [True]
    assert not compare(3, logits).passed
    assert not compare(1, on_it).passed
    # Of three images two must remain; what rounding moves is left out, too.
    assert not compare(3, on_it, moved=(0, 1, 0)).passed
