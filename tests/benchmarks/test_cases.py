"""Every case once, as small as it goes. No time is asserted.

Compiling makes most of these slow; `.ci/run` runs the commands of the quickest instead.
"""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from benchmarks.__main__ import main
from benchmarks.agree.frozen import frozen, load
from benchmarks.harness.machine import flops_of
from benchmarks.harness.record import read_records
from benchmarks.methods.misure import step_flops
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.models import load_model

TINY = ["--quick", "--width", "2", "--size", "64", "--repetitions", "2"]


def run(name, path, *more):
    assert main(["run", name, *TINY, *more, "--json", str(path)]) == 0
    [record] = read_records(path)
    return record


def check(record, *work):
    assert record.validation.passed
    assert record.validation.max_abs_diff <= record.validation.tolerance
    assert len(record.timings["ours"].seconds) == 2
    assert record.compile_seconds > 0
    assert set(record.throughput) == set(work)
    assert all(value > 0 for value in record.throughput.values())
    assert record.machine.gemm_flops["float32"] > 0
    assert record.machine.bandwidth > 0
    assert record.memory.process_peak_bytes > 0
    assert record.settings["model"] == "random"
    assert len(record.commit) in (0, 40)


@pytest.mark.slow
def test_unet_forward(tmp_path):
    record = run("unet-forward", tmp_path / "a.json", "--peer", "all")
    check(record, "forwards")
    assert set(record.ratios) == {"original", "tuned"}
    assert record.share_of_peak > 0
    assert "torch" in record.versions


#: Case -> what it works on, and what else is true of its record.
WITH_PEERS = {
    "ate": (
        {"interventions", "blocks"},
        lambda record: "of the first image" in record.peer_sample["tuned"].what,
    ),
    "ate-3d": (
        {"interventions", "blocks"},
        lambda record: (
            record.work["blocks"] == 4
            and record.validation.measured["original: image 0: blocks that are not 0"] > 0
        ),
    ),
    "ate-3d-drawn": (
        {"interventions", "blocks"},
        lambda record: record.series["windows"][0]["interventions"] > 4,
    ),
    "misure-3d": (
        {"explanations", "iterations"},
        lambda record: "ours, no windows" in record.timings,
    ),
    "occlusion": (
        {"interventions", "blocks", "explanations"},
        lambda record: record.work["interventions"] <= record.work["blocks"],
    ),
    "grad-cam": ({"explanations"}, lambda record: not record.peer_sample),
    "integrated-gradients": (
        {"explanations", "gradients"},
        lambda record: record.peer_sample["original"].scale == 2,
    ),
    "confidence": ({"explanations", "forwards"}, lambda record: not record.peer_sample),
    "rise-region": (
        {"explanations", "masks"},
        lambda record: record.peer_sample["original"].scale == 2,
    ),
    "kernel-shap": (
        {"explanations", "masks"},
        lambda record: record.peer_sample["original"].scale == 2,
    ),
    "shap-3d": (
        {"explanations", "coalitions"},
        lambda record: (
            record.peer_sample["tuned"].scale == 65 / 33
            and record.series["whole volumes"][0]["patches"] == 64
        ),
    ),
    "components": (
        {"explanations", "interventions"},
        lambda record: record.peer_sample["original"].scale > 1,
    ),
    "misure": (
        {"explanations", "iterations"},
        lambda record: record.peer_sample["original"].scale == 2,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_PEERS)
def test_a_method_and_its_peers(name, tmp_path):
    work, holds = WITH_PEERS[name]
    devices = ["--devices", "2"] if name == "ate" else []
    record = run(name, tmp_path / "a.json", "--peer", "all", *devices)
    check(record, *work)
    assert {"original", "tuned"} <= set(record.ratios)
    assert record.flops > 0
    assert holds(record)


@pytest.mark.slow
def test_ate_screen(tmp_path):
    record = run("ate-screen", tmp_path / "a.json")
    check(record, "interventions", "blocks")
    assert set(record.timings) == {"ours", "ours, gradient 1 node", "ours, gradient 8 nodes"}
    for table in record.series.values():
        costs, shares = (
            {row["screen"]: row[column] for row in table}
            for column in ("cost in forward passes", "share of the blocks")
        )
        assert all(0 <= row["recall"] <= 1 for row in table)
        assert shares["none"] == 1
        assert shares["perfect"] > 0
        same = "gradient 1 node, at the random screen's cost"
        assert costs[same] <= costs["3 random patches"]
    assert costs["none"] < record.series["screen"][0]["cost in forward passes"]


@pytest.mark.slow
def test_ate_regions(tmp_path):
    record = run("ate-regions", tmp_path / "a.json")
    check(record, "explanations", "interventions", "blocks")
    together, alone = record.series["regions"]
    assert set(record.timings) == {together["who"], alone["who"]}
    assert record.work["interventions"] == together["interventions evaluated"]
    assert alone["over one pass's"] > 1


@pytest.mark.slow
def test_windows_of_an_architecture(tmp_path):
    file = tmp_path / "a.json"
    options = ["--model", "unext", "--quick", "--repetitions", "1", "--json", str(file)]
    assert main(["run", "windows", *options]) == 0
    [record] = read_records(file)
    [row] = record.series["windows"]
    assert row["architecture"] == "unext"
    assert row["with the image's own pass"] < row["times fewer FLOPs an intervention"]
    assert set(record.timings) == {"ours", "ours, whole images"}


@pytest.mark.slow
def test_misure_through_windows(tmp_path):
    record = run("misure-512", tmp_path / "a.json", "--size", "256", "--peer", "original")
    check(record, "explanations", "iterations")
    table = record.series["windows"]
    assert sum(row["images"] for row in table[:-1]) > 0
    assert all(row["share of the FLOPs"] < 0.8 for row in table[:-1])


@pytest.mark.slow
def test_misure_lanes(tmp_path):
    record = run("misure-lanes", tmp_path / "a.json", "--devices", "2")
    check(record, "explanations", "iterations")
    [row] = record.series["lanes"]
    assert row["busy without refilling"] <= row["busy"] <= 1


@pytest.mark.slow
def test_misure_quality(tmp_path):
    record = run("misure-quality", tmp_path / "a.json", "--peer", "tuned")
    check(record, "explanations")
    rows = {row["who"]: row for row in record.series["quality"]}
    assert not record.ratios  # not the same work
    assert rows["ours"]["mask: area / object"] == rows["ours"]["region: area / object"]
    assert all(row["times faster than tuned"] > 0 for row in rows.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sweep", "sweep-64"])
def test_sweep(name, tmp_path):
    record = run(name, tmp_path / "a.json")
    check(record, "images", "explanations")
    for row in record.series["sweep"]:
        assert 0 < row["share_explaining"] < 1
        assert row["overhead"] == pytest.approx(row["seconds"] / row["in_memory"] - 1)


@pytest.mark.slow
def test_store(tmp_path):
    pytest.importorskip("duckdb")
    (row,) = run("store", tmp_path / "a.json").series["store"]
    assert 0 < row["files"] < 2000
    assert all(row[name] > 0 for name in ("open", "one explanation", "a query", "all rows"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sizes", "sizes-ate"])
def test_sizes(name, tmp_path):
    record = run(name, tmp_path / "a.json")
    assert record.validation.passed
    rows = {row["images"]: row for row in record.series["sizes"]}
    assert rows.keys() == {"many sizes", "one size"}
    assert all(row["seconds"] >= row["compile_seconds"] > 0 for row in rows.values())
    assert rows["one size"]["programs"] == 1


@pytest.mark.slow
def test_reading(tmp_path):
    record = run("reading", tmp_path / "a.json")
    rates = {row["format"]: row["images_per_s"] for row in record.series["reading"]}
    assert min(rates.values()) > 0
    assert rates.keys() >= {"png", "jpeg", "tiff", "npz", "nifti slices", "confidence"}


@pytest.mark.slow
def test_scaling(tmp_path):
    record = run("scaling", tmp_path / "a.json", "--devices", "2", "--lanes", "4")
    check(record, "forwards")
    assert [row["devices"] for row in record.series["devices"]] == [1, 2, 1, 2]
    assert [row["lanes"] for row in record.series["lanes"]] == [2, 4, 2, 4]
    assert [row["size"] for row in record.series["size"]] == [32, 64, 128]
    assert [row["blocks"] for row in record.series["blocks"]] == [2, 8]
    assert all(row["predicted_lanes"] > 4 for row in record.series["memory"])
    assert len(record.series["roofline"]) == 2


class Wrong(Ate):
    """Explains with `change` of the draws, or of the result."""

    def explain(self, problem, images, targets, draws, mesh, blocks=None):
        draws = self.other_draws(draws)
        found = super().explain(problem, images, targets, draws, mesh, blocks)
        return dataclasses.replace(found, attribution=self.other(found.attribution))

    def other_draws(self, draws):
        return draws

    def other(self, attribution):
        return attribution


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SignFlipped(Wrong):
    def other(self, attribution):
        return -attribution


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Shifted(Wrong):
    def other(self, attribution):
        return jnp.roll(attribution, self.block_size, axis=2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchesReused(Wrong):
    def other_draws(self, draws):
        return draws._replace(full=jnp.broadcast_to(draws.full[..., :1], draws.full.shape))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class OneStepShort(MisurePaper):
    def found(self, job, state):
        early = state.losses.at[1].set(state.losses[0])
        return super().found(job, state._replace(losses=early))


@pytest.mark.slow
@pytest.mark.parametrize("method", [Ate, PatchesReused, SignFlipped, Shifted])
def test_a_wrong_ate_fails_validation(method):
    settings = dataclasses.asdict(load("ate").explainer)
    assert frozen("ate", "float32", device_mesh(), method(**settings)).passed == (method is Ate)


@pytest.mark.slow
def test_a_wrong_misure_fails_validation():
    settings = dataclasses.asdict(load("misure_paper").explainer)
    wrong = frozen("misure_paper", "float32", device_mesh(), OneStepShort(**settings))
    assert (wrong.passed, wrong.unit) == (False, "stage 2, relative")


@pytest.mark.parametrize("name", ["misure", "misure_paper"])
def test_a_step_of_misure_costs_several_passes(name):
    """Forward and backward; a case ends by it, after all that takes long."""
    inputs, bundle = load(name).inputs, load_model("triangle")
    step = step_flops(load(name).explainer, bundle, inputs)
    forward = flops_of(bundle.segmenter, bundle.variables, inputs.images[:1])
    assert 2 * forward < step < 6 * forward
