"""Occlusion and Shapley values of models where they are known; windows change nothing."""

import functools
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import EXPLAINERS, explain
from jaxseg_xai.explainers.base import Example
from jaxseg_xai.explainers.perturbation.players import num_players, players_of
from jaxseg_xai.explainers.perturbation.shapley import shapley_values
from jaxseg_xai.ops.superpixels import slic
from tests.explainers import models
from tests.support import batch_of, problem_of

MESH = device_mesh(jax.devices()[:2])
#: Eight blocks of 2 x 2 pixels.
SHAPE, SIDE = (4, 8), 2
WEIGHTS = np.random.default_rng(1).normal(0.5, 1, (*SHAPE, 1)).astype(np.float32)
IMAGES = np.random.default_rng(0).uniform(0.2, 1, (2, *SHAPE, 1)).astype(np.float32)
OTHERS = np.random.default_rng(2).random((2, 2, *SHAPE, 1)).astype(np.float32)


def additive(variables, images):
    """The summed logits are linear in the image."""
    return models.two_classes((images * WEIGHTS)[..., 0])


def score_of(numpy, images):
    """Pixels of three blocks count only together, others less the more of them there are.

    Nothing of the blocks 3 and 5.
    """
    x = images.reshape(len(images), -1).T
    together = 3 * x[0] * x[5] * x[16] + numpy.tanh(x[2] + x[20] + x[23]) - x[30]
    return together + numpy.sqrt(1e-3 + x[9] + x[20]) + 1


def joint(variables, images):
    """The score everywhere."""
    return models.two_classes(score_of(jnp, images)[:, None, None] * jnp.ones(SHAPE))


EVERYWHERE = np.ones((2, *SHAPE), bool)


def run(name, model, images=IMAGES, region=None, reference=EVERYWHERE, mesh=MESH, **settings):
    settings = {"outcome": "summed_logits", "block_size": SIDE} | settings
    problem = model if not callable(model) else problem_of(model)
    batch = batch_of(problem, images, region=region, reference=reference, others=OTHERS)
    return explain(EXPLAINERS.get(name)(**settings), problem, batch, mesh=mesh)


def of_blocks(values):
    """[N, H, W], one value in all of a block, as [N, 8]."""
    values = np.asarray(values)
    whole = values.repeat(1, 0)[:, ::SIDE, ::SIDE]
    np.testing.assert_array_equal(whole.repeat(SIDE, 1).repeat(SIDE, 2), values)
    return whole.reshape(len(values), -1)


def block_sums(images):
    return images[..., 0].reshape(-1, 2, SIDE, 4, SIDE).sum((2, 4)).reshape(len(images), -1)


def hidden_by(baseline):
    mean = IMAGES.mean((1, 2), keepdims=True)
    blur = [ndimage.gaussian_filter(x[..., 0], 4 / 32, truncate=4, mode="nearest") for x in IMAGES]
    return {
        "zero": np.zeros_like(IMAGES),
        "mean": np.broadcast_to(mean, IMAGES.shape),
        "blur": np.stack(blur)[..., None],
        "others": OTHERS.mean(1),
    }[baseline]


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur", "others"])
def test_occlusion_of_a_linear_model_is_what_the_block_adds(baseline):
    found = run("occlusion", additive, baseline=baseline, num_others=2)
    expected = block_sums(WEIGHTS * (IMAGES - hidden_by(baseline)))
    np.testing.assert_allclose(of_blocks(found.attribution), expected, rtol=1e-4, atol=1e-5)
    assert found.scores["num_interventions"].tolist() == [8 * (1 + (baseline == "others"))] * 2


#: Of the Shapley methods: what evaluates all 256 coalitions, and what draws some.
EXACT = {"kernel_shap": {"num_samples": 256}, "shapley_sampling": {"num_pairs": 20}}
DRAWN = {"kernel_shap": {"num_samples": 200}, "shapley_sampling": {"num_pairs": 12}}


@pytest.mark.parametrize(
    ("name", "baseline"), [("kernel_shap", "zero"), ("shapley_sampling", "others")]
)
def test_draws_of_a_linear_model_are_already_exact(name, baseline):
    found = run(name, additive, baseline=baseline, num_others=2, **DRAWN[name])
    expected = block_sums(WEIGHTS * (IMAGES - hidden_by(baseline)))
    np.testing.assert_allclose(of_blocks(found.attribution), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.maps["standard_error"], 0, atol=1e-5)
    assert (np.asarray(found.scores["num_evaluations"]) < 2 * 256).all()


@functools.cache
def by_definition():
    """Shapley values [2, 8] of `joint` by all coalitions, in float64."""
    found = np.zeros((2, 8))
    blocks = np.arange(8).reshape(2, 4).repeat(SIDE, 0).repeat(SIDE, 1)[..., None]

    def value(players):
        shown = np.where(np.isin(blocks, players), IMAGES.astype(np.float64), 0)
        return 32 * score_of(np, shown)

    for i in range(8):
        others = [j for j in range(8) if j != i]
        for size in range(8):
            weight = 1 / (8 * math.comb(7, size))
            for some in itertools.combinations(others, size):
                found[:, i] += weight * (value([*some, i]) - value(some))
    return found


@pytest.mark.parametrize("name", EXACT)
def test_all_coalitions_give_the_shapley_values(name):
    found, expected = run(name, joint, **EXACT[name]), by_definition()
    values = of_blocks(found.attribution)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5 * expected.max())
    assert not np.asarray(found.maps["standard_error"]).any()
    whole, hidden = (np.asarray(found.scores[n]) for n in ("outcome", "hidden_outcome"))
    np.testing.assert_allclose(values.sum(1), whole - hidden, rtol=1e-5)
    np.testing.assert_allclose(hidden, 32 * (1 + math.sqrt(1e-3)), rtol=1e-5)
    assert found.scores["num_evaluations"].tolist() == [256, 256]
    assert not values[:, [3, 5]].any()


def test_equal_players_get_the_same_and_dummies_nothing():
    rng = np.random.default_rng(0)
    sizes = rng.normal(size=4)  # v depends on how many of the players 0, 1, 2 there are
    game = [sizes[bin(k & 7).count("1")] for k in range(16)]
    values = np.asarray(shapley_values(jnp.asarray(game, jnp.float32)))
    np.testing.assert_allclose(values[:3], (sizes[3] - sizes[0]) / 3, rtol=1e-5)
    assert values[3] == 0


@pytest.mark.parametrize("name", DRAWN)
def test_draws_are_within_their_errors(name):
    """Sixteen times the same image, each with draws of its own."""
    images = np.repeat(IMAGES[:1], 16, axis=0)
    everywhere = np.ones(images.shape[:-1], bool)
    others = np.broadcast_to(OTHERS[:1], (16, *OTHERS.shape[1:]))
    problem = problem_of(joint)
    batch = batch_of(problem, images, reference=everywhere, others=others)
    method = EXPLAINERS.get(name)(outcome="summed_logits", block_size=SIDE, **DRAWN[name])
    found = explain(method, problem, batch, mesh=MESH)
    values, errors = (of_blocks(x) for x in (found.attribution, found.maps["standard_error"]))
    off = np.abs(values - by_definition()[0])
    assert (off <= 3 * errors + 1e-4).mean() > 0.97
    assert (off.max(1) > 0.01).all()
    # The stated error is the spread of the sixteen.
    real = np.sqrt((off**2).mean(0))
    counts = real > 0.01
    assert counts.sum() >= 5
    ratio = np.sqrt((errors**2).mean(0))[counts] / real[counts]
    assert (ratio > 0.5).all()
    assert (ratio < 2).all()
    total = np.asarray(found.scores["outcome"] - found.scores["hidden_outcome"])
    np.testing.assert_allclose(values.sum(1), total, rtol=1e-5)


REFERENCE = Path(__file__).parents[1] / "reference/captum_perturbation.npz"


def test_captum_finds_the_same():
    """Its own network, see benchmarks/agree/captum_perturbation.py."""
    with np.load(REFERENCE) as file:
        theirs = dict(file)
    weights = [
        (np.transpose(theirs[f"{layer}_weight"], (2, 3, 1, 0)), theirs[f"{layer}_bias"])
        for layer in (0, 2, 4)
    ]

    def network(variables, x):
        for number, (kernel, bias) in enumerate(variables):
            x = jax.lax.conv_general_dilated(
                jax.nn.relu(x) if number else x,
                kernel,
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = x + bias
        return x

    problem = problem_of(network, weights, class_names=("a", "b", "c"))
    batch = batch_of(
        problem, theirs["image"][None, ..., None], class_index=int(theirs["class_index"])
    )
    found = {}
    for name in ("occlusion", "kernel_shap"):
        method = EXPLAINERS.get(name)(outcome="summed_logits", block_size=4)
        one = explain(method, problem, batch, mesh=device_mesh(jax.devices()[:1]))
        found[name] = np.asarray(one.attribution)[0, ::4, ::4].ravel()
    exact = found["kernel_shap"]
    for values, expected in ((found["occlusion"], "occlusion"), (exact, "shapley")):
        scale = np.abs(theirs[expected]).max()
        np.testing.assert_allclose(values, theirs[expected], rtol=1e-4, atol=1e-4 * scale)
    for drawn in ("ShapleyValueSampling", "KernelShap"):
        assert (np.abs(exact - theirs[f"{drawn}_mean"]) < 3 * theirs[f"{drawn}_error"]).all(), drawn
    assert np.abs(exact - found["occlusion"]).max() > 0.1 * exact.max()


def test_fewer_samples_than_players_are_refused():
    with pytest.raises(ConfigError, match=r"kernel_shap of 32 players, and num_samples is 64; gi"):
        run("kernel_shap", additive, block_size=1, num_samples=64)


#: Images of which a region of 6 x 6 pixels sees 10 x 10.
LARGE = np.random.default_rng(5).random((2, 24, 20, 1)).astype(np.float32)
REGION = np.zeros((2, 24, 20), bool)
REGION[0, 15:21, 2:8] = REGION[1, 0:6, 14:20] = True
NEAR = {
    "occlusion": {"block_size": 4},
    "rise": {"num_masks": 30, "grid": 4},
    "kernel_shap": {"block_size": 12},
    "shapley_sampling": {"block_size": 12},
}


def convolved(variables, images):
    """Two convolutions of 3 pixels a side with a ReLU between."""
    x = images
    for kernel in variables:
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x) if kernel is variables[0] else x
    return x


@functools.cache
def convolutions():
    rng = np.random.default_rng(6)
    shapes = ((3, 3, 1, 4), (3, 3, 4, 2))
    return problem_of(convolved, [rng.normal(size=s).astype(np.float32) for s in shapes])


def near(name, **settings):
    settings = {"outcome": "soft_dice"} | NEAR[name] | settings
    batch = batch_of(convolutions(), LARGE, region=REGION)
    method = EXPLAINERS.get(name)(**settings)
    return jax.device_get(explain(method, convolutions(), batch, mesh=MESH))


@pytest.mark.parametrize("name", NEAR)
def test_windows_change_nothing(name):
    found, whole = near(name, region_side=6), near(name)
    assert (found.status == Status.OK).all()
    np.testing.assert_allclose(found.attribution, whole.attribution, rtol=1e-4, atol=1e-3)
    assert np.ptp(whole.attribution) > 0.1
    np.testing.assert_allclose(found.scores["outcome"], whole.scores["outcome"], rtol=1e-5)
    if name == "occlusion":
        assert (found.scores["num_interventions"] <= 12).all()
        assert near(name, region_side=4).status.tolist() == [Status.REGION_TOO_LARGE] * 2


SLOW = pytest.mark.slow


@pytest.mark.parametrize("name", ["kernel_shap", pytest.param("shapley_sampling", marks=SLOW)])
def test_players_that_the_region_cannot_see_take_no_part(name):
    draws = {"block_size": 4, "num_samples": 400} if name == "kernel_shap" else {"block_size": 4}
    found, whole = near(name, region_side=6, **draws), near(name, **draws)
    assert whole.scores["num_players"].tolist() == [30, 30]
    players = found.scores["num_players"]
    assert players.tolist() == [9, 4]
    if name == "shapley_sampling":
        np.testing.assert_array_equal(found.scores["num_evaluations"], 1 + 16 * (players - 1))
    far = np.ones_like(REGION)
    far[0, 12:24, 0:12] = far[1, 0:8, 12:20] = False
    assert not found.attribution[far].any()
    assert not found.maps["standard_error"][far].any()
    limit = 4 * np.hypot(found.maps["standard_error"], whole.maps["standard_error"]) + 1e-3
    assert (np.abs(found.attribution - whole.attribution) <= limit).mean() > 0.98


@pytest.mark.slow
def test_a_method_can_be_vmapped_by_itself():
    problem, method = problem_of(joint), EXPLAINERS.get("kernel_shap")(block_size=4)
    batch = batch_of(problem, IMAGES)
    together = explain(method, problem, batch, mesh=MESH)

    def one(image, target, image_id):
        logits = problem.segmenter.logits((), image[None])[0]
        example = Example(
            image=image, target=target, image_id=image_id, key=problem.key, logits=logits
        )
        return method.explain_one(problem, example).attribution

    alone = jax.jit(jax.vmap(one))(batch.images, batch.targets, batch.image_ids)
    np.testing.assert_allclose(alone, together.attribution, rtol=1e-5, atol=1e-5)


def test_superpixels_follow_the_borders_of_the_image():
    y, x = np.mgrid[:20, :24]
    border = x > 9 + 0.3 * y
    noise = np.random.default_rng(0).normal(0, 0.02, border.shape)
    image = jnp.asarray(np.where(border, 0.9, 0.1) + noise, jnp.float32)[..., None]
    superpixels = jax.jit(slic, static_argnums=1)
    labels = np.asarray(superpixels(image, 6))
    assert labels.min() >= 0
    assert labels.max() < 16
    inside = np.bincount(labels.ravel(), border.ravel(), 16)
    whole = np.bincount(labels.ravel(), minlength=16)
    mixed = np.minimum(inside, whole - inside)
    blocks = (y // 6) * 4 + x // 6
    within = np.bincount(blocks.ravel(), border.ravel(), 16)
    assert np.minimum(within, np.bincount(blocks.ravel()) - within).sum() > 25
    assert mixed.sum() < 8
    assert (whole > 0).sum() >= 12
    # A volume of the same slices has the same superpixels in each of them.
    volume = np.asarray(superpixels(jnp.repeat(image[None], 3, axis=0), 6))
    assert all((one == volume[0]).all() for one in volume)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_labels_are_the_classes_that_the_model_sees(activation):
    output = OutputSpec(class_names=("a", "b", "c"), activation=activation)
    logits = jnp.array([[[1.0, -1, -1], [1, 2, -1], [-3, -2, -1]]])
    example = Example(
        image=jnp.zeros((1, 3, 1)), target=None, image_id=None, key=None, logits=logits
    )
    found = players_of("labels", 4, example, logits, output).tolist()
    assert found == ([[0, 1, 2]] if activation == "softmax" else [[1, 2, 0]])
    assert num_players("labels", 4, (1, 3), output) == (3 if activation == "softmax" else 4)


@pytest.mark.parametrize("players", [pytest.param("superpixels", marks=SLOW), "labels"])
def test_other_players_add_up_and_share_a_value(players):
    method = EXPLAINERS.get("kernel_shap")(players=players, block_size=12, outcome="soft_dice")
    batch = batch_of(convolutions(), LARGE, region=REGION)
    found = jax.device_get(explain(method, convolutions(), batch, mesh=MESH))
    assert (found.status == Status.OK).all()
    for one, total in zip(
        found.attribution, found.scores["outcome"] - found.scores["hidden_outcome"], strict=True
    ):
        values = np.unique(one)
        assert len(values) <= (4 if players == "superpixels" else 2)
        assert values.sum() == pytest.approx(total, rel=1e-4)


@pytest.mark.slow
def test_no_result_depends_on_how_many_copies_are_evaluated_together():
    for name in NEAR:
        few, many = near(name, batch_size=2), near(name, batch_size=64)
        np.testing.assert_allclose(few.attribution, many.attribution, rtol=1e-4, atol=1e-3)
