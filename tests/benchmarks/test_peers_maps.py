"""The tuned peers, Captum and the peers of components against the frozen references."""

import functools
import importlib
import importlib.util

import numpy as np
import pytest

from benchmarks.agree.frozen import KINDS, load
from benchmarks.agree.kind import Subject, logits_of
from benchmarks.peers import components, gradients, running, with_captum
from benchmarks.peers.unet import TorchUNet, torch_unet, tuned_copy
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.models import load_model
from jaxseg_xai.models.zoo.unet import UNetConfig
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
captum = pytest.mark.skipif(
    importlib.util.find_spec("captum") is None, reason="captum is not installed"
)


@functools.cache
def bundle():
    return load_model("triangle")


@pytest.fixture
def model():
    return torch_unet(bundle().card.architecture_config(), bundle().variables)


def passes(reference, found):
    subject = Subject(
        explainer=reference.explainer,
        inputs=reference.inputs,
        logits=logits_of(bundle()),
    )
    return KINDS[reference.explainer.name].compare(found, reference.result, subject).passed


@pytest.mark.parametrize("name", ["grad_cam", "integrated_gradients", "confidence"])
@pytest.mark.parametrize("inputs", [32, 5])
def test_the_tuned_peer_finds_the_same(name, inputs, model, monkeypatch):
    reference = load(name)
    peer = KINDS[name].module()
    monkeypatch.setattr(running, "inputs_per_call", lambda *_: inputs)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = peer.tuned(tuned_copy(model), reference.inputs, reference.explainer)
    assert passes(reference, found)
    assert all((before[key] == value).all() for key, value in model.state_dict().items())


def test_original_leaves_no_gradients_and_no_hooks(model):
    reference = load("grad_cam")
    gradients.original(model, reference.inputs.one(0), reference.explainer)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not model.encoder[-1]._forward_hooks


@captum
def test_captum_finds_the_same(model):
    reference = load("integrated_gradients")
    found = with_captum.integrated_gradients(model, reference.inputs, reference.explainer)
    assert passes(reference, found)


@captum
def test_captums_occlusion_is_the_zero_perturbation(model):
    reference = load("occlusion")
    inputs, expected = reference.inputs.one(0), reference.result["ate"][:1]
    blocks = ~inputs.targets.region[:, ::8, ::8]
    found = with_captum.occlusion(model, inputs.replace(blocks=blocks), reference.explainer)
    touched = inputs.targets.region.reshape(1, 8, 8, 8, 8).any((2, 4))
    np.testing.assert_allclose(found["ate"][~touched], expected[~touched], atol=1e-3)
    assert np.count_nonzero(expected) > 0
    assert found["num_interventions"] == 64


@pytest.mark.parametrize("inputs", [32, 5])
def test_the_tuned_peer_of_components_finds_the_same(inputs, model, monkeypatch):
    reference = load("components")
    monkeypatch.setattr(running, "inputs_per_call", lambda *_: inputs)
    one = reference.inputs.one(0).replace(every=16)
    found = components.tuned(tuned_copy(model), one, reference.explainer)
    assert found["asked"].sum() == 58
    np.testing.assert_array_equal(np.isfinite(found["effects"]), found["asked"])
    expected = reference.result["effects"][:1][found["asked"]]
    np.testing.assert_allclose(found["effects"][found["asked"]], expected, atol=1e-3)


def test_the_peers_of_components_leave_no_hooks(model):
    reference = load("components")
    components.original(model, reference.inputs.one(0).replace(every=64), reference.explainer)
    components.first_order(model, reference.inputs.one(0))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("options", [{"upsample": "transposed"}, {"norm": "group"}])
def test_the_peers_of_components_refuse_networks_they_do_not_know(options):
    with pytest.raises(ConfigError, match="--peer none"):
        components.find_sites(TorchUNet(UNetConfig.of_width(2, 1, **options)))
