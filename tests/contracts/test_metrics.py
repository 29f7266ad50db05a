"""What every metric keeps, in two ranks and on four devices.

A further metric is a line in `SETTINGS`. All are judged by one program a rank, which takes a tenth
of the time of a program each.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Explainer, Meta, Parts
from jaxseg_xai.metrics import METRICS, score, score_all
from jaxseg_xai.metrics.runner import score_by_all
from tests.explainers import models
from tests.support import batch_of, problem_of

#: Name -> settings that make it quick.
SETTINGS = {
    "deletion": {"num_steps": 4, "block_size": 3},
    "insertion": {"num_steps": 4, "block_size": 3},
    "aopc": {"num_steps": 4, "block_size": 3},
    "abpc": {"num_steps": 4, "block_size": 3},
    "off_target_leakage": {"num_steps": 4, "block_size": 3},
    "pixel_flipping": {"num_steps": 3},
    "sufficiency": {},
    "minimality": {},
    "average_drop": {},
    "average_increase": {},
    "average_gain": {},
    "mu_fidelity": {"num_subsets": 6, "block_size": 2},
    "infidelity": {"num_subsets": 6, "block_size": 2},
    "road": {"num_steps": 3},
    "irof": {"num_segments": 4},
    "pointing_game": {},
    "energy_inside": {},
    "relevance_rank_accuracy": {},
    "iou_at_area": {},
    "auroc": {},
    "sparseness": {},
    "complexity": {},
    "rounding_stability": {"num_again": 2},
    "max_sensitivity": {"num_again": 2},
    "randomisation": {"num_stages": 2},
}

SIZE = {2: (8, 10), 3: (4, 6, 5)}
META = Meta(unit="points", signed=True)
COUNT = 8
#: Metrics that explain again.
AGAIN = [name for name in SETTINGS if "explain" in METRICS.get(name).meta.needs]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness(Explainer):
    """The image less a half, times a factor: for metrics that explain again."""

    name = "brightness"
    meta = META
    factor: float = 1.0

    def explain_one(self, problem, example):
        return Parts(attribution=self.factor * (jnp.sum(example.image, axis=-1) - 0.5))


def test_every_built_in_metric_is_here():
    assert list(SETTINGS) == list(METRICS.built_in)


@pytest.fixture(params=SETTINGS)
def metric(request):
    return METRICS.get(request.param)(**SETTINGS[request.param])


@pytest.fixture(params=[2, 3], ids="{}-D".format)
def rank(request):
    return request.param


def weighed(variables, images):
    """`models.bright_pixels` with weights, so that a model can be randomised."""
    return variables["head"]["scale"][0] * models.bright_pixels((), images)


@functools.cache
def case(rank):
    """A problem, a batch, and explanations of it: a random map each, the last one failed."""
    rng = np.random.default_rng(0)
    images = rng.random((COUNT, *SIZE[rank], 1), np.float32)
    weights = {"head": {"scale": np.array([1.0, 0.3], np.float32)}}
    problem = problem_of(weighed, weights, rank=rank)
    status = np.full(COUNT, Status.OK, np.int32)
    status[-1] = Status.NON_FINITE
    explanations = Explanation(
        attribution=rng.normal(size=images.shape[:-1]).astype(np.float32), status=status
    )
    return problem, batch_of(problem, images), explanations


@functools.cache
def judged(rank, how):
    """Scores of all metrics; what is explained again has the sign that `meta` says."""
    problem, batch, explanations = case(rank)
    sign, mesh, high = 1.0, device_mesh(), "for"
    match how:
        case "moved":
            batch, explanations = jax.tree.map(
                lambda leaf: np.roll(leaf, 3, axis=0), (batch, explanations)
            )
        case "on one device":
            mesh = device_mesh(jax.local_devices()[:1])
        case "turned":
            sign, high = -1.0, "against"
        case "wrong":
            sign = -1.0
        case "padded":
            batch, explanations = padded(batch, explanations)
        case "constant":
            maps = np.zeros_like(explanations.attribution)
            maps[1], maps[2], maps[3, 0] = 0.5, np.nan, np.inf
            explanations = Explanation(attribution=maps, status=np.zeros(COUNT, np.int32))
    turned = dataclasses.replace(explanations, attribution=sign * explanations.attribution)
    found = score_all(
        {name: METRICS.get(name)(**settings) for name, settings in SETTINGS.items()},
        problem,
        batch,
        turned,
        meta=dataclasses.replace(META, high=high),
        mesh=mesh,
        explainer=Brightness(factor=-1.0 if high == "against" else 1.0),
    )
    return jax.tree.map(np.asarray, found)


def padded(batch, explanations):
    """The same images and maps with rubbish at the end of each axis."""

    def wider(leaf, value):
        return np.pad(leaf, [(0, 0), (0, 1), (0, 3), *[(0, 0)] * (leaf.ndim - 3)], **value)

    more, targets = {"mode": "edge"}, batch.targets
    batch = dataclasses.replace(
        batch,
        images=wider(batch.images, more),
        targets=jax.tree.map(lambda leaf: wider(leaf, {}) if leaf.ndim > 2 else leaf, targets),
        sizes=np.full((COUNT, 2), SIZE[2], np.int32),
    )
    maps = wider(explanations.attribution, {"constant_values": 7.0})
    return batch, dataclasses.replace(explanations, attribution=maps)


def bounds_of(metric):
    """The range of its values."""
    low, high = metric.meta.range
    return (-np.inf if low is None else low, np.inf if high is None else high)


def test_contract(metric, rank):
    meta = metric.meta
    assert meta.headline in meta.scores
    assert type(metric).__doc__
    assert ("explain" in meta.needs) == (metric.num_explanations > 0)
    found = judged(rank, "as it is")[metric.name]

    # What `meta` names comes out, in its range; NaN for what failed.
    assert set(found) == {*meta.scores, *meta.curves}
    low, high = bounds_of(metric)
    for name, values in found.items():
        assert values.dtype == np.float32
        assert values.shape[:1] == (COUNT,)
        assert values.ndim == (1 if name in meta.scores else 2)
        assert np.isnan(values[-1]).all()
        assert np.isfinite(values[:-1]).all()
        assert (low <= values[:-1]).all()
        assert (values[:-1] <= high).all()

    # Neither the place in the batch nor what is beside it matters, and one device is as four.
    for name, values in judged(rank, "moved")[metric.name].items():
        np.testing.assert_array_equal(values, np.roll(found[name], 3, axis=0))
    if rank == 2:  # another program
        for name, values in judged(rank, "on one device")[metric.name].items():
            np.testing.assert_allclose(values, found[name], atol=1e-5)


def test_the_sign_is_that_of_the_method(metric, rank):
    one = judged(rank, "as it is")[metric.name]
    for name, values in judged(rank, "turned")[metric.name].items():
        np.testing.assert_array_equal(values, one[name])
    wrong = judged(rank, "wrong")[metric.name]
    off = max(np.abs(values - wrong[name])[:-1].max() for name, values in one.items())
    assert (off > 0.01) == metric.meta.signed


#: What they draw, or where their superpixels begin, depends on the size with the padding.
OTHERWISE = ("mu_fidelity", "infidelity", "road", "irof", "max_sensitivity")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in OTHERWISE])
def test_padding_is_not_judged(name):
    found = judged(2, "padded")[name]
    for key, values in judged(2, "as it is")[name].items():
        np.testing.assert_allclose(found[key], values, atol=1e-5)


def test_constant_maps_and_maps_that_are_not_finite(metric, rank):
    """A number in the range, or NaN, of the first, as the docstring says; NaN of the others."""
    low, high = bounds_of(metric)
    for values in judged(rank, "constant")[metric.name].values():
        assert np.isnan(values[2:4]).all()
        assert not np.isinf(values).any()
        assert not (values < low).any()
        assert not (values > high).any()


def test_forward_passes_are_as_many_as_it_says(metric):
    assert passes({metric.name: metric}, (8, 10)) <= metric.num_passes
    assert passes({metric.name: metric}, (8, 10)) >= 0.8 * metric.num_passes


def test_all_together_cost_no_more_than_they_may():
    metrics = {name: METRICS.get(name)() for name in METRICS.built_in}
    alone = sum(metric.num_passes for metric in metrics.values())
    together = passes(metrics, (128, 128))
    assert (together, alone) == (147, 284)  # as docs/guide/metrics.md says; 190 are allowed


def passes(metrics, size):
    """Forward passes of one image beside its own, counted in the traced program."""

    def apply(variables, images):
        return models.bright_pixels(variables, jax.lax.digamma(images))

    problem = problem_of(apply)
    image = np.zeros((*size, 1), np.float32)
    plane = np.ones(size, bool)
    target = SegmentTarget(class_index=np.int32(1), region=plane, reference=plane)
    explanation = Explanation(attribution=image[..., 0], status=np.int32(0))
    again = Explanation(attribution=image[None, ..., 0], status=np.zeros(1, np.int32))

    def judge(image):
        asked = (image, target, np.zeros(2, np.uint32), explanation, plane, None)
        return score_by_all(metrics, problem, 1.0, *asked, dict.fromkeys(AGAIN, again))

    return count_of("digamma", jax.make_jaxpr(judge)(image).jaxpr) - 1


def count_of(primitive, jaxpr):
    """How often a primitive is run, the rounds of loops counted."""
    total = 0
    for equation in jaxpr.eqns:
        rounds = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        total += equation.primitive.name == primitive
        for inside in jaxprs_in_params(equation.params):
            total += rounds * count_of(primitive, inside)
    return total


def test_what_cannot_be_judged(metric):
    problem, batch, explanations = case(2)
    mesh = device_mesh()
    uncertainty = dataclasses.replace(META, unit="entropy", high="neither")
    with pytest.raises(ConfigError, match="judges maps of relevance, and entropy is none"):
        score(metric, problem, batch, explanations, meta=uncertainty, mesh=mesh)
    known = np.ones((COUNT, 3), bool)
    with pytest.raises(ConfigError, match="give one value a pixel"):
        score(metric, problem, batch, explanations, meta=META, mesh=mesh, known=known)
    if "explain" in metric.meta.needs:
        with pytest.raises(ConfigError, match="give the method that made the maps, explainer="):
            score(metric, problem, batch, explanations, meta=META, mesh=mesh)
