"""Volumes: their defaults, what a sweep of them costs, and what is refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxseg_xai
from jaxseg_xai.cli import main as cli
from jaxseg_xai.cli.command import Command
from jaxseg_xai.cli.sweep_flags import parse_sweep
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.data import as_source
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.explainers.perturbation.kernel_shap import KernelShap
from jaxseg_xai.explainers.perturbation.occlusion import Occlusion
from jaxseg_xai.explainers.perturbation.rise import Rise
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.asked import box_side
from jaxseg_xai.sweeps.config import RoiConfig, SweepConfig, make_job
from jaxseg_xai.sweeps.cost import cost_of, passes_of
from jaxseg_xai.sweeps.work import Work

VOLUMES = np.random.default_rng(0).random((2, 12, 12, 12, 1)).astype(np.float32)


def bright(images):
    """Voxels above 0.5 are the organ, smoothed so that neighbours matter."""
    near = sum(jnp.roll(images, step, axis) for axis in (1, 2, 3) for step in (-1, 1)) / 6
    return 20 * jnp.concatenate([0.5 - near, near - 0.5], axis=-1)


def model():
    return jaxseg_xai.as_model(bright, class_names=["dark", "organ"], channels=1, rank=3)


@pytest.mark.parametrize(
    ("value", "rank", "expected"),
    [
        ("ate", 3, (16, "mean")),
        ("ate", 2, (8, "patches")),
        ({"method": "ate", "block_size": 8}, 3, (8, "mean")),
        ({"method": "ate", "perturbation": "patches"}, 3, (16, "patches")),
        (Ate(), 3, (8, "patches")),
    ],
)
def test_volumes_have_defaults_that_give_way(value, rank, expected):
    found = make_job(value).for_rank(rank).explainer
    assert (found.block_size, found.perturbation) == expected


def test_flags_are_values_that_somebody_chose():
    command = Command(config=SweepConfig, run=lambda *_: 0, parse=parse_sweep, example="")
    flags = ["--explain", "ate", "--ate.block-size=8", "--ate.no-sequential"]
    (job,) = parse_sweep(command, flags, "sweep", "").explain
    assert job.given == {"block_size", "sequential"}
    assert job.for_rank(3).explainer == Ate(block_size=8, perturbation="mean")


@pytest.mark.parametrize(
    ("roi", "rank", "kind"),
    [
        (RoiConfig(), 3, "component"),
        (RoiConfig(), 2, "box"),
        (RoiConfig(side=8), 3, "box"),
        (RoiConfig(corner=(1, 2, 3)), 3, "box"),
        (RoiConfig(kind="component"), 2, "component"),
        (RoiConfig(kind="box"), 3, "box"),
    ],
)
def test_the_region_of_volumes_is_the_organ(roi, rank, kind):
    assert roi.for_rank(rank).kind == kind


def test_passes():
    assert Ate(block_size=8).num_passes((128, 128, 128, 1)) == 16**3 * 53
    assert Ate(block_size=16, perturbation="mean").num_passes((100, 64, 64, 1)) == 7 * 4 * 4
    assert Ate().num_passes((64, 64, 3)) is None  # windows are no whole passes
    assert Rise(num_masks=30).num_passes((64, 64, 3)) == 30


def test_what_takes_too_long_is_refused_before_it_starts(tmp_path):
    out = tmp_path / "s.zarr"
    explain = {"method": "ate", "block_size": 1, "perturbation": "zero"}
    options = {"model": model(), "data": VOLUMES, "classes": "organ", "out": out, "progress": False}
    words = (
        r"would take \S+ hours, more than max_hours = 1e-09 \(ate: at most 3,456 forward passes of "
        r"\S+ s, all of each: windows save nothing here, .*larger block_size.*data.limit.* or "
        "raise max_hours"
    )
    with pytest.raises(ConfigError, match=words):
        jaxseg_xai.sweep(explain=explain, max_hours=1e-9, **options)
    assert not out.exists()
    # Few passes are not even counted in hours.
    found = jaxseg_xai.sweep(explain="ate", max_hours=1e-9, **options)
    assert sum(found.counts["ate"].values()) == 2
    entry = ZarrStore.open(out).entry("ate")
    assert (entry.settings["block_size"], entry.settings["perturbation"]) == (16, "mean")
    assert {row.region_name for row in ZarrStore.open(out).rows("ate")} == {"component"}


def test_a_dry_run_says_what_it_costs(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "volumes"
    folder.mkdir()
    for number, volume in enumerate(VOLUMES):
        np.savez(folder / f"v{number}.npz", image=volume)
    (tmp_path / "nets.py").write_text(
        "from tests.sweeps.test_cost import bright\n\n\ndef model(x):\n    return bright(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    about = {"callable": "nets:model", "class_names": ["dark", "organ"]}
    about |= {"input": {"rank": 3, "channels": 1}}
    (tmp_path / "model.json").write_text(json.dumps(about))
    flags = ["--model", str(tmp_path), "--data.source", str(folder), "--explain", "ate", "rise"]
    flags += ["--roi.reference", "prediction", "--out", str(tmp_path / "s.zarr"), "--dry-run"]
    assert cli.main(["sweep", *flags]) == 0
    shown = capsys.readouterr().out
    assert "ate: 2 explanations, 2 images x 1 classes; at most 2 forward passes of" in shown
    assert "rise: 2 explanations, 2 images x 1 classes; at most 4,000 forward passes of" in shown
    assert shown.count(", all of each: windows save nothing here, ") == 2
    assert cli.main(["sweep", *flags[:-1], "--max-hours", "1e-9"]) == 2
    assert "more than max_hours = 1e-09 (rise: at most 4,000" in capsys.readouterr().err
    assert not (tmp_path / "s.zarr").exists()


def test_of_volumes_that_are_too_large_a_tile_is_timed():
    sizes = []

    def told(images):
        sizes.append(images.shape[1:-1])
        return bright(images)

    bundle = jaxseg_xai.as_model(told, class_names=["dark", "organ"], channels=1, rank=3)
    work = Work(
        bundle=bundle,
        source=as_source(VOLUMES, rank=3),
        chosen=(0, 1),
        jobs=(make_job({"method": "ate", "block_size": 4, "perturbation": "mean"}),),
        classes=(1,),
        max_pixels=8**3,
    )
    (cost,) = cost_of(work, passes_of(work)).values()
    assert cost.passes == 2 * 2**3
    assert set(sizes) == {(8, 8, 8)}


def convolved(variables, images):
    """`bright` by a convolution that sees two voxels around."""
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    near = lax.conv_general_dilated(images, variables, (1,) * 3, "SAME", dimension_numbers=numbers)
    return 20 * jnp.concatenate([0.5 - near, near - 0.5], axis=-1)


def test_organs_are_looked_at_through_boxes_around_them(monkeypatch):
    kernel = np.random.default_rng(1).random((5, 5, 5, 1, 1), np.float32)
    about = {"class_names": ["dark", "organ"], "channels": 1, "rank": 3}
    model = jaxseg_xai.as_model(convolved, kernel / kernel.sum(), **about)
    # Organs for which a box of 8 is enough, at a corner and at a border.
    volumes = 0.4 * VOLUMES
    volumes[0, :7, :7, 1:8] += 0.5
    volumes[1, 3:10, 6:12, 3:8] += 0.5
    work = Work(
        bundle=model,
        source=as_source(volumes, rank=3),
        chosen=(0, 1),
        jobs=(make_job({"method": "ate", "block_size": 4, "region_side": 4}),),
        classes=(1,),
    )
    (cost,) = cost_of(work, passes_of(work)).values()
    assert 0 < cost.share < 0.3
    assert f", of each {cost.share:.2g} of the work in windows, " in str(cost)
    assert cost.hours < cost.passes * cost.seconds / 3600

    options = {"block_size": 4, "outcome": "soft_dice", "perturbation": "mean"}
    sides, in_box = [], Ate.in_box

    def told(self, side):
        sides.append(side)
        return in_box(self, side)

    monkeypatch.setattr(Ate, "in_box", told)
    near = jaxseg_xai.explain(model, volumes, "organ", "ate", **options)
    assert set(sides) == {8}
    monkeypatch.setattr(Ate, "in_box", lambda self, side: self)
    whole = jaxseg_xai.explain(model, volumes, "organ", "ate", **options)
    for one, other in zip(near, whole, strict=True):
        assert one.scores["num_interventions"] > 8
        assert one.scores["base_dice"] == pytest.approx(other.scores["base_dice"], abs=1e-3)
        assert np.abs(other.attribution).max() > 0.1
        np.testing.assert_allclose(one.attribution, other.attribution, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ate", "occlusion"])
def test_a_volume_thinner_than_the_models_stride(monkeypatch, method):
    """Padded to the stride along its short axis; the organ touches both borders."""
    kernel = np.random.default_rng(1).random((3, 3, 3, 1, 1), np.float32)

    def coarse(variables, x):
        pooled = lax.reduce_window(x, 0.0, lax.add, (1, 4, 4, 4, 1), (1, 4, 4, 4, 1), "VALID") / 64
        for axis in (1, 2, 3):
            pooled = jnp.repeat(pooled, 4, axis)
        return convolved(variables, (x + pooled) / 2)

    about = {"class_names": ["dark", "organ"], "channels": 1, "rank": 3}
    model = jaxseg_xai.as_model(coarse, kernel / kernel.sum(), multiple_of=4, pad="edge", **about)
    volume = np.random.default_rng(2).uniform(0, 0.4, (1, 2, 18, 16, 1)).astype(np.float32)
    volume[0, :, :6, 1:7] += 0.5
    options = {"block_size": 4, "outcome": "soft_dice"}
    options |= {"perturbation": "mean"} if method == "ate" else {}
    (near,) = jaxseg_xai.explain(model, volume, "organ", method, **options)
    for cls in (Ate, Occlusion):
        monkeypatch.setattr(cls, "in_box", lambda self, side: self)
    (whole,) = jaxseg_xai.explain(model, volume, "organ", method, **options)
    assert near.attribution.shape == (2, 18, 16)
    assert np.abs(whole.attribution).max() > 0.1
    np.testing.assert_allclose(near.attribution, whole.attribution, atol=1e-3)


@pytest.mark.parametrize(
    "explainer", [Ate(block_size=4), Occlusion(block_size=4), KernelShap(), Misure(windows=(14,))]
)
def test_windows_have_a_share_of_the_work(explainer):
    kernel = np.ones((5, 5, 5, 1, 1), np.float32)
    about = {"class_names": ["dark", "organ"], "channels": 1, "rank": 3}
    local = jaxseg_xai.as_model(convolved, kernel, **about)
    mixing = jaxseg_xai.as_model(
        lambda variables, x: convolved(variables, x - jnp.mean(x)), kernel, **about
    )
    near, shape = explainer.in_box(4), (24, 12, 24, 1)  # an axis shorter than a window
    assert 0 < near.window_share(local.segmenter, local.variables, shape) < 0.6
    assert explainer.window_share(mixing.segmenter, mixing.variables, shape) == 1
    # Passes of gradients are whole ones, and nothing is said of windows.
    assert GradCam().window_share(local.segmenter, local.variables, shape) is None


@pytest.mark.parametrize(
    ("box", "size", "side"),
    [((3, 2, 8), 20, 8), ((9, 1, 1), 20, 12), ((13, 1, 1), 20, 16), ((17, 1, 1), 20, None)],
)
def test_sides_of_boxes(box, size, side):
    region = np.zeros((size,) * 3, bool)
    region[2 : 2 + box[0], 1 : 1 + box[1], : box[2]] = True
    assert box_side(region) == side
    assert box_side(region[2]) is None
    assert box_side(np.zeros_like(region)) is None


def test_a_sweep_that_goes_on_was_allowed_to_begin():
    assert "max_hours" not in SweepConfig(explain=(make_job("ate"),)).identity()
