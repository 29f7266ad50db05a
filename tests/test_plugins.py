"""A package that is installed beside ours adds a method, an outcome, data, a model and a store."""

import json
import subprocess
import sys
import zipfile

import pytest

NAME = "jaxseg_plugin"
ENTRIES = """
[jaxseg_xai.models]
pointwise = jaxseg_plugin:Pointwise
[jaxseg_xai.adapters]
scaled = jaxseg_plugin:ScaledAdapter
nnx = jaxseg_plugin:ScaledAdapter
fails = jaxseg_plugin:FailingAdapter
[jaxseg_xai.explainers]
brightness = jaxseg_plugin:Brightness
broken = jaxseg_plugin_that_is_not_there:Nothing
confidence = jaxseg_plugin:Brightness
exits = jaxseg_plugin_that_exits:Nothing
store = jaxseg_plugin:ListedStore
shine = jaxseg_plugin:Brightness
data = jaxseg_plugin:Brightness
[jaxseg_xai.outcomes]
area = jaxseg_plugin:Area
half = jaxseg_plugin:Scaled
[jaxseg_xai.metrics]
mass = jaxseg_plugin:Mass
[jaxseg_xai.sources]
noise = jaxseg_plugin:open_noise
[jaxseg_xai.sinks]
listed = jaxseg_plugin:ListedStore
"""
SOURCE = '''
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.data.sources.memory import MemorySource
from jaxseg_xai.explainers.base import Explainer, Meta, Parts
from jaxseg_xai.metrics.base import Metric, MetricMeta
from jaxseg_xai.models.adapters import Adapter
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.outcomes import get_outcome
from jaxseg_xai.store import MemoryStore


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness(Explainer):
    """The image itself."""

    name: ClassVar[str] = "brightness"
    meta: ClassVar[Meta] = Meta(
        unit="grey", signed=False, note="Bright.", scores={"outcome": "its outcome"}
    )
    outcome: str = setting("area", static=True)

    def explain_one(self, problem, example):
        """The first channel."""
        value = get_outcome(self.outcome).value(
            problem.segmenter.output, example.logits, example.target
        )
        return Parts(attribution=example.image[..., 0], scores={"outcome": value})


@dataclasses.dataclass(frozen=True)
class Area:
    """Pixels of the class in the region."""

    unit: ClassVar[str] = "pixels"
    words: ClassVar[str] = "area"
    differentiable: ClassVar[bool] = False
    soft: ClassVar[str] = "mean_probability"
    counts_beside: ClassVar[bool] = True

    def value(self, output, logits, target):
        segment = output.segment_of(logits, target.class_index) & target.region
        return jnp.sum(segment, dtype=jnp.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mass(Metric):
    """Sum of the attribution."""

    name: ClassVar[str] = "mass"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(None, None), better="higher", headline="mass", scores={"mass": "sum"}
    )

    def score(self, problem, example, rated):
        return {"mass": jnp.sum(rated.relevance)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pointwise(Architecture):
    """A 1x1 convolution."""

    name: ClassVar[str] = "pointwise"
    in_channels: int = 1
    num_logits: int = 1

    def build(self, rngs):
        return nnx.Conv(self.in_channels, self.num_logits, (1, 1), rngs=rngs)

    def input_spec(self):
        return InputSpec(channels=self.in_channels)


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A model object of this package."""

    factor: float


class ScaledAdapter(Adapter):
    """Turns `Scaled` into a function."""

    @staticmethod
    def matches(model):
        return isinstance(model, Scaled)

    @staticmethod
    def adapt(model, variables):
        return (lambda variables, inputs: model.factor * (inputs - 0.5)), ()


class FailingAdapter(Adapter):
    """Cannot tell what is its own."""

    @staticmethod
    def matches(model):
        return model.of_this_package


def open_noise(*, split, num=3):
    """Noise."""
    pixels = np.random.default_rng(0).random((num, 8, 8, 1)).astype(np.float32)
    return MemorySource(pixels, name=f"noise-{split}")


open_noise.licence = "everybody's"


class ListedStore(MemoryStore):
    """In memory."""
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which pip has installed the package."""
    root = tmp_path_factory.mktemp("plugin")
    info = f"{NAME}-1.0.dist-info"
    wheel = root / f"{NAME}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"{NAME}.py", SOURCE)
        file.writestr(f"{NAME}_that_exits.py", "raise SystemExit(3)")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        file.writestr(f"{info}/WHEEL", tags)
        file.writestr(f"{info}/entry_points.txt", ENTRIES)
        file.writestr(f"{info}/RECORD", f"{NAME}.py,,\n{info}/RECORD,,\n")
    target = root / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", target, wheel], check=True, capture_output=True)
    return target


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np, safetensors.numpy, pathlib
from flax import nnx
import jaxseg_xai
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.metrics import METRICS
from jaxseg_xai.outcomes import OUTCOMES
from jaxseg_xai.store import SINKS
from jaxseg_plugin import Scaled

folder = pathlib.Path(sys.argv[2])
card = {"architecture": "pointwise", "class_names": ["dark", "bright"], "config": {}}
(folder / "model.json").write_text(json.dumps(card))
weights = {"weight": np.full((1, 1, 1, 1), 20.0, np.float32), "bias": np.full(1, -10, np.float32)}
safetensors.numpy.save_file(weights, folder / "weights.safetensors")

noise = jaxseg_xai.open_dataset("noise", "test", num=2)
own = jaxseg_xai.as_model(Scaled(20.0), class_names=["dark", "bright"], channels=1)
lines = {}
for name, model in (("family", str(folder)), ("adapter", own)):
    found = jaxseg_xai.explain(model, noise, "bright", "brightness")
    lines[name] = [one.scores["outcome"] for one in found]
def refusal(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except jaxseg_xai.JaxsegError as error:
        return str(error)
class Own:
    def __call__(self, x):
        return 20 * (x - 0.5)
described = {"class_names": ["dark", "bright"], "channels": 1}
names = ["broken", "confidence", "exits", "store", "shine", "data"]
lines |= {
    "id": found[0].image_id,
    "refused": {name: refusal(EXPLAINERS.get, name) for name in names},
    "outcome": refusal(OUTCOMES.get, "half"),
    "function": refusal(jaxseg_xai.as_model, Own().__call__, **described),
    "object": refusal(jaxseg_xai.as_model, Own(), **described),
    "module": refusal(jaxseg_xai.as_model, nnx.Conv(1, 2, (1, 1), rngs=nnx.Rngs(0)), **described),
    "works": EXPLAINERS.get("misure").name,
    "metric": METRICS.get("mass").meta.headline,
    "sink": SINKS.get("listed").__name__,
}
from jaxseg_xai.cli.main import main
lines["listing"] = main(["explainers"]) + main(["sources"])
flags = ["--data.source", "noise", "--data.num", "2", "--out", str(folder / "s.zarr")]
sweep = main(["sweep", "--model", str(folder), "--explain", "brightness", *flags])
lines["sweep"] = [sweep, len(jaxseg_xai.open_store(folder / "s.zarr"))]
print(json.dumps(lines))
"""


#: How the message on an explainer begins.
REFUSED = {
    "broken": f"explainer 'broken' ({NAME}_that_is_not_there:Nothing of {NAME}) cannot be imported",
    "confidence": "two explainers are called 'confidence'",
    "exits": f"explainer 'exits' ({NAME}_that_exits:Nothing of {NAME}) cannot be imported: SystemE",
    "store": f"explainer 'store' ({NAME}:ListedStore of {NAME}) is not derived from jaxseg_xai.",
    "shine": f"explainer 'shine' ({NAME}:Brightness of {NAME}): its class has the name 'bright",
    "data": f"explainer 'data' ({NAME}:Brightness of {NAME}): this name has another meaning",
}


def test_a_package_of_plug_ins(installed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, installed, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *shown, last = done.stdout.splitlines()
    found = json.loads(last)
    assert found["family"] == found["adapter"]
    assert all(10 < area < 54 for area in found["family"])
    assert found["id"] == "noise-test-00000"
    for name, words in REFUSED.items():
        said = found["refused"][name].replace("jaxseg-plugin", NAME)
        assert said.startswith(words), name
        assert f"of {NAME}" in said
        assert "uninstall" in said
        assert "\n" not in said
        assert said in done.stderr.replace("jaxseg-plugin", NAME)  # of the listing
    assert "'half'" in found["outcome"]
    assert (
        "has no value, unit, words, differentiable, soft, counts_beside; repair" in found["outcome"]
    )
    # A function is a function whatever adapters are broken; anything else may belong to them.
    assert found["function"] is None
    for name, what in (("object", "a Own may"), ("module", "a Conv may")):
        assert found[name].startswith(f"{what} belong to an adapter that cannot be used: two adap")
        assert "adapter 'fails' fails for" in found[name]
        assert "has no attribute 'of_this_package'; repair or uninstall" in found[name]
    assert (found["works"], found["metric"], found["sink"]) == ("misure", "mass", "ListedStore")
    # The others are listed, and what is broken is named.
    assert found["listing"] == 0
    assert any(line.startswith("brightness") for line in shown)
    noise = shown.index(f"{'noise':20} Noise.")
    assert shown[noise + 1 : noise + 3] == [
        f"{'':20} licence  everybody's",
        f"{'':20} options  --data.num",
    ]
    # A method called `data` takes no flags away.
    assert found["sweep"] == [0, 2]
