"""What the pages and docstrings show, runs; and the site builds."""

import doctest
import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

import jaxseg_xai
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.explainers.runner import explain_example
from jaxseg_xai.metrics import Metric
from jaxseg_xai.metrics.runner import score_example
from jaxseg_xai.models.architecture import Architecture
from tests.explainers.models import bright_pixels
from tests.support import batch_of, problem_of

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [path for path in DOCS if "```python" in path.read_text()]
#: Modules of the package with examples in docstrings.
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(jaxseg_xai.__path__, "jaxseg_xai.")
    if not name.endswith("__main__")
    and (origin := importlib.util.find_spec(name).origin)
    and ">>> " in Path(origin).read_text()
]


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_run(path, tmp_path, monkeypatch):
    """From top to bottom, in an empty folder; `<!-- skip: next -->` leaves the next one out."""
    monkeypatch.chdir(tmp_path)
    document = Sybil([PythonCodeBlockParser(), SkipParser()]).parse(path)
    examples = list(document)
    assert examples
    for example in examples:
        example.evaluate()


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def test_recipes_keep_their_contracts():
    """The examples of CONTRIBUTING.md are more than words that can be imported."""
    document = Sybil([PythonCodeBlockParser()]).parse(ROOT / "CONTRIBUTING.md")
    for example in document:
        example.evaluate()
    found = document.namespace
    net = found["TwoLayersConfig"](in_channels=1).build(nnx.Rngs(0))
    assert isinstance(found["TwoLayersConfig"](), Architecture)
    assert net(np.zeros((1, 4, 4, 1), np.float32)).shape == (1, 4, 4, 1)
    sample = found["StripesDataset"](size=8)[3]
    assert sample.labels.sum() == 32

    problem = problem_of(bright_pixels)
    batch = batch_of(problem, sample.image[None])
    method, metric = found["Gradient"](), found["Sparseness"]()
    assert isinstance(method, Explainer)
    assert isinstance(metric, Metric)
    image, ids = batch.images[0], batch.image_ids[0]
    target = jax.tree.map(lambda leaf: leaf[0], batch.targets)
    explained = explain_example(method, problem, image, target, ids)
    # Each of the segment's pixels has slope 20, the others none.
    np.testing.assert_allclose(explained.attribution, 20.0 * target.segment, atol=1e-4)
    scores = score_example(metric, problem, 1.0, image, target, ids, explained, target.segment)
    np.testing.assert_allclose(scores["gini"], 1 - np.mean(target.segment), atol=1e-5)


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    """Strictly: no broken link, no name that the reference asks for and the package lacks."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "reference" / "methods" / "index.html").is_file()
