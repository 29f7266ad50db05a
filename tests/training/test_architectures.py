"""Training of other families than the U-Net, and the flags that set them."""

import dataclasses
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from jaxseg_xai.cli import main as cli
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.data.sources.memory import MemorySource
from jaxseg_xai.data.sources.triangle import TriangleDataset
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.folder import load_model
from jaxseg_xai.models.registry import MODELS
from jaxseg_xai.training import loop
from jaxseg_xai.training.checkpoints import Checkpoints
from jaxseg_xai.training.config import TrainConfig
from tests.contracts.families import FAMILIES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drops(Architecture):
    """A convolution behind dropout, for images of one size."""

    name: ClassVar[str] = "drops"
    in_channels: int = 3
    num_logits: int = 1
    image_size: int = setting(16, at_least=1)

    def build(self, rngs):
        drop = nnx.Dropout(0.5, rngs=rngs)
        return nnx.Sequential(drop, nnx.Conv(self.in_channels, self.num_logits, (3, 3), rngs=rngs))

    def input_spec(self):
        return InputSpec(channels=self.in_channels, fixed_size=(self.image_size,) * 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bare(Architecture):
    """A family without settings of its own."""

    name: ClassVar[str] = "bare"
    in_channels: int = 3
    num_logits: int = 1


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The families above, and one that is none, as a package would add them."""
    for name, cls in (("drops", "Drops"), ("bare", "Bare"), ("nonet", "TrainConfig")):
        entry = EntryPoint(name, f"{__name__}:{cls}", MODELS.group)
        monkeypatch.setitem(MODELS._entries, name, [entry])


def interrupted_and_whole(folder, monkeypatch, **options):
    """Weights of a run that was stopped after two of four steps, and of one that was not."""
    settings = {"steps": 4, "eval_every": 2, "batch_size": 2, "augment": True} | options
    settings |= {"learning_rate": 1e-2, "data": "triangle", "size": 32}
    whole, broken = (TrainConfig(out=folder / name, **settings) for name in ("whole", "broken"))
    loop.train(whole)
    save = Checkpoints.save

    def stopped(self, step, *rest):
        save(self, step, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            loop.train(broken)
    loop.train(broken)
    files = (config.out / "weights.safetensors" for config in (broken, whole))
    return [safetensors.numpy.load_file(path) for path in files]


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def source(size, channels=1):
    """Two noisy images or volumes, and where they are bright."""
    images = np.random.default_rng(0).random((2, *size, channels)).astype(np.float32)
    labels = (images[..., 0] > 0.6).astype(np.int32)
    return MemorySource(images, labels, class_names=("dark", "bright"), rank=len(size))


def test_dropout_and_a_fixed_size_continue_where_they_were(tmp_path, monkeypatch):
    sizes = {"train": 4, "validation": 2, "test": 2}
    monkeypatch.setattr("jaxseg_xai.data.sources.triangle._NUM_ITEMS", sizes)
    found, expected = interrupted_and_whole(
        tmp_path, monkeypatch, architecture="drops", weights_dtype="float16"
    )
    assert_equal(found, expected)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float16)}
    bundle = load_model(tmp_path / "whole")
    images = prepare(TriangleDataset("test", size=32)[0], bundle.segmenter.input).image[None]
    one, again = (np.asarray(bundle.segmenter(bundle.variables, images)) for _ in range(2))
    np.testing.assert_array_equal(one, again)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_of_every_family(name, tmp_path, monkeypatch):
    entry = FAMILIES[name]
    monkeypatch.setattr(TrainConfig, "open", lambda *_: source(entry.size))
    found, expected = interrupted_and_whole(
        tmp_path, monkeypatch, architecture=name, config=entry.config
    )
    assert_equal(found, expected)
    card = load_model(tmp_path / "whole").card
    assert (card.architecture, card.about["dice_images"]) == (name, 2)


def test_a_size_or_rank_that_the_network_does_not_take(tmp_path, monkeypatch):
    for size, message in (
        ((30, 32), "30x32 is not a multiple of 4, as this segnet needs; choose settings with fewe"),
        ((8, 8, 8), r"\(8, 8, 8, 1\) is no image"),
    ):
        monkeypatch.setattr(TrainConfig, "open", lambda *_, size=size: source(size))
        config = TrainConfig(out=tmp_path, architecture="segnet", config=FAMILIES["segnet"].config)
        with pytest.raises(DataError, match=message):
            loop.train(config)
    assert not list(tmp_path.iterdir())


def settings(*flags):
    return cli.find_command("train").settings("train", [*map(str, flags)])


def test_settings_of_a_family_from_a_file_and_from_flags(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(
        'architecture = "segformer"\ndata = "brain"\nsteps = 7\n'
        "[config]\ndepths = [1, 1]\nembed_dims = [8, 16]\nalign_corners = true\n"
    )
    found = settings(
        *("--config", file, "--segformer.embed-dims", 4, 8, "--segformer.no-align-corners"),
        *("--steps", 9),
    )
    assert (found.architecture, found.data, found.steps) == ("segformer", "brain", 9)
    assert (found.config["depths"], found.config["embed_dims"]) == ((1, 1), (4, 8))
    assert found.config["align_corners"] is False
    assert not {"in_channels", "num_logits"} & found.config.keys()
    assert settings("--architecture", "bare").config == {}
    flag = settings("--architecture=unet", "--unet.norm", "group").config
    assert flag["norm"] == "group"
    assert flag == settings("--architecture", "unet").config | {"norm": "group"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--architecture", "unit"], "unknown architecture 'unit'; there is unet, unetpp"),
        (["--architecture", "nonet"], "'nonet' .* is not derived from .*Architecture"),
        (
            ["--architecture", "unet", "--unet.width", 4],
            "--unet.width: unet has encoder_channels, decoder_channels, .* any_size",
        ),
        (["--architecture", "bare", "--bare.width", 4], "--bare.width: bare has no settings"),
        (["--architecture", "unet", "--unet.in-channels", 3], "any_size; the data say it"),
        (
            ["--architecture", "unet", "--segnet.depths", 3],
            "--segnet.depths sets something of segnet; the architecture is unet",
        ),
    ],
)
def test_flags_that_no_family_or_another_has(flags, message):
    with pytest.raises(ConfigError, match=message) as error:
        settings(*flags)
    assert "\n" not in str(error.value)


def test_a_file_with_settings_of_another_family(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('architecture = "segnet"\n[config]\nwidth = 3\n')
    with pytest.raises(ConfigError, match=r"run.toml: config of segnet: unknown key width; the ke"):
        settings("--config", file)


def test_a_familys_settings_are_in_the_help(capsys):
    with pytest.raises(SystemExit) as stop:
        settings("--architecture", "segnet", "--help")
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--segnet.depths" in shown
    assert "num-logits" not in shown
