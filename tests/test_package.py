import subprocess
import sys

import jaxseg_xai

HEAVY = (
    *("matplotlib", "jinja2", "nilearn", "nibabel", "sklearn"),
    *("tensorflow", "tensorflow_datasets", "torch"),
)


def test_public_names_exist_and_are_documented():
    for name in jaxseg_xai.__all__:
        assert getattr(jaxseg_xai, name).__doc__ or name == "EXPLAINERS", name


def test_importing_is_light_and_leaves_jax_to_be_configured():
    code = (
        "import sys, jaxseg_xai, jaxseg_xai.cli.main;"
        f"print([m for m in {HEAVY} if m in sys.modules]);"
        "jaxseg_xai.use_cpu_cores(3); import jax; print(jax.local_device_count())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.split("\n")[:2] == ["[]", "3"]
