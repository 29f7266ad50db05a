"""Tiny training runs, from the command line's `train` downwards."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxseg_xai.cli import main as cli
from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError, ModelError
from jaxseg_xai.data.sources.triangle import TriangleDataset
from jaxseg_xai.models.folder import load_model
from jaxseg_xai.training import evaluate as evaluating
from jaxseg_xai.training import loop, step
from jaxseg_xai.training.checkpoints import Checkpoints
from jaxseg_xai.training.config import TrainConfig
from jaxseg_xai.training.evaluate import evaluate
from tests import tiny
from tests.support import segmenter_of


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """Data sets of 16 images: evaluating is not what takes the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "jaxseg_xai.data.sources.triangle._NUM_ITEMS",
            {"train": 64, "validation": 16, "test": 16},
        )
        yield


def config(out, **options):
    settings = {"size": 32, "batch_size": 8, "steps": 24, "eval_every": 8}
    settings |= {"learning_rate": 1e-2, "augment": True, "data": "triangle"}
    settings |= {"architecture": "unet", "config": unet(4)}
    return TrainConfig(out=out, **(settings | options))


def unet(*widths):
    """Settings of a U-Net: widths of its levels; the coarsest is as wide as the last of these."""
    return {"encoder_channels": (*widths, widths[-1]), "decoder_channels": widths[::-1]}


@pytest.fixture(scope="module")
def traces():
    """An entry each time that a step is traced, which is when it compiles."""
    return []


@pytest.fixture(scope="module")
def trained(tmp_path_factory, traces):
    make = loop.make_step

    def counting(*arguments):
        step = make(*arguments)

        def traced(*inputs):
            traces.append(inputs)
            return step(*inputs)

        return traced

    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_step", counting)
        return out, loop.train(config(out), "jaxseg-xai train --some flags")


def entries(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out):
    return safetensors.numpy.load_file(out / "weights.safetensors")


def steps_of(out):
    return sorted(int(p.name) for p in (out / "checkpoints").iterdir() if p.name.isdigit())


def test_the_loss_falls(trained):
    logged = entries(trained[0])
    assert [entry["step"] for entry in logged] == [8, 16, 24]
    assert logged[-1]["loss"] < logged[0]["loss"]


def test_the_step_compiles_once(trained, traces):
    """If its outputs were laid out otherwise than its inputs it would compile twice."""
    assert len(traces) == 1


def test_the_card_says_where_the_model_comes_from(trained):
    out, dices = trained
    bundle = load_model(out)
    assert bundle.card.class_names == ("background", "triangle")
    about = bundle.card.about
    assert about["command"] == "jaxseg-xai train --some flags"
    assert (about["seed"], about["data"], about["licence"]) == (0, "triangle", "Apache-2.0")
    assert about["dice_split"] == "test"
    assert about["dice_images"] == 16
    assert about["dice"]["mean"] == pytest.approx(dices["mean"], abs=1e-4)
    assert set(dices) == {"triangle", "mean"}


def test_the_kept_model_is_the_best_on_validation(trained):
    out, _ = trained
    bundle = load_model(out)
    validation = TriangleDataset("validation", size=32, num=16)
    found = evaluate(bundle.segmenter, bundle.variables, validation)["mean"]
    assert found == pytest.approx(max(entry["validation_dice"] for entry in entries(out)), abs=1e-5)


def test_the_latest_and_the_best_checkpoint_are_kept(trained):
    logged = entries(trained[0])
    best = max(logged, key=lambda entry: entry["validation_dice"])["step"]
    assert steps_of(trained[0]) == sorted({best, 24})


@pytest.mark.parametrize("where", ["before the checkpoint", "after the checkpoint"])
def test_an_interrupted_run_ends_with_the_same_weights(where, trained, monkeypatch, tmp_path):
    save = Checkpoints.save

    def interrupted(self, step, *rest):
        if step == 16 and where == "before the checkpoint":
            raise KeyboardInterrupt
        save(self, step, *rest)
        if step == 16:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config(tmp_path))
    loop.train(config(tmp_path))
    expected, found = weights(trained[0]), weights(tmp_path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert entries(tmp_path) == entries(trained[0])
    assert steps_of(tmp_path) == steps_of(trained[0])


def test_a_finished_run_is_only_tested_again(trained):
    out, dices = trained
    before = weights(out)
    assert loop.train(config(out), "jaxseg-xai train --some flags") == dices
    assert all((weights(out)[name] == value).all() for name, value in before.items())
    assert len(entries(out)) == 3


def test_other_settings_do_not_continue_the_run(trained, tmp_path):
    out = shutil.copytree(trained[0], tmp_path / "run")
    with pytest.raises(ConfigError, match=r"learning_rate was 0.01, is 0.1; unet.dec.*2\];"):
        loop.train(dataclasses.replace(config(out), config=unet(2), learning_rate=0.1))
    assert load_model(out).card.config["encoder_channels"] == [4, 4]
    (out / "train.json").write_text("{")
    with pytest.raises(JaxsegError, match=r"train.json: cannot be read"):
        loop.train(config(out))


def test_a_checkpoint_of_another_architecture(trained, tmp_path):
    out = shutil.copytree(trained[0], tmp_path / "run")
    (out / "train.json").unlink()  # all that says so now are the shapes
    with pytest.raises(ModelError, match=r"checkpoint 24 is .*of another architecture"):
        loop.train(config(out, config=unet(4) | {"norm": "instance"}))


def test_a_damaged_checkpoint_is_one_line(trained, tmp_path):
    out = shutil.copytree(trained[0], tmp_path / "run")
    # Not the arrays: TensorStore's other reads then fail in the background, at any later time.
    (out / "checkpoints" / "24" / "state" / "_METADATA").write_text("{")
    with pytest.raises(ModelError, match="checkpoint 24 is damaged"):
        loop.train(config(out))


def folder(root, **options):
    for split in ("train", "validation"):
        tiny.write_images(root / split, [f"i{k}" for k in range(8)], **options)
    return {"data": str(root), "classes": ("background", "bright")}


def test_a_folder_with_two_splits(tmp_path):
    settings = folder(tmp_path / "data")
    dices = loop.train(config(tmp_path / "run", **settings, eval_every=24))
    about = load_model(tmp_path / "run").card.about
    assert about["dice_split"] == "validation"
    assert set(dices) == {"bright", "mean"}


def test_bad_folders(tmp_path, capsys):
    run = tmp_path / "run"
    bare = folder(tmp_path / "bare", labels=False)
    with pytest.raises(DataError, match="has no label map"):
        loop.train(config(run, **bare))
    with pytest.raises(ConfigError, match="name the classes of the label maps"):
        loop.train(config(run, **(bare | {"classes": ()})))
    odd = folder(tmp_path / "odd", size=(36, 32))
    with pytest.raises(DataError, match="36x32 is not a multiple of 8, as this unet needs"):
        loop.train(config(run, **odd, config=unet(4, 4, 4)))
    command = [
        "train",
        "--architecture",
        "unet",
        "--data",
        "nowhere",
        "--classes",
        "a",
        "b",
        "--out",
        str(run),
    ]
    assert cli.main(command) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_folder_of_two_sizes(tmp_path):
    mixed = folder(tmp_path / "mixed")
    tiny.write_images(tmp_path / "mixed" / "validation", ["i9"], size=(48, 32))
    with pytest.raises(DataError, match=r"i9: is of shape .48, 32, 3., i0 of .32, 32, 3."):
        loop.train(config(tmp_path / "run", **mixed, eval_every=1))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("steps", 0, "steps is 0"),
        ("architecture", "", "architecture is ''; use unet, "),
        ("architecture", "resnet", "architecture is 'resnet'; use unet, "),
        ("config", {"width": 4}, "unet: unknown key width; the keys are in_channels, "),
        ("config", {"norm": "no"}, "unet: norm is 'no'"),
        ("config", {"in_channels": 3}, "unet: the data say in_channels; leave it out"),
        ("learning_rate", 0.0, "learning_rate is 0.0; it must be above 0"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("weight_decay", -1.0, "weight_decay is -1.0; it must be at least 0"),
        ("seed", -1, "seed is -1"),
        ("eval_every", 0, "eval_every is 0"),
    ],
)
def test_values_out_of_range(tmp_path, option, value, message):
    with pytest.raises(ConfigError, match=message):
        loop.train(config(tmp_path, **{option: value}))
    assert not list(tmp_path.iterdir())


def test_a_diverging_run_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "segmentation_loss", lambda logits, _: logits.mean() * np.nan)
    with pytest.raises(JaxsegError, match=r"loss is nan at step 2: .*lower learning_rate"):
        loop.train(config(tmp_path, eval_every=2))
    assert not (tmp_path / "model.json").exists()


def test_dice_of_a_known_model(monkeypatch):
    """A model that copies the labels has Dice 1; one that sees nothing 0; NaN where none is."""

    class Data:
        class_names = ("background", "a", "b")
        ids = ("x", "y", "z")

        def __len__(self):
            return 3

        def __getitem__(self, index):
            labels = np.zeros((4, 4), np.int32)
            labels[: index + 1] = 1
            image = labels[..., None].astype(np.float32)
            return tiny.sample(self.ids[index], image, labels)

    def sees(scale, images):
        return jax.numpy.concatenate([1 - images, scale * images, 0 * images - 9], -1)

    sees = segmenter_of(sees, class_names=Data.class_names)
    right = evaluate(sees, 2.0, Data(), batch_size=2)
    assert right == {"a": 1.0, "b": pytest.approx(np.nan, nan_ok=True), "mean": 1.0}
    # Three images are not filled up to a batch of sixteen: of volumes that would take minutes.
    sizes, fill = [], evaluating.pad_batch
    monkeypatch.setattr(evaluating, "pad_batch", lambda x, n: sizes.append(n) or fill(x, n))
    assert evaluate(sees, -1.0, Data())["mean"] == 0
    assert sizes == [4]  # on four devices


def test_dice_is_counted_on_the_grid_of_the_images():
    """Planes of classes that overlap, and a model that sees a larger picture, padded."""

    class Data:
        class_names = ("all", "top")
        ids = ("x",)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            labels = np.ones((6, 6, 2), bool)
            labels[3:, :, 1] = False
            return tiny.sample("x", labels[..., 1:].astype(np.float32), labels)

    def sees(variables, images):
        return jax.numpy.concatenate([0 * images + 1, images - 0.5], -1)

    options = {"class_names": Data.class_names, "activation": "sigmoid"}
    sees_all = segmenter_of(sees, **options, multiple_of=4, pad="constant")
    assert evaluate(sees_all, (), Data()) == {"all": 1.0, "top": 1.0, "mean": 1.0}
    assert evaluate(segmenter_of(sees, **options, fixed_size=(12, 12)), (), Data())["mean"] == 1.0


def test_more_images_to_learn_from_are_as_many_to_judge_by(tmp_path):
    usual, more = config(tmp_path), config(tmp_path, num=2500)
    assert len(more.open("train")) == 2500
    assert len(more.open("validation")) == len(usual.open("validation"))
    with pytest.raises(ConfigError, match="num=9: brain has its own images; leave num out"):
        config(tmp_path, data="brain", num=9).open("validation")


def test_the_network_follows_the_settings_and_the_data():
    settings = config("out", config={**unet(2, 4), "norm": "group"})
    built = settings.network(1, 3)
    assert (built.encoder_channels, built.norm) == ((2, 4, 4), "group")
    assert (built.in_channels, built.num_logits) == (1, 3)
    assert settings.network(3, 2).num_logits == 1
