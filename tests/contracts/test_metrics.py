"""What every metric keeps, in two ranks and on four devices.

A further metric is a line in `SETTINGS`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Explainer, Meta, Parts
from jaxseg_xai.metrics import METRICS, score
from tests.explainers import models
from tests.support import batch_of, problem_of

#: Name -> settings that make it quick.
SETTINGS = {
    "energy_inside": {},
    "deletion": {"num_steps": 4, "block_size": 3},
    "rounding_stability": {"num_again": 2},
}

SIZE = {2: (8, 10), 3: (4, 6, 5)}
META = Meta(unit="points", signed=True)
COUNT = 8


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
def case(request):
    """A problem, a batch, and explanations of it: a random map each, the last one failed."""
    rank = request.param
    rng = np.random.default_rng(0)
    images = rng.random((COUNT, *SIZE[rank], 1), np.float32)
    problem = problem_of(models.bright_pixels, rank=rank)
    status = np.full(COUNT, Status.OK, np.int32)
    status[-1] = Status.NON_FINITE
    explanations = Explanation(
        attribution=rng.normal(size=images.shape[:-1]).astype(np.float32), status=status
    )
    return problem, batch_of(problem, images), explanations


def bounds_of(metric):
    """The range of its values."""
    low, high = metric.meta.range
    return (-np.inf if low is None else low, np.inf if high is None else high)


def judge(metric, problem, batch, explanations, meta=META, mesh=None, **options):
    """Scores on four devices; what is explained again has the sign that `meta` says."""
    explainer = Brightness(factor=-1.0 if meta.high == "against" else 1.0)
    mesh, options = mesh or device_mesh(), {"meta": meta, "explainer": explainer} | options
    return score(metric, problem, batch, explanations, mesh=mesh, **options)


def test_contract(metric, case):
    problem, batch, explanations = case
    meta = metric.meta
    assert meta.headline in meta.scores
    assert type(metric).__doc__
    assert ("explain" in meta.needs) == (metric.num_explanations > 0)
    found = judge(metric, problem, batch, explanations)

    # What `meta` names comes out, in its range; NaN for what failed.
    assert set(found) == {*meta.scores, *meta.curves}
    low, high = bounds_of(metric)
    for name, values in found.items():
        values = np.asarray(values)
        assert values.dtype == np.float32
        assert values.shape[:1] == (COUNT,)
        assert values.ndim == (1 if name in meta.scores else 2)
        assert np.isnan(values[-1]).all()
        assert np.isfinite(values[:-1]).all()
        assert (low <= values[:-1]).all()
        assert (values[:-1] <= high).all()

    # Neither the place in the batch nor what is beside it matters, and one device is as four.
    turned = jax.tree.map(lambda leaf: np.roll(leaf, 3, axis=0), (batch, explanations))
    elsewhere = judge(metric, problem, *turned)
    for name, values in found.items():
        np.testing.assert_array_equal(elsewhere[name], np.roll(values, 3, axis=0))
    if problem.segmenter.input.rank == 2:  # another program
        mesh = device_mesh(jax.local_devices()[:1])
        alone = judge(metric, problem, batch, explanations, mesh=mesh)
        for name, values in found.items():
            np.testing.assert_allclose(alone[name], values, atol=1e-6)


def test_the_sign_is_that_of_the_method(metric, case):
    problem, batch, explanations = case
    turned = dataclasses.replace(explanations, attribution=-explanations.attribution)
    against = dataclasses.replace(META, high="against")
    one = judge(metric, problem, batch, explanations)
    other = judge(metric, problem, batch, turned, against)
    wrong = judge(metric, problem, batch, turned)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
    off = max(np.abs(values - wrong[name])[:-1].max() for name, values in one.items())
    assert (off > 0.01) == metric.meta.signed


def test_constant_maps_and_maps_that_are_not_finite(metric, case):
    """A number in the range or NaN of the first, which the docstring says; NaN of the others."""
    problem, batch, explanations = case
    maps = np.zeros_like(explanations.attribution)
    maps[1], maps[2], maps[3, 0] = 0.5, np.nan, np.inf
    found = judge(metric, problem, batch, Explanation(attribution=maps, status=np.zeros(COUNT)))
    low, high = bounds_of(metric)
    for values in map(np.asarray, found.values()):
        assert np.isnan(values[2:4]).all()
        assert not np.isinf(values).any()
        assert not (values < low).any()
        assert not (values > high).any()


def test_what_cannot_be_judged(metric, case):
    problem, batch, explanations = case
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
