"""What every metric keeps, in two ranks and on four devices.

A further metric is a line in `SETTINGS`.
"""

import dataclasses

import jax
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Meta
from jaxseg_xai.metrics import METRICS, score
from tests.explainers import models
from tests.support import batch_of, problem_of

#: Name -> settings that make it quick.
SETTINGS = {
    "energy_inside": {},
    "deletion": {"num_steps": 4, "block_size": 3},
}

SIZE = {2: (8, 10), 3: (4, 6, 5)}
META = Meta(unit="points", signed=True)
COUNT = 8


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


def test_contract(metric, case):
    problem, batch, explanations = case
    meta = metric.meta
    assert meta.headline in meta.scores
    assert type(metric).__doc__
    found = score(metric, problem, batch, explanations, meta=META, mesh=device_mesh())

    # What `meta` names comes out, in its range; NaN for what failed.
    assert set(found) == {*meta.scores, *meta.curves}
    low, high = (-np.inf if meta.range[0] is None else meta.range[0], meta.range[1] or np.inf)
    for name, values in found.items():
        values = np.asarray(values)
        assert values.dtype == np.float32
        assert values.shape[:1] == (COUNT,)
        assert values.ndim == (1 if name in meta.scores else 2)
        assert np.isnan(values[-1]).all()
        assert np.isfinite(values[:-1]).all()
        assert (low <= values[:-1]).all()
        assert (values[:-1] <= high).all()

    # One device as four, and neither the place in the batch nor what is beside it matters.
    mesh = device_mesh(jax.local_devices()[:1])
    alone = score(metric, problem, batch, explanations, meta=META, mesh=mesh)
    turned = jax.tree.map(lambda leaf: np.roll(leaf, 3, axis=0), (batch, explanations))
    elsewhere = score(metric, problem, *turned, meta=META, mesh=device_mesh())
    for name, values in found.items():
        np.testing.assert_allclose(alone[name], values, atol=1e-6)
        np.testing.assert_array_equal(elsewhere[name], np.roll(values, 3, axis=0))


def test_the_sign_is_that_of_the_method(metric, case):
    problem, batch, explanations = case
    turned = dataclasses.replace(explanations, attribution=-explanations.attribution)
    against = dataclasses.replace(META, high="against")
    mesh = device_mesh()
    one = score(metric, problem, batch, explanations, meta=META, mesh=mesh)
    other = score(metric, problem, batch, turned, meta=against, mesh=mesh)
    wrong = score(metric, problem, batch, turned, meta=META, mesh=mesh)
    headline = metric.meta.headline
    np.testing.assert_array_equal(one[headline], other[headline])
    assert np.abs(one[headline] - wrong[headline])[:-1].max() > 0.01


def test_what_cannot_be_judged(metric, case):
    problem, batch, explanations = case
    mesh = device_mesh()
    uncertainty = dataclasses.replace(META, unit="entropy", high="neither")
    with pytest.raises(ConfigError, match="judges maps of relevance, and entropy is none"):
        score(metric, problem, batch, explanations, meta=uncertainty, mesh=mesh)
    known = np.ones((COUNT, 3), bool)
    with pytest.raises(ConfigError, match="give one value a pixel"):
        score(metric, problem, batch, explanations, meta=META, mesh=mesh, known=known)
