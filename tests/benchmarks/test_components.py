"""Effects of a network's parts in PyTorch, and what their validation lets through."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks.cases import components
from benchmarks.component_reference import load_components
from benchmarks.peers import components as peers
from benchmarks.peers.make_references import COMPONENT_ITEMS, make_components
from benchmarks.peers.unet import torch_unet, tuned_copy
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.parts.table import ComponentTable
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.models.zoo.unet import UNetConfig
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
    names, channels, kinds = [], [], []
    for part in result.parts:
        name, _, channel = part.rpartition("/")
        is_channel = channel.isdigit()
        names.append(name if is_channel else part)
        channels.append(int(channel) if is_channel else None)
        kinds.append("channel" if is_channel else "skip" if "->" in part else "layer")
    return ComponentTable(
        names=tuple(names),
        kinds=tuple(kinds),
        channels=tuple(channels),
        statuses=np.full(len(result.effects), status),
        base=np.zeros(len(result.effects)),
        effects=result.effects,
        errors=result.effects,
        first_order=result.first_order,
    )


def verdict(reference, dtype="float32", **changed):
    found = dataclasses.replace(reference.result, **changed)
    return components.compare(table(found), reference.result, dtype)


def rolled_in_layers(result):
    """Every channel's effects given to the next of its layer."""
    effects = result.effects.copy()
    layers = np.array([part.rpartition("/")[0] for part in result.parts])
    channels = np.array([part.rpartition("/")[2].isdigit() for part in result.parts])
    for layer in set(layers):
        which = np.flatnonzero((layers == layer) & channels)
        effects[:, which] = effects[:, np.roll(which, 1)]
    return effects


def test_the_frozen_effects_are_what_the_peer_makes(reference):
    made = make_components({0: COMPONENT_ITEMS[0]})
    assert made.settings == reference.settings
    assert made.result.parts == reference.result.parts
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


@pytest.mark.parametrize("options", [{"upsample": "transposed"}, {"norm": "group"}])
def test_the_peer_refuses_networks_it_does_not_know(options):
    with pytest.raises(ConfigError, match="--peer none"):
        peers.find_sites(peers.TorchUNet(UNetConfig.of_width(2, 1, **options)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_right_effects_pass_and_wrong_ones_fail(dtype, reference):
    right = reference.result
    effects, slopes = right.effects, right.first_order
    channel = np.array([part.rpartition("/")[2].isdigit() for part in right.parts])
    assert verdict(reference, dtype).passed
    for wrong in (
        {"effects": -effects},
        {"effects": np.roll(effects, 1, axis=1)},
        {"effects": rolled_in_layers(right)},
        {"effects": effects[::-1]},
        {"effects": np.where(channel, 0, effects)},
        {"effects": np.where(effects == effects.min(), np.nan, effects)},
        {"first_order": -slopes},
        {"first_order": np.where(channel, 0, slopes)},
        {"parts": right.parts[::-1]},
    ):
        assert not verdict(reference, dtype, **wrong).passed


def test_one_replacement_used_twice_fails(reference, model):
    images, targets, others = few(reference, 2)
    again = peers.effects_tuned(tuned_copy(model), images, targets, others[:, [0, 0]], every=16)
    found = dataclasses.replace(reference.result, effects=again)
    right = table(reference.result)
    assert components.compare(right, reference.result, "float32", every=16).passed
    assert not components.compare(table(found), reference.result, "float32", every=16).passed


def test_a_peer_that_gives_no_number_fails(reference):
    effects = reference.result.effects.copy()
    effects[0, 0] = np.nan
    broken = dataclasses.replace(reference.result, effects=effects)
    assert not components.compare(table(reference.result), broken, "float32", every=16).passed


def test_an_image_without_effects_fails(reference):
    broken = table(reference.result, Status.NON_FINITE)
    assert not components.compare(broken, reference.result, "float32").passed
