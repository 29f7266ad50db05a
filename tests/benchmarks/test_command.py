import dataclasses
import importlib.util

import jax
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.cases import CASES
from benchmarks.harness import prepare
from benchmarks.record import Measurement
from benchmarks.settings import Flags
from tests.benchmarks import made_up


def test_list_names_every_case(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in CASES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fly"], "unknown command 'fly'"),
        (["run"], "unknown case (none given); there is all, unet-forward, ate"),
        (["run", "ate", "nothing"], "unknown case nothing"),
        (["run", "ate", "--size", "0"], "--size is 0"),
        (["run", "ate", "--repetitions", "-1"], "--repetitions is -1"),
        (["run", "ate", "--devices", "9999"], "--devices is 9999"),
        (["run", "misure", "--devices", "2", "--lanes", "3"], "--lanes is 3"),
        (["run", "ate", "--model", "brain", "--width", "8"], "--width is for --model random"),
        (["run", "ate", "--model", "nowhere"], "nowhere: no such model"),
        (["run", "sweep", "--peer", "tuned"], "case sweep has no PyTorch peer"),
        (["run", "all", "--peer", "tuned"], "case ate-screen has no PyTorch peer"),
        (["run", "sweep", "--devices", "1"], "case sweep uses all"),
        (["report", "nowhere.json"], "nowhere.json: No such file"),
        (["report"], "report needs a record"),
    ],
)
def test_bad_input_is_one_line(arguments, says, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_peer_without_pytorch_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["run", "ate", "--peer", "tuned"]) == 2
    assert "pip install 'jaxseg-xai[peers]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("platform", "cuda", "says"),
    [
        ("tpu", False, "not on a tpu: use --peer none, or set JAX_PLATFORMS=cpu"),
        ("gpu", False, "install a CUDA build of PyTorch, use --peer none, or set JAX_PLATFORMS"),
        ("gpu", True, "add --devices 1, or use --peer none"),
    ],
)
def test_a_peer_that_cannot_run_where_ours_does(platform, cuda, says, monkeypatch, capsys):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert main(["run", "unet-forward", "--devices", "2", "--peer", "tuned"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_peer_on_one_gpu_is_accepted(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert prepare(CASES["ate"], Flags(peer="all", devices=1)).peers == ("original", "tuned")


def test_a_bug_is_not_taken_for_a_failed_validation(monkeypatch, capsys):
    def broken(settings, mesh):
        raise RuntimeError("oh")

    monkeypatch.setitem(CASES, "ate", dataclasses.replace(CASES["ate"], run=broken))
    assert main(["run", "ate", "--quick"]) == 70
    assert "this is a bug" in capsys.readouterr().err


def test_a_wrong_result_has_an_exit_code(monkeypatch, capsys):
    record = made_up.record()
    names = [field.name for field in dataclasses.fields(Measurement)]
    measured = Measurement(**{name: getattr(record, name) for name in names})
    for passed, code in ((True, 0), (False, 1)):
        verdict = dataclasses.replace(measured.validation, passed=passed)
        found = dataclasses.replace(measured, validation=verdict)
        case = dataclasses.replace(CASES["ate"], run=lambda settings, mesh, found=found: found)
        monkeypatch.setitem(CASES, "ate", case)
        assert main(["run", "ate", "--quick"]) == code
    assert "NOT VALID" in capsys.readouterr().out


def test_the_cases_of_the_ate_differ_in_size_only():
    assert CASES["ate-512"].run is CASES["ate"].run
    assert CASES["ate-512"].defaults == dataclasses.replace(CASES["ate"].defaults, size=512)
