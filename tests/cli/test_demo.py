"""The demonstrations: what they name exists, and the quick one of a volume ends with a page."""

import json
import re

import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.cli.demo import DemoConfig
from jaxseg_xai.data import SOURCES
from jaxseg_xai.models import bundled_models, load_model

pytest.importorskip("nilearn")


@pytest.mark.parametrize("volume", [False, True])
@pytest.mark.parametrize("quick", [False, True])
def test_what_it_names_exists(volume, quick):
    sweep = DemoConfig(volume=volume, quick=quick).sweep()
    assert sweep.data.source in SOURCES
    assert sweep.model in bundled_models()
    model = load_model(sweep.model)
    assert model.segmenter.input.rank == 2 + volume
    assert set(sweep.classes) <= set(model.segmenter.output.class_names)
    assert len({job.label for job in sweep.explain}) == len(sweep.explain) == 2


@pytest.mark.slow
def test_a_volume(tmp_path, capsys):
    assert cli.main(["demo", "--volume", "--quick", "--out", str(tmp_path)]) == 0
    assert "explanations/s" in capsys.readouterr().out
    html = (tmp_path / "report.html").read_text()
    (text,) = re.findall(r'id="case-\d+">(.*?)</script>', html)
    case = json.loads(text)
    assert case["place"]["volume"]["axes"] == ["axial", "coronal", "sagittal"]
    assert [one["status"] for one in case["explanations"]] == ["OK", "OK"]
    assert len(html) < 3e6
