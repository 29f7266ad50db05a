"""Models of any rank as programs, traced once; and what is said of those that are none."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.devices.programs import compiled
from jaxseg_xai.program.cache import sites_of, traced_for_one
from jaxseg_xai.program.predict import predict_batch
from jaxseg_xai.program.sites import run_shifted
from jaxseg_xai.program.trace import trace
from tests.contracts import nets


@pytest.mark.parametrize("rank", nets.SIZES)
def test_a_program_computes_what_its_model_does_in_any_rank(rank):
    problem, images = nets.network(rank), nets.pictures(rank)
    program = traced_for_one(problem.segmenter, problem.variables, images.shape[1:])
    sites = sites_of(program)
    assert [site.name for site in sites] == ["first", "head"]
    zeros = [jnp.zeros(program.shapes[site.value].shape) for site in sites]
    logits, tensors = run_shifted(program, problem.variables, images[:1], sites, zeros)
    expected = problem.segmenter.logits(problem.variables, images[:1])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert [tensor.shape[1:] for tensor in tensors] == [
        (*nets.SIZES[rank], channels) for channels in (4, 3)
    ]


def test_a_model_is_traced_once_for_weights_of_the_same_shapes():
    problem = nets.network(2)
    program = traced_for_one(problem.segmenter, problem.variables, (8, 8, 1))
    before = nets.num_traced()
    again = nets.network(2)
    assert again.segmenter is not problem.segmenter
    doubled = jax.tree.map(lambda leaf: jnp.asarray(2 * leaf), again.variables)
    assert traced_for_one(again.segmenter, doubled, (8, 8, 1)) is program
    # Also where the weights are not known yet.
    jax.eval_shape(
        lambda v: traced_for_one(again.segmenter, v, (8, 8, 1)) is program or 1 / 0, doubled
    )
    assert nets.num_traced() == before
    assert traced_for_one(problem.segmenter, problem.variables, (8, 9, 1)) is not program


def test_what_is_kept_goes_by_the_settings_of_jax():
    problem = nets.network(2)
    lower = jax.jit(lambda x: x @ x).lower
    x = jnp.ones((2, 2), jnp.float32)
    kept = [compiled(lower, x)[0], traced_for_one(problem.segmenter, problem.variables, (8, 8, 1))]
    for setting in (
        jax.enable_x64(True),
        jax.default_matmul_precision("highest"),
        jax.default_device(jax.devices()[-1]),
    ):
        with setting:
            program, seconds = compiled(lower, x)
            traced = traced_for_one(problem.segmenter, problem.variables, (8, 8, 1))
        assert seconds > 0
        assert program is not kept[0]
        assert traced is not kept[1]
    assert compiled(lower, x) == (kept[0], 0)


#: In a process of its own: other tests would have to compile their programs again.
FREED = """
import gc, weakref
import numpy as np
import jaxseg_xai

class Net:
    def __call__(self, x):
        return 20 * (x - 0.5)

net = Net()
kept = weakref.ref(net)
model = jaxseg_xai.as_model(net, class_names=["dark", "bright"], channels=1)
image = np.random.default_rng(0).random((8, 8, 1)).astype(np.float32)
jaxseg_xai.explain(model, image, "bright", "integrated_gradients", num_nodes=1)
del model, net
gc.collect()
print(kept() is None)
jaxseg_xai.clear_caches()
gc.collect()
print(kept() is None)
"""


def test_models_are_freed_where_that_is_asked_for():
    run = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("rank", nets.SIZES)
def test_functions_that_give_no_logits_are_refused(rank):
    shape = (1, *nets.SIZES[rank], 1)
    axes = ", ".join(map(str, shape[:-1]))
    with pytest.raises(ModelError, match=rf"logits \[{axes}, K\], not 2 arrays"):
        trace(lambda variables, x: (x, x), (), shape, np.float32)
    with pytest.raises(ModelError, match=r"aligned with images .*; resize its output to the image"):
        trace(lambda variables, x: x[:, ::2], (), shape, np.float32)
    with pytest.raises(ModelError, match="do not depend on the image"):
        trace(lambda variables, x: jnp.ones(x.shape), (), shape, np.float32)


@pytest.mark.parametrize("rank", nets.SIZES)
def test_predictions_of_a_batch_on_all_devices(rank):
    problem = nets.network(rank)
    images = nets.pictures(rank).copy()
    images[3, ..., 0].flat[0] = np.inf
    found, finite = predict_batch(problem.segmenter, problem.variables, images, device_mesh())
    logits = problem.segmenter.logits(problem.variables, images)
    expected = problem.segmenter.output.prediction(logits)
    keep = np.arange(len(images)) != 3
    np.testing.assert_array_equal(np.asarray(found)[keep], np.asarray(expected)[keep])
    assert finite.tolist() == keep.tolist()
