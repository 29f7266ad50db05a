import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseg_xai.core.errors import ConfigError, DataError, ModelError
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import runner
from jaxseg_xai.explainers.parts.components import ComponentAte
from jaxseg_xai.explainers.parts.table import ComponentTable, write_csv
from jaxseg_xai.metrics.parts import compare_parts
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.outcomes import get_outcome
from tests.explainers import models
from tests.explainers.models import problem_of_module
from tests.support import batch_of, problem_of, segmenter_of

SIZE = 8


class Tiny(nnx.Module):
    """Two features; class 1 is where the first is large, and the second is not looked at."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.features = nnx.Conv(1, 2, (3, 3), rngs=rngs)
        self.head = nnx.Conv(2, 1, (1, 1), rngs=rngs)
        kernel = np.zeros((3, 3, 1, 2), np.float32)
        kernel[1, 1, 0] = 1, -2
        self.features.kernel.set_value(jnp.array(kernel))
        self.features.bias.set_value(jnp.array([0.0, 3.0]))
        self.head.kernel.set_value(jnp.array([[[[4.0], [0.0]]]]))
        self.head.bias.set_value(jnp.array([-2.0]))

    def __call__(self, x):
        return self.head(nnx.relu(self.features(x)))


def unet(**options):
    """Random, but sure of itself: class 1 is on half of the first picture."""
    config = UNetConfig.of_width(2, 1, in_channels=1, norm="batch", **options)
    model = config.build(nnx.Rngs(3))
    problem = problem_of_module(model)
    logits = np.asarray(problem.segmenter.logits(problem.variables, pictures())[..., 1])
    scale = 2 / logits.std()
    model.head.kernel.set_value(scale * model.head.kernel[...])
    model.head.bias.set_value(jnp.array([-scale * np.median(logits)]))
    return model


def pictures(count=1, seed=0):
    """Half of each is bright; the others are dark."""
    images = np.random.default_rng(seed).uniform(0, 0.3, (count, SIZE, SIZE, 1)).astype(np.float32)
    images[:, :, :4] += 0.6
    return images


def targets(images):
    shape = images.shape[:3]
    reference = np.zeros(shape, bool)
    reference[:, :, :4] = True
    return SegmentTarget(
        class_index=np.ones(shape[0], np.int32), region=np.ones(shape, bool), reference=reference
    )


def dark(count=1, replacements=2):
    rng = np.random.default_rng(7)
    return rng.uniform(0, 0.3, (count, replacements, SIZE, SIZE, 1)).astype(np.float32)


def explain(model, settings=None, images=None, others="dark", of=None, devices=None):
    images = pictures() if images is None else images
    others = dark(len(images)) if isinstance(others, str) else others
    settings = settings or ComponentAte(batch_size=3)
    problem = problem_of_module(model) if isinstance(model, nnx.Module) else problem_of(model)
    of = targets(images) if of is None else of
    batch = dataclasses.replace(
        batch_of(problem, images, others=others, reference=of.reference), targets=of
    )
    found = runner.explain(settings, problem, batch, mesh=device_mesh(devices))
    parts = settings.describe(problem.segmenter, problem.variables, images.shape[1:])
    assert json.loads(json.dumps(parts)) == parts
    return ComponentTable.of_results(
        parts, found.status, found.scores["base_outcome"], found.traces
    )


def rows(table):
    return {(r["name"], r["channel"]): r for r in table.records()}


@pytest.mark.parametrize("intervention", ["resample", "mean", "zero"])
def test_one_channel_carries_the_class_and_a_dead_one_nothing(intervention):
    found = rows(explain(Tiny(), ComponentAte(intervention=intervention)))
    # Of dark images, or off, or evenly dark: nothing is segmented any more.
    assert found["features", 0]["ate"] == pytest.approx(-100, abs=1e-3)
    assert found["features", None]["ate"] == pytest.approx(-100, abs=1e-3)
    assert found["features", 0]["first_order"] < -10
    assert found["features", 1]["ate"] == 0
    assert found["features", 1]["first_order"] == 0
    assert found["features", None]["kind"] == "layer"
    assert found["features", 1]["kind"] == "channel"
    assert {name for name, _ in found} == {"features", "head"}


def brute_force(model, image, others, target, edit, outcome="dice"):
    """Effects by running the model's own modules, `edit(name, own, other)` in between."""
    model = nnx.view(model, use_running_average=True)

    def run(x, put=None):
        seen = {}

        def site(name, value):
            seen[name] = value
            return value if put is None else edit(name, value, put.get(name, value))

        def double(block, x, name):
            x = site(f"{name}/conv1", nnx.relu(block.norm1(block.conv1(x))))
            return site(f"{name}/conv2", nnx.relu(block.norm2(block.conv2(x))))

        skip = double(model.encoder[0], x, "encoder/0")
        low = nnx.max_pool(skip, (2, 2), (2, 2))
        low = double(model.encoder[1], low, "encoder/1")
        up = model._rise(low, 0)
        skip = site("skip", skip)
        x = double(model.decoder[0], jnp.concatenate([skip, up], -1), "decoder/0")
        logits = site("head", model.head(x))
        return jnp.concatenate([0 * logits, logits], -1)[0], seen

    output = segmenter_of(model).output

    def value(put=None):
        return get_outcome(outcome).value(output, run(image[None], put)[0], target)

    base = value()
    seen = [run(other[None])[1] for other in others]
    return np.mean([value(put) - base for put in seen])


@pytest.mark.parametrize("outcome", ["dice", "soft_dice"])
def test_exact_effects_are_those_of_editing_the_model(outcome):
    model = unet()
    images, others = pictures(), dark(replacements=2)
    found = rows(explain(model, ComponentAte(outcome=outcome, batch_size=3), others=others))
    of = jax.tree.map(lambda leaf: leaf[0], targets(images))

    def expected(wanted, channel=None):
        def edit(name, own, other):
            if name != wanted:
                return own
            return other if channel is None else own.at[..., channel].set(other[..., channel])

        return brute_force(model, images[0], others[0], of, edit, outcome)

    effects = []
    for name, channel in [
        *[("encoder/0/conv1", c) for c in (None, 0, 1)],
        *[("encoder/1/conv2", c) for c in (None, 1)],
        *[("decoder/0/conv1", c) for c in (None, 0)],
        ("head", None),
    ]:
        effects.append(expected(name, channel))
        assert found[name, channel]["ate"] == pytest.approx(effects[-1], abs=1e-3)
    skip = expected("skip")
    assert found["encoder/0/conv2 -> decoder/0/conv1", None]["ate"] == pytest.approx(skip, abs=1e-3)
    assert np.ptp([*effects, skip]) > 1


def test_a_skip_that_nothing_reads_has_no_effect_and_one_alone_carries_all():
    model = unet()
    kernel = np.array(model.decoder[0].conv1.kernel[...])
    kernel[:, :, :2] = 0  # skip first
    model.decoder[0].conv1.kernel.set_value(jnp.array(kernel))
    found = rows(explain(model, ComponentAte(outcome="soft_dice", exact_channels=False)))
    assert found["encoder/0/conv2 -> decoder/0/conv1", None]["ate"] == pytest.approx(0, abs=1e-4)
    assert found["encoder/0/conv2", None]["ate"] == pytest.approx(found["head", None]["ate"])
    assert abs(found["head", None]["ate"]) > 0.5
    assert np.isnan(found["head", 0]["ate"])
    assert np.isfinite(found["head", 0]["first_order"])


def test_first_order_is_the_slope_of_the_exact_effect():
    model, step = unet(), 1e-3
    images = pictures()
    near = images[:, None] + step * (dark(replacements=1) - images[:, None])
    table = explain(
        model, ComponentAte(outcome="soft_dice"), images=images, others=near.astype(np.float32)
    )
    assert np.abs(table.mean_first_order).max() > 0.01
    np.testing.assert_allclose(table.ate, table.mean_first_order, atol=1e-4)


@pytest.mark.slow
def test_the_same_on_one_device_whatever_the_chunk():
    # A program for each part, all made alike: a layer and a skip connection stand for all.
    parts = ("encoder/0/conv2", "encoder/0/conv2 -> decoder/0/conv1")
    settings = ComponentAte(outcome="soft_dice", layers=parts)
    table = explain(unet(), dataclasses.replace(settings, batch_size=5))
    other = explain(unet(), settings, devices=jax.devices()[:1])
    np.testing.assert_allclose(table.effects, other.effects, atol=1e-4)
    np.testing.assert_allclose(table.first_order, other.first_order, atol=1e-4)


def test_errors_over_images_and_over_replacements():
    settings = ComponentAte(outcome="soft_dice", exact_channels=False, layers=("head",))
    images, others = pictures(3), dark(3, replacements=4)
    table = explain(unet(), settings, images=images, others=others)
    expected = np.std(table.effects[:, 0], ddof=1) / np.sqrt(3)
    assert table.standard_error[0] == pytest.approx(expected)
    first = table.of_images([0])
    assert first.standard_error[0] == pytest.approx(table.errors[0, 0])
    alone = explain(unet(), settings, images=images[:1], others=others[:1])
    np.testing.assert_allclose(alone.effects, first.effects, atol=1e-4)
    single = explain(unet(), settings, images=images[:1], others=others[:1, :1])
    assert np.isnan(single.standard_error[0])


def test_images_that_cannot_be_used_are_left_out():
    images = pictures(4)
    of = targets(images)
    of.reference[0], of.region[1] = False, False
    images[2, 0, 0] = np.nan
    settings = ComponentAte(exact_channels=False)
    table = explain(Tiny(), settings, images=images, of=of)
    assert table.statuses.tolist() == [
        Status.EMPTY_TARGET,
        Status.EMPTY_REGION,
        Status.NON_FINITE,
        Status.OK,
    ]
    assert np.isnan(table.effects[:3]).all()
    assert {row["num_images"] for row in table.records()} == {1}
    nothing = table.of_images([0, 1])
    assert np.isnan(nothing.ate).all()
    assert np.isnan(nothing.standard_error).all()


def test_the_csv_has_a_row_per_part(tmp_path):
    table = explain(Tiny(), ComponentAte(exact_channels=False))
    with open(write_csv(tmp_path / "components.csv", {"a": table, "b": table})) as file:
        found = list(csv.DictReader(file))
    assert [(row["class_name"], row["name"], row["kind"], row["channel"]) for row in found[:6]] == [
        ("a", "features", "layer", ""),
        ("a", "features", "channel", "0"),
        ("a", "features", "channel", "1"),
        ("a", "head", "layer", ""),
        ("a", "head", "channel", "0"),
        ("b", "features", "layer", ""),
    ]
    assert len(found) == 10
    assert float(found[0]["ate"]) == pytest.approx(-100, abs=1e-3)
    assert found[1]["ate"] == ""


def test_two_models_are_compared_part_by_part():
    one, other = (explain(model) for model in (Tiny(), Tiny()))
    agreement = compare_parts(one, other)
    assert agreement.num_effects == 2
    assert agreement.same_sign == 1
    assert compare_parts(one, other, kinds=("channel",)).spearman == pytest.approx(1)
    with pytest.raises(DataError, match="other parts"):
        compare_parts(one, explain(unet(), ComponentAte(exact_channels=False)))


def test_bad_inputs_are_refused():
    with pytest.raises(ConfigError, match="needs other images"):
        explain(Tiny(), others=None)
    with pytest.raises(ConfigError, match="needs other images"):
        explain(Tiny(), others=dark()[:, :0])
    with pytest.raises(ConfigError, match="no layer nose; the model has features, head"):
        explain(Tiny(), ComponentAte(layers=("nose",)))
    with pytest.raises(ConfigError, match=r"other images \(2, 2, 8, 8, 1\)"):
        explain(Tiny(), others=dark(count=2))
    with pytest.raises(ModelError, match="no convolution"):
        explain(models.bright_pixels)
    assert explain(Tiny(), ComponentAte(intervention="zero"), others=None).statuses[0] == Status.OK


def test_other_images_that_are_not_finite_are_a_status_of_the_image():
    others = dark(2)
    others[0, 1, 0, 0] = np.nan
    table = explain(Tiny(), ComponentAte(exact_channels=False), images=pictures(2), others=others)
    assert table.statuses.tolist() == [Status.NON_FINITE, Status.OK]


def test_a_table_is_of_the_parts_of_its_own_run():
    table = explain(Tiny(), ComponentAte(exact_channels=False))
    parts = {"names": table.names[:-1], "kinds": table.kinds[:-1], "channels": table.channels[:-1]}
    traces = {
        "ate": table.effects,
        "standard_error": table.errors,
        "first_order": table.first_order,
    }
    with pytest.raises(DataError, match=r"trace ate is \(1, 5\) for 1 images and 4 parts"):
        ComponentTable.of_results(parts, table.statuses, table.base, traces)
