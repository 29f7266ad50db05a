import jax
import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.agree import published_nets
from benchmarks.agree.published_nets import PublishedNet
from benchmarks.harness.record import read_records
from benchmarks.methods.inputs import Pictures
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def one_logit(module):
    net = module.bilinear()
    net.outc["conv"] = torch.nn.Conv2d(4, 1, 1)
    return net


TINY = PublishedNet("tests.reference.zoo.unet_torch", one_logit, size=(32, 32), architecture="unet")


def test_ours_has_the_weights_of_the_published_code():
    net = TINY.make()
    bundle, pictures = TINY.bundle(net), Pictures(32, 3)
    images = np.stack([pictures[i].image for i in range(4)])
    with torch.inference_mode():
        expected = net(torch.from_numpy(images).movedim(-1, 1)).movedim(1, -1).numpy()
    found = jax.jit(bundle.segmenter.apply)(bundle.variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # Made to look trained on these very images.
    assert expected.std() == pytest.approx(1, abs=1e-3)
    assert (expected > 0).mean() == pytest.approx(0.03, abs=1e-3)


def test_code_that_is_not_there_is_one_line(capsys):
    command = ["run", "ate", "--model", "torch:PdCR hrnet", "--peer", "original"]
    assert main(command) == 2
    assert "seg_model.model_zoo.hrnet" in (line := capsys.readouterr().err)
    assert "PYTHONPATH" in line
    assert line.count("\n") == 1
    assert main(["run", "ate", "--model", "torch:PdCR hrnett"]) == 2
    assert "no network 'PdCR hrnett'" in capsys.readouterr().err


@pytest.mark.slow
def test_ate_against_the_published_code(tmp_path, monkeypatch):
    monkeypatch.setattr(published_nets, "PUBLISHED", {"tiny": TINY})
    file = tmp_path / "a.json"
    flags = ["--quick", "--size", "64", "--blocks", "4", "--repetitions", "1", "--json", str(file)]
    assert main(["run", "ate", "--model", "torch:tiny", "--peer", "original", *flags]) == 0
    [record] = read_records(file)
    assert record.ratios["original"] > 0
    assert 0 < record.validation.measured["logits: largest difference"] < 1e-4
