import jax
import numpy as np
import pytest
import torch
from torch.backends import cuda, cudnn

from benchmarks.methods.base import peer_model
from benchmarks.peers.running import finished, inputs_per_call, torch_device, tuned_convolutions
from benchmarks.peers.unet import channels_first, channels_last, class_logits, tuned_copy
from jaxseg_xai.models import load_model
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _flags():
    before = cuda.matmul.fp32_precision, cudnn.conv.fp32_precision
    yield
    cuda.matmul.fp32_precision, cudnn.conv.fp32_precision = before


def test_the_device_is_that_of_jax(monkeypatch):
    assert torch_device().type == "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_device().type == "cuda"


@pytest.mark.parametrize("make", [lambda model: model, tuned_copy])
@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"),
    [("float32", "ieee", 1e-5), ("tensorfloat32", "tf32", 1e-5), ("bfloat16", "ieee", 0.1)],
)
def test_peers_compute_in_the_dtype_of_ours(dtype, precision, tolerance, make):
    bundle = load_model("triangle", dtype=dtype)
    model = make(peer_model(bundle))
    assert (cuda.matmul.fp32_precision, cudnn.conv.fp32_precision) == (precision, precision)
    number = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    assert {p.dtype for p in model.parameters()} == {number}
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    with torch.no_grad():
        found = class_logits(model(channels_first(images, model.device)))
    assert found.dtype == torch.float32
    expected = np.asarray(jax.jit(bundle.segmenter)(bundle.variables, images))
    bound = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), expected, rtol=0, atol=bound)


def test_gpus_take_more_inputs_at_a_time():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert inputs_per_call(cpu, (256, 256)) == inputs_per_call(cpu, (128, 128))
    assert inputs_per_call(gpu, (256, 256)) == 64
    assert inputs_per_call(gpu, (128, 128)) == 256
    assert inputs_per_call(gpu, (4096, 4096)) == inputs_per_call(gpu, (256, 256, 256)) == 1


def test_the_search_for_algorithms_is_for_the_tuned_peers_only():
    @tuned_convolutions()
    def run():
        return cudnn.benchmark

    assert not cudnn.benchmark
    assert run()
    assert run()
    assert not cudnn.benchmark


def test_both_memory_formats_hold_the_same():
    images = np.random.default_rng(0).random((2, 4, 6, 3), np.float32)
    first, last = channels_first(images), channels_last(images)
    assert first.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, last)
    assert finished(last) is last
