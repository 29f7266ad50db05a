"""What every method keeps of images that end with padding: it is shown as it is, or not at all.

A further method is an entry in `settings.METHODS`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.explainers.runner import explain
from jaxseg_xai.metrics.faithfulness.deletion import Deletion
from jaxseg_xai.metrics.runner import score
from tests.contracts import nets
from tests.contracts.settings import METHODS

#: Of the images without padding, and what the padding holds.
OWN, PADDING = (6, 7), 0.3
INSIDE = np.zeros(nets.SIZES[2], bool)
INSIDE[: OWN[0], : OWN[1]] = True
COUNT = 4


@dataclasses.dataclass(frozen=True)
class Guarded:
    """A network that gives NaN for an image whose padding is neither as it was nor black."""

    network: nets.TwoLayers

    def __call__(self, variables, x):
        inside, axes = INSIDE[..., None], (1, 2, 3)
        same = jnp.all(inside | (x == np.float32(PADDING)), axis=axes)
        black = jnp.all(inside | (x == 0), axis=axes)
        logits = self.network(variables, x)
        return logits * jnp.where(same | black, 1.0, jnp.nan)[:, None, None, None]


def padded(explainer, *, told=True):
    """A problem with a guarded network, and images with padding; without `told` nobody says so."""
    problem = nets.problem_for(explainer, 2)
    segmenter = problem.segmenter.replace(apply=Guarded(problem.segmenter.apply))
    problem = dataclasses.replace(problem, segmenter=segmenter)
    batch = jax.tree.map(lambda leaf: leaf[:COUNT].copy(), nets.batch_for(explainer, problem))
    images = np.where(INSIDE[..., None], batch.images, np.float32(PADDING))
    segments = segmenter.output.segment_of(segmenter.logits(problem.variables, images), 1)
    targets = dataclasses.replace(
        batch.targets,
        region=np.asarray(batch.targets.region) & INSIDE,
        reference=np.asarray(segments) & INSIDE,
    )
    sizes = np.tile(np.array(OWN, np.int32), (COUNT, 1)) if told else None
    return problem, dataclasses.replace(batch, images=images, targets=targets, sizes=sizes)


def status_of(name, *, told):
    explainer = EXPLAINERS.get(name)(**METHODS[name].settings)
    problem, batch = padded(explainer, told=told)
    found = explain(explainer, problem, batch, mesh=device_mesh())
    return set(np.asarray(found.status).tolist()), found


# The views of "confidence" are those of the padded image.
@pytest.mark.parametrize("name", [name for name in EXPLAINERS.names() if name != "confidence"])
def test_no_method_changes_the_padding(name):
    statuses, found = status_of(name, told=True)
    assert statuses <= {Status.OK, Status.NOT_REACHED}
    for region in ("sufficient_region", "minimal_region", "significant"):
        if region in found.maps:
            assert not (np.asarray(found.maps[region]) & ~INSIDE).any() or region == "significant"


@pytest.mark.parametrize("name", ["ate", "integrated_gradients", "rise"])
def test_the_network_notices_who_does(name):
    assert status_of(name, told=False)[0] == {Status.NON_FINITE}


@pytest.mark.parametrize("perturbation", ["mean", "blur", "noise"])
def test_what_is_made_of_the_image_is_made_of_its_own_pixels(perturbation):
    explainer = EXPLAINERS.get("ate")(block_size=2, perturbation=perturbation, num_patches=2)
    problem, batch = padded(explainer)
    other = dataclasses.replace(batch, images=np.where(INSIDE[..., None], batch.images, 7.0))
    one, two = (explainer.draw(problem, given) for given in (batch, other))
    np.testing.assert_array_equal(one.patches, two.patches)


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_deletion_deletes_all_that_is_the_image_and_nothing_else(baseline):
    explainer = EXPLAINERS.get("smooth_grad")(**METHODS["smooth_grad"].settings)
    problem, batch = padded(explainer)
    mesh = device_mesh()
    found = explain(explainer, problem, batch, mesh=mesh)
    metric = Deletion(num_steps=3, block_size=2, baseline=baseline)
    scores = score(metric, problem, batch, found, meta=explainer.meta, mesh=mesh)
    curve = np.asarray(scores["curve"])
    assert np.isfinite(curve).all()
    assert (curve[:, 0] == 1).all()
    assert (curve[:, -1] < 1).all()
