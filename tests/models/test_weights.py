import json
import re

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from benchmarks.causes.sets import known_sets
from jaxseg_xai.core.errors import ConfigError, MismatchError, ModelError
from jaxseg_xai.data import open_dataset
from jaxseg_xai.models import weights
from jaxseg_xai.models.bundle import ModelCard
from jaxseg_xai.models.folder import bundled_models, load_model, save_model
from jaxseg_xai.models.zoo.segnet import SegNetConfig
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.training.evaluate import evaluate

CONFIG = UNetConfig.of_width(2, 1, in_channels=1)


def make_card(**changes):
    fields = {
        "architecture": "unet",
        "config": {"in_channels": 1, "encoder_channels": [2, 2], "decoder_channels": [2]},
        "class_names": ["background", "object"],
        "name_map": {},
    }
    return ModelCard(**fields | changes)


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "model", CONFIG.build(nnx.Rngs(3)), make_card())
    return tmp_path / "model"


def edit_card(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_save_and_load_round_trip(folder):
    bundle = load_model(folder)
    wanted = nnx.state(CONFIG.build(nnx.Rngs(3)))
    for found, expected in zip(
        jax.tree.leaves(bundle.variables), jax.tree.leaves(wanted), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert bundle.segmenter.input.multiple_of == 2


def torch_state(config, seed=0):
    """A state dict in PyTorch's names and layouts, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    state = {}

    def add_conv(name, n_in, n_out, size):
        state[f"{name}.weight"] = rng.normal(size=(n_out, n_in, size, size)).astype(np.float32)
        state[f"{name}.bias"] = rng.normal(size=n_out).astype(np.float32)

    def add_block(name, n_in, n_out):
        for k, channels in ((1, n_in), (2, n_out)):
            add_conv(f"{name}.conv{k}", channels, n_out, 3)
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                state[f"{name}.bn{k}.{leaf}"] = rng.uniform(0.5, 1, n_out).astype(np.float32)
            state[f"{name}.bn{k}.num_batches_tracked"] = np.array(7)

    add_block("inc", config.in_channels, 2)
    add_block("d1", 2, 2)
    add_block("u1", 4, 2)
    add_conv("out", 2, 1, 1)
    return state


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pth"])
def test_every_file_format_gives_the_same_model(tmp_path, suffix):
    state = torch_state(CONFIG)
    path = tmp_path / f"net.{suffix}"
    if suffix == "npz":
        np.savez(path, **state)
    elif suffix == "safetensors":
        safetensors.numpy.save_file(state, path)
    else:
        torch = pytest.importorskip("torch", reason="only it writes .pth files")
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    (tmp_path / "model.json").write_text(
        json.dumps(vars(make_card(weights=path.name, name_map=None)))
    )
    kernel = load_model(tmp_path).variables["encoder"][1]["conv2"]["kernel"][...]
    np.testing.assert_array_equal(kernel, state["d1.conv2.weight"].transpose(2, 3, 1, 0))


def test_transposed_convolutions_are_imported_as_torch_applies_them():
    torch = pytest.importorskip("torch", reason="torch (extra torch) is the reference")
    theirs = torch.nn.ConvTranspose2d(3, 5, 2, stride=2)
    ours = nnx.Dict(
        up=nnx.ConvTranspose(3, 5, (2, 2), strides=(2, 2), padding="VALID", rngs=nnx.Rngs(0))
    )
    state = {f"up.{name}": value.detach().numpy() for name, value in theirs.named_parameters()}
    weights.load_weights(ours, state)
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 3)).astype(np.float32)
    expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(ours["up"](x), expected.transpose(0, 2, 3, 1), atol=1e-5)


def test_names_are_checked_both_ways():
    state = torch_state(CONFIG)
    del state["d1.conv1.bias"]
    state["u9.conv1.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    state["out.weight"] = state["out.weight"][:, :1]
    with pytest.raises(MismatchError) as error:
        weights.load_weights(CONFIG.build(nnx.Rngs(0)), state, CONFIG.torch_names())
    assert str(error.value) == (
        "the weights do not fit: another version of the architecture, or names that need a "
        "name_map; 1 missing: encoder/1/conv1/bias; 1 unexpected: u9.conv1.weight; 1 of another "
        "shape: out.weight (1, 1, 1, 1) for (1, 1, 2, 1)"
    )


@pytest.mark.parametrize(
    ("theirs", "match"),
    [
        (UNetConfig.of_width(2, 1, in_channels=1, num_logits=3), "another class count: the file"),
        (UNetConfig.of_width(2, 1, in_channels=3), "other channels of the image: the file has 3"),
        (UNetConfig.of_width(3, 1, in_channels=1), "another width; [0-9]+ of another shape"),
        (UNetConfig.of_width(2, 2, in_channels=1), "(?s)null in the name_map.*[0-9]+ unexpected"),
        (
            SegNetConfig(channels=(2, 2), depths=(1, 1)),
            "another architecture, or names that need a name_map",
        ),
    ],
)
def test_another_network_is_a_short_line_with_the_likely_cause(folder, theirs, match):
    weights.write_weights(folder / "weights.safetensors", theirs.build(nnx.Rngs(0)))
    with pytest.raises(MismatchError, match=match) as error:
        load_model(folder)
    line, details = str(error.value), error.value.details
    assert "\n" not in line
    assert len(line.removeprefix(str(folder))) <= 400
    kinds = re.findall("([0-9]+) (missing|unexpected|of another shape)", line)
    assert sum(int(count) for count, _ in kinds) == len(details.splitlines())


@pytest.mark.parametrize(
    "prefix", ["module.", "net.", "model.module.", "_orig_mod.", "net._orig_mod."]
)
def test_prefixes_of_wrappers_are_left_away(folder, prefix):
    state = torch_state(CONFIG)
    arrays = {f"{prefix}{name}": value for name, value in state.items()}
    arrays |= {"loss.weight": np.ones(3, np.float32)}
    safetensors.numpy.save_file(arrays, folder / "weights.safetensors")
    edit_card(folder, name_map=None)
    with pytest.raises(MismatchError, match=r"1 unexpected: loss\.weight"):
        load_model(folder)
    edit_card(folder, name_map={"loss": None})
    kernel = load_model(folder).variables["encoder"][1]["conv2"]["kernel"][...]
    np.testing.assert_array_equal(kernel, state["d1.conv2.weight"].transpose(2, 3, 1, 0))


def test_names_are_tried_as_they_are_first():
    """MONAI's networks call a part of their own `model`."""
    found = list(weights.readings({"module.model.0.weight": np.ones(1)}))
    assert [list(reading) for reading in found] == [
        ["module.model.0.weight"],
        ["model.0.weight"],
        ["0.weight"],
    ]


@pytest.mark.parametrize("left_out", ["aux", "net.aux", "net.aux.0"])
def test_null_in_a_name_map_leaves_a_module_out(folder, left_out):
    arrays = {f"net.{name}": value for name, value in torch_state(CONFIG).items()}
    arrays["net.aux.0.weight"] = np.ones((3, 3), np.float32)
    safetensors.numpy.save_file(arrays, folder / "weights.safetensors")
    edit_card(folder, name_map={left_out: None})
    load_model(folder)
    own = {"net.inc": "encoder/0", "net.d1": "encoder/1", "net.u1": "decoder/0", "net.out": "head"}
    edit_card(folder, name_map=own | {left_out: None})
    load_model(folder)


def test_null_for_a_module_that_is_not_there_is_refused(folder):
    edit_card(folder, name_map={"auxiliary": None})
    with pytest.raises(
        ModelError, match="leaves out 'auxiliary', which is not in the file; it has"
    ):
        load_model(folder)


def test_layers_of_one_name_may_all_be_without_bias():
    state = torch_state(CONFIG)
    bare = {name: value for name, value in state.items() if not re.search(r"conv1\.bias", name)}
    model = CONFIG.build(nnx.Rngs(0))
    weights.load_weights(model, bare, CONFIG.torch_names())
    assert not np.any(model.encoder[1].conv1.bias[...])
    np.testing.assert_array_equal(model.encoder[1].conv2.bias[...], state["d1.conv2.bias"])
    del bare["out.bias"]
    with pytest.raises(MismatchError, match="1 missing: head/bias"):
        weights.load_weights(model, bare, CONFIG.torch_names())


def test_volumes_embeddings_and_fused_projections_have_pytorchs_layout():
    rng, rngs = np.random.default_rng(0), nnx.Rngs(0)
    model = nnx.Dict(
        conv=nnx.Conv(2, 3, (1, 2, 4), rngs=rngs),
        embed=nnx.Embed(5, 5, rngs=rngs),
        qkv=nnx.Linear(4, 12, rngs=rngs),
    )
    shapes = {
        "conv.weight": (3, 2, 1, 2, 4),
        "conv.bias": (3,),
        "embed.weight": (5, 5),
        "qkv.weight": (12, 4),
        "qkv.bias": (12,),
    }
    state = {k: rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
    weights.load_weights(model, state)
    turned = state["conv.weight"].transpose(2, 3, 4, 1, 0)
    np.testing.assert_array_equal(model["conv"].kernel[...], turned)
    np.testing.assert_array_equal(model["embed"].embedding[...], state["embed.weight"])
    np.testing.assert_array_equal(model["qkv"].kernel[...], state["qkv.weight"].T)


def test_nothing_is_set_when_a_name_is_wrong():
    model = CONFIG.build(nnx.Rngs(0))
    before = np.asarray(model.head.bias[...])
    state = torch_state(CONFIG)
    state["more.bias"] = np.zeros(1)
    with pytest.raises(ModelError, match="unexpected"):
        weights.load_weights(model, state, CONFIG.torch_names())
    np.testing.assert_array_equal(model.head.bias[...], before)


@pytest.mark.parametrize("name", ["net.npz", "net.safetensors", "net.pth"])
def test_damaged_weights_are_one_clear_line(folder, name):
    (folder / name).write_bytes(b"PK\x03\x04 not really a weight file")
    edit_card(folder, weights=name)
    with pytest.raises(ModelError, match=f"{name}: damaged weight file") as error:
        load_model(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"weights": "none.npz"}, "no such weight file"),
        ({"weights": "net.h5"}, "unknown kind of weight file"),
        ({"architecture": "vnet"}, "unknown architecture 'vnet'"),
        ({"class_names": ["background"]}, r"model\.json: class_names has 1 entries"),
        ({"widht": 3}, "widht"),
        ({"config": {"in_channels": "one"}}, "in_channels"),
        ({"config": {"encoder_channels": [2, 2, 2], "decoder_channels": [2, 2]}}, "missing"),
    ],
)
def test_bad_cards_are_one_clear_line(folder, changes, match):
    edit_card(folder, **changes)
    with pytest.raises((ModelError, ConfigError), match=match) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_unknown_models_are_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ModelError, match=r"no such model; use .* model\.json"):
        load_model(tmp_path)


def test_bundled_models_load_small_licensed_and_say_how_they_were_made():
    models = bundled_models()
    of_brain = {f"brain-{name}" for name in ("hrnet", "segformer", "unext", "volume")}
    of_causes = {known.model for known in known_sets()} & set(models)
    assert set(models) == {"brain", "triangle", "triangle-cue", *of_brain, *of_causes}
    for name, path in models.items():
        card = load_model(name).card
        assert sum(file.stat().st_size for file in path.iterdir()) < 1.3e6
        assert {"command", "seed", "dice", "licence", "data"} <= card.about.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_are_as_good_as_their_cards_say(name):
    bundle = load_model(name)
    about = bundle.card.about
    held_out = open_dataset(about["data"], about["dice_split"])
    assert len(held_out) == about["dice_images"]
    found = evaluate(bundle.segmenter, bundle.variables, held_out)
    assert found == pytest.approx(about["dice"], abs=1e-3)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_norms_are_those_of_torch_even_where_the_image_is_nearly_flat(norm):
    torch = pytest.importorskip("torch", reason="torch (extra torch) is the reference")
    config = UNetConfig.of_width(8, 1, norm=norm, num_groups=4)
    ours = config.build(nnx.Rngs(0)).encoder[0].norm1
    ours.eval()
    theirs = {
        "batch": torch.nn.BatchNorm2d(8),
        "group": torch.nn.GroupNorm(4, 8),
        "instance": torch.nn.InstanceNorm2d(8, affine=True),
    }[norm].eval()
    x = 1e-3 * np.random.default_rng(0).normal(size=(2, 6, 5, 8)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(ours(x), expected.transpose(0, 2, 3, 1), atol=1e-5)


def test_usual_torch_names_need_a_map_of_whole_blocks_only():
    state = {f"net.{name}": value for name, value in torch_state(CONFIG).items()}
    names = {"net": "", "net.inc": "encoder/0", "net.d1": "encoder/1", "net.u1": "decoder/0"}
    model = CONFIG.build(nnx.Rngs(0))
    weights.load_weights(model, state, names | {"net.out": "head"})
    np.testing.assert_array_equal(
        model.encoder[1].norm2.mean[...], state["net.d1.bn2.running_mean"]
    )


def test_weights_that_are_not_finite_are_refused():
    state = torch_state(CONFIG)
    state["d1.conv1.bias"][0] = np.nan
    with pytest.raises(ModelError, match=r"NaN or infinity in d1\.conv1\.bias"):
        weights.load_weights(CONFIG.build(nnx.Rngs(0)), state, CONFIG.torch_names())


def test_parameters_that_require_a_gradient_can_be_read(tmp_path):
    torch = pytest.importorskip("torch", reason="only it writes .pth files")
    torch.save(dict(torch.nn.Linear(2, 3).named_parameters()), tmp_path / "net.pth")
    assert weights.read_weights(tmp_path / "net.pth")["weight"].shape == (3, 2)


def test_a_class_named_twice_is_refused(folder):
    edit_card(folder, class_names=["object", "object"])
    with pytest.raises(ModelError, match="a name twice"):
        load_model(folder)
