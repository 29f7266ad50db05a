import dataclasses
import importlib.util
import json
import re

import jax
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.harness import run
from benchmarks.harness.record import Measurement
from benchmarks.harness.run import prepare
from benchmarks.harness.settings import Flags
from benchmarks.methods import CASES
from benchmarks.methods.base import Case
from jaxseg_xai.devices.mesh import device_mesh
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
        (["run", "ate", "--size", "0"], "size is 0; it must be at least 1"),
        (["run", "ate", "--repetitions", "-1"], "repetitions is -1"),
        (["run", "ate", "--devices", "9999"], "--devices is 9999"),
        (["run", "misure", "--devices", "2", "--lanes", "3"], "--lanes is 3"),
        (["run", "ate", "--model", "brain", "--width", "8"], "--width is for --model random"),
        (["run", "ate", "--model", "nowhere"], "nowhere: no such model"),
        (["run", "ate", "--model", "torch:no net"], "no network 'no net'; there is MONAI UNet,"),
        (
            ["run", "ate", "--model", "torch:smp Unet", "--peer", "tuned"],
            "torch:smp Unet: only the U-Net is tuned; use --peer original",
        ),
        (["run", "sweep", "--peer", "tuned"], "case sweep has no PyTorch peer"),
        (
            ["run", "grad-cam", "--peer", "compiled"],
            "grad-cam has no compiled PyTorch peer; use --",
        ),
        (["accelerator", "--budget", "5"], "--budget is 5 s; the first case needs at least 20 s"),
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class MadeUp(Case):
    """Measures nothing."""

    passed: bool | None = None

    def run(self, settings, mesh):
        if self.passed is None:
            raise RuntimeError("oh")
        record = made_up.record()
        found = {f.name: getattr(record, f.name) for f in dataclasses.fields(Measurement)}
        verdict = dataclasses.replace(record.validation, passed=self.passed)
        return Measurement(**found | {"validation": verdict})


def replace_ate(monkeypatch, passed):
    about = {f.name: getattr(CASES["ate"], f.name) for f in dataclasses.fields(Case)}
    monkeypatch.setitem(CASES, "ate", MadeUp(**about, passed=passed))


@pytest.fixture
def machine(tmp_path):
    """A file that spares measuring the machine."""
    kind, count = jax.devices()[0].device_kind, jax.local_device_count()
    known = dataclasses.replace(made_up.MACHINE, device_kind=kind, num_devices=count)
    (tmp_path / "machine.json").write_text(json.dumps(dataclasses.asdict(known)))
    return ["--machine", str(tmp_path / "machine.json")]


def test_a_bug_is_not_taken_for_a_failed_validation(monkeypatch, capsys):
    replace_ate(monkeypatch, None)
    assert main(["run", "ate", "--quick"]) == 70
    assert "this is a bug" in capsys.readouterr().err


def test_a_wrong_result_has_an_exit_code_and_a_reason(monkeypatch, capsys, machine):
    for passed, code in ((True, 0), (False, 1)):
        replace_ate(monkeypatch, passed)
        assert main(["run", "ate", "--quick", *machine]) == code
    assert re.search("NOT VALID: 3e-06 Dice points.*\n  rounding", capsys.readouterr().out)


def test_the_cases_of_the_ate_differ_in_size_only():
    large, usual = CASES["ate-512"], CASES["ate"]
    assert large.defaults == dataclasses.replace(usual.defaults, size=512)
    assert large == dataclasses.replace(
        usual, **{name: getattr(large, name) for name in ("name", "about", "defaults", "quick")}
    )


def test_the_speed_of_the_machine_is_measured_once(tmp_path, monkeypatch):
    calls = []

    def measured(mesh, *, quick):
        calls.append(quick)
        kind = mesh.devices.flat[0].device_kind
        return dataclasses.replace(made_up.MACHINE, device_kind=kind, num_devices=mesh.size)

    monkeypatch.setattr(run, "describe_machine", measured)
    file = tmp_path / "machine.json"
    one, two = (device_mesh(jax.devices()[:count]) for count in (1, 2))
    first = run._machine(one, file, quick=True)
    assert run._machine(one, file, quick=True) == first
    assert run._machine(two, file, quick=True).num_devices == 2
    assert calls == [False, False]  # what others rely on is measured in full
