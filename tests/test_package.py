"""The package as a whole: its public names, its imports, who may import whom."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jaxseg_xai
from jaxseg_xai.explainers import EXPLAINERS

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("matplotlib", "jinja2", "nilearn", "nibabel", "sklearn", "tifffile", "xarray", "mkdocs"),
    *("tensorflow", "tensorflow_datasets", "torch", "pycocotools"),
)


def test_public_names_exist_and_are_documented():
    for name in jaxseg_xai.__all__:
        assert getattr(jaxseg_xai, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        jaxseg_xai.Nothing  # noqa: B018


@pytest.mark.parametrize("name", EXPLAINERS.built_in)
def test_every_method_is_a_public_name(name):
    cls = EXPLAINERS.get(name)
    assert getattr(jaxseg_xai, cls.__name__) is cls
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}("), "the dataclass's own signature"


def test_importing_is_light_and_leaves_jax_to_be_configured():
    code = (
        "import sys, jaxseg_xai, jaxseg_xai.cli.main, jaxseg_xai.facade;"
        f"print([m for m in {HEAVY} if m in sys.modules]);"
        "jaxseg_xai.use_cpu_cores(3); import jax; print(jax.local_device_count())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.split("\n")[:2] == ["[]", "3"]


def test_imports_run_downwards_only():
    """The contracts in `.importlinter`."""
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    run = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
