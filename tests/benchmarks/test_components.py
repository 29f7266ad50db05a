"""Effects of a network's parts in PyTorch, and what their validation lets through."""

import jax
import numpy as np
import pytest

from benchmarks.cases import components
from benchmarks.component_reference import load_components
from benchmarks.peers import components as peers
from benchmarks.peers.make_references import COMPONENT_ITEMS, make_components
from benchmarks.peers.results import ComponentResult
from benchmarks.peers.unet import torch_unet, tuned_copy
from jaxseg_xai.explainers.component_table import ComponentTable
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.models.unet import UNetConfig
from jaxseg_xai.types import Status
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def reference():
    return load_components()


@pytest.fixture(scope="module")
def model():
    bundle = load_model("triangle")
    return torch_unet(bundle.card.architecture_config(), bundle.variables)


def few(reference, count=1):
    """The first images of what the peers are given."""
    targets = jax.tree.map(lambda leaf: leaf[:count], reference.targets)
    return reference.images[:count], targets, reference.others[:count]


def table(result, status=Status.OK):
    """As if it were ours."""
    images, parts = result.effects.shape
    return ComponentTable(
        names=("",) * parts,
        kinds=("",) * parts,
        channels=(None,) * parts,
        statuses=np.full(images, status),
        base=np.zeros(images),
        effects=result.effects,
        errors=result.effects,
        first_order=result.first_order,
    )


def passes(effects, reference, first_order=None):
    first_order = reference.result.first_order if first_order is None else first_order
    found = ComponentResult(effects=effects, first_order=first_order)
    return components.compare(table(found), reference.result, "float32").passed


def test_the_frozen_effects_are_what_the_peer_makes(reference):
    made = make_components({0: COMPONENT_ITEMS[0]})
    assert made.settings == reference.settings
    np.testing.assert_allclose(reference.images[:1], made.images, atol=1e-7)
    np.testing.assert_allclose(reference.others[:1], made.others, atol=1e-7)
    np.testing.assert_allclose(reference.result.effects[:1], made.result.effects, atol=1e-3)
    assert np.ptp(reference.result.effects) > 10


@pytest.mark.parametrize("inputs", [32, 5])
def test_the_tuned_peer_finds_the_same(inputs, reference, model, monkeypatch):
    monkeypatch.setattr(peers, "inputs_per_call", lambda *_: inputs)
    effects = peers.effects_tuned(tuned_copy(model), *few(reference), every=16)
    known = np.isfinite(effects)
    assert known.sum() == 58
    np.testing.assert_allclose(effects[known], reference.result.effects[:1][known], atol=1e-3)


def test_the_peers_leave_no_hooks(reference, model):
    peers.effects_original(model, *few(reference), every=64)
    peers.first_order(model, *few(reference))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_the_peer_refuses_networks_it_does_not_know():
    config = UNetConfig.of_width(2, 1, upsample="transposed")
    with pytest.raises(ValueError, match="transposed"):
        peers.find_sites(peers.TorchUNet(config))


def test_right_effects_pass_and_wrong_ones_fail(reference, model):
    effects = reference.result.effects
    assert passes(effects, reference)
    assert not passes(-effects, reference)
    assert not passes(np.roll(effects, 1, axis=1), reference)
    assert not passes(effects[::-1], reference)
    assert not passes(effects, reference, -reference.result.first_order)
    assert not passes(np.where(effects == effects.min(), np.nan, effects), reference)
    images, targets, others = few(reference, 2)
    again = peers.effects_tuned(tuned_copy(model), images, targets, others[:, [0, 0]], every=16)
    some = np.where(np.isfinite(again), again, effects)
    assert not passes(some, reference)  # one replacement used twice


def test_an_image_without_effects_fails(reference):
    broken = table(reference.result, Status.NON_FINITE)
    assert not components.compare(broken, reference.result, "float32").passed
