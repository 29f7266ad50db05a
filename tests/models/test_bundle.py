"""Model folders: what a card may change, and a family that is nothing like a U-Net."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.registry import Registry
from jaxseg_xai.models import ADAPTERS, MODELS, load_model
from jaxseg_xai.models.adapters import Adapter
from jaxseg_xai.models.adapters.places import import_object
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.bundle import ModelCard
from jaxseg_xai.models.folder import save_model, write_card
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.program.trace import trace
from jaxseg_xai.sweeps.stored import model_identity
from tests.tiny import write_model

CONFIG = UNetConfig.of_width(2, 1, in_channels=1, num_logits=3, norm="none")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "three"
    card = ModelCard(
        architecture="unet",
        config=dataclasses.asdict(CONFIG),
        class_names=("whole", "core", "enhancing"),
        name_map={},
    )
    save_model(folder, CONFIG.build(nnx.Rngs(0)), card)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """The folder with another card."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def edit(**changes):
        path = tmp_path / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return tmp_path

    return edit


def test_a_card_says_what_goes_in_and_what_comes_out(folder):
    found = load_model(
        folder(
            input={"mean": [0.5], "std": [2], "pad": "edge", "value_range": [0, 255]},
            output={"activation": "sigmoid", "resize": "linear"},
        )
    )
    spec, output = found.segmenter.input, found.segmenter.output
    assert (spec.mean, spec.std, spec.pad, spec.value_range) == ((0.5,), (2.0,), "edge", (0, 255))
    assert (spec.channels, spec.multiple_of) == (1, 2)  # the architecture's
    assert (output.activation, output.resize) == ("sigmoid", "linear")
    assert found.class_names == found.card.class_names == ("whole", "core", "enhancing")
    assert found.segmenter.sites == CONFIG.sites()


def test_old_cards_stay_what_they_were(folder):
    path = folder() / "model.json"
    card = json.loads(path.read_text())
    del card["input"], card["output"]
    path.write_text(json.dumps(card))
    segmenter = load_model(path.parent).segmenter
    assert segmenter.input == InputSpec(channels=1, multiple_of=2)
    assert segmenter.output.activation == "softmax"
    assert (segmenter.dtype, segmenter.differentiable) == ("float32", True)


def test_who_loads_a_model_has_the_last_word(folder):
    where = folder(input={"pad": "edge", "grey": "repeat"})
    assert load_model(where).segmenter.input.pad == "edge"
    segmenter = load_model(where, pad="reflect", dtype="bfloat16").segmenter
    assert (segmenter.input.pad, segmenter.input.grey) == ("reflect", "repeat")
    assert segmenter.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"input": {"men": [0.5]}}, "input: unknown key men; the keys are rank, channels"),
        ({"input": {"mean": 0.5}}, "input: mean is 0.5"),
        ({"input": {"mean": [0.5, 0.5, 0.5]}}, "mean has 3 values for 1 channels"),
        ({"input": {"channels": 3}}, "input.channels is 3, the architecture takes 1"),
        ({"input": {"rank": 3}}, "input.rank is 3, the architecture takes 2"),
        ({"input": {"pad": "zeros"}}, "pad is 'zeros'"),
        ({"output": {"activation": "relu"}}, "activation is 'relu'"),
        ({"output": {"class_names": ["a", "b"]}}, "name the classes in class_names"),
        ({"output": {"men": 1}}, "output: unknown key men; the keys are class_names, activation"),
        (
            {"class_names": ["a", "b"], "output": {"activation": "sigmoid"}},
            "2 entries; num_logits = 3 and sigmoid mean 3$",
        ),
        ({"class_names": ["a", "b"]}, "num_logits = 3 and softmax mean 3, background first"),
        ({"config": {"norm": "layer"}}, "layer"),
        ({"config": {"encoder_channels": [2, 0], "decoder_channels": [2]}}, "encoder_channels is"),
        (
            {"architecture": ""},
            "names no model; give either architecture or one of callable",
        ),
        ({"nnx": "a:b"}, "names nnx and architecture; give either architecture or one of callable"),
    ],
)
def test_cards_that_contradict_the_architecture(folder, changes, match):
    with pytest.raises(ModelError, match=match) as error:
        load_model(folder(**changes))
    assert "model.json: " in str(error.value)
    assert "\n" not in str(error.value)


# Models that a card names by an adapter.


def network():
    return nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))


def scaled(variables, images):
    return images * variables["scale"]


def shifted(variables, images):
    return images + variables["scale"]


def doubled(images):
    return 2 * images


def whole():
    return load_model("triangle")


def failing():
    raise RuntimeError("out of order\nand more")


@pytest.fixture
def adapted(tmp_path):
    """A folder whose card names no architecture."""

    def write(arrays=None, **card):
        if arrays:
            safetensors.numpy.save_file(arrays, tmp_path / "net.safetensors")
            card["weights"] = "net.safetensors"
        (tmp_path / "model.json").write_text(json.dumps({"class_names": ["none", "all"]} | card))
        return tmp_path

    return write


def test_a_card_may_name_a_factory_or_a_function(adapted):
    images = jax.random.uniform(jax.random.key(0), (1, 6, 5, 1))
    net = network()
    folder = adapted(nnx=f"{__name__}:network", input={"channels": 1, "mean": [0.5]})
    bundle = load_model(folder, pad="edge", dtype="bfloat16")
    assert (bundle.name, bundle.class_names) == (folder.name, ("none", "all"))
    assert (bundle.segmenter.input.mean, bundle.segmenter.input.pad) == ((0.5,), "edge")
    assert (bundle.segmenter.dtype, bundle.card.adapter[0]) == ("bfloat16", "nnx")
    bundle = load_model(folder)
    np.testing.assert_array_equal(bundle.segmenter(bundle.variables, images), net(images))
    assert load_model(folder).segmenter == bundle.segmenter
    # What is written is read again.
    write_card(folder, bundle.card)
    assert load_model(folder).segmenter == bundle.segmenter

    weights = {"weight": np.ones((2, 1, 3, 3), np.float32), "bias": np.zeros(2, np.float32)}
    bundle = load_model(adapted(weights, nnx=f"{__name__}:network", input={"channels": 1}))
    net.kernel[...], net.bias[...] = jnp.ones((3, 3, 1, 2)), jnp.zeros(2)
    np.testing.assert_array_equal(bundle.segmenter(bundle.variables, images), net(images))

    of_two = {"input": {"channels": 2}, "output": {"activation": "sigmoid"}}
    images = jnp.concatenate([images, images], -1)
    bundle = load_model(adapted(callable=f"{__name__}:doubled", **of_two))
    np.testing.assert_array_equal(bundle.segmenter(bundle.variables, images), 2 * images)
    assert bundle.segmenter.output.activation == "sigmoid"
    weights = {"scale": np.full(1, 3, np.float32)}
    bundle = load_model(adapted(weights, callable=f"{__name__}:scaled", **of_two))
    np.testing.assert_array_equal(bundle.segmenter(bundle.variables, images), 3 * images)


def test_an_adapter_may_open_a_whole_model(adapted, monkeypatch):
    class Whole(Adapter):
        @staticmethod
        def open(place, folder, weights):
            return import_object(place)(), (folder, weights)[1]

    monkeypatch.setattr(f"{__name__}.Whole", Whole, raising=False)
    registry = Registry(ADAPTERS.group, ADAPTERS.kind, {"whole": f"{__name__}:Whole"})
    monkeypatch.setattr("jaxseg_xai.models.folder.ADAPTERS", registry)
    folder = adapted(whole=f"{__name__}:whole", class_names=[])
    bundle = load_model(folder, pad="edge")
    assert (bundle.name, bundle.segmenter.input.pad) == (folder.name, "edge")
    assert bundle.class_names == whole().class_names
    with pytest.raises(ModelError, match=r"whole: triangle is a model already, .* leave out"):
        load_model(adapted(whole=f"{__name__}:whole"))


def test_models_that_a_card_names_are_told_apart(adapted):
    """Each by its program and its weights, of which a store keeps checksums."""

    def identity(name, scale):
        weights = {"scale": np.full(1, scale, np.float32)}
        folder = adapted(weights, callable=f"{__name__}:{name}", input={"channels": 2})
        work = types.SimpleNamespace(bundle=load_model(folder), image_shape=(4, 4, 2))
        return model_identity(work)

    one, same = identity("scaled", 2), identity("scaled", 2)
    weights, program = identity("scaled", 3), identity("shifted", 2)
    assert one == same
    assert one["weights_checksum"] == program["weights_checksum"] != weights["weights_checksum"]
    assert one["program"] == weights["program"] != program["program"]


def test_a_model_is_known_again_by_what_a_store_has_of_it(tmp_path):
    """Settings that the weights show are Python's, those of a card JSON's."""
    write_model(tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(card | {"name_map": None}))
    work = types.SimpleNamespace(bundle=load_model(tmp_path), image_shape=(8, 8, 3))
    identity = model_identity(work)
    assert json.loads(json.dumps(identity)) == identity


@pytest.mark.parametrize(
    ("card", "match"),
    [
        ({"nnx": f"{__name__}:network", "callable": "a:b"}, "names callable and nnx; give either"),
        ({"nx": "a:b"}, "names no model; give either architecture or one of callable, linen, nnx"),
        ({"nnx": "network"}, "nnx: 'network' is no Python object; give \"package.module:name\""),
        ({"nnx": 3}, "nnx: 3 is no Python object"),
        ({"nnx": "nowhere:network"}, "cannot be imported: ModuleNotFoundError: .* PYTHONPATH"),
        ({"nnx": f"{__name__}:nothing"}, "nothing cannot be imported: AttributeError"),
        ({"nnx": f"{__name__}:failing"}, r"failing\(\) fails: RuntimeError: out of order; name a"),
        ({"nnx": f"{__name__}:whole"}, r"whole\(\) returns a Bundle, no model of this kind"),
        ({"callable": f"{__name__}:CONFIG"}, "callable: a UNetConfig is no model"),
        ({"linen": "a:b"}, "linen: such models cannot be opened from a folder; use as_model"),
        ({"nnx": f"{__name__}:network", "weights": "net.npz"}, "net.npz: no such weight file"),
        ({"nnx": f"{__name__}:network", "config": 3}, "config is 3"),
        ({"callable": f"{__name__}:doubled", "input": {"men": 1}}, "input: unknown key men"),
        ({"callable": f"{__name__}:doubled", "class_names": []}, "class_names has 0 entries"),
        (
            {"callable": f"{__name__}:doubled", "output": {"class_names": ["a", "b"]}},
            "name the classes in class_names",
        ),
    ],
)
def test_cards_whose_adapter_cannot_open_them(adapted, card, match):
    with pytest.raises(ModelError, match=match) as error:
        load_model(adapted(**card))
    assert "model.json: " in str(error.value)
    assert "\n" not in str(error.value)


def test_names_in_the_registry_are_those_of_the_families():
    for name, family in MODELS.usable():
        assert family.name == name
        assert issubclass(family, Architecture)


# A family as another package would add it: a volume, depthwise convolution, tokens, dropout.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig(Architecture):
    name = "toy"
    in_channels: int = setting(1, at_least=1)
    num_logits: int = setting(2, at_least=1)
    width: int = setting(4, at_least=2)

    def build(self, rngs):
        return Toy(self, rngs)

    def input_spec(self):
        return InputSpec(rank=3, channels=self.in_channels, multiple_of=2)

    def torch_names(self):
        return {"backbone.stem": "stem", "blocks.0": "mix", "decode_head.pred": "head"}

    def translate(self, arrays):
        """One array of keys and values is two layers here; the auxiliary head is not there."""
        arrays = {name: a for name, a in arrays.items() if not name.startswith("aux.")}
        for leaf in ("weight", "bias"):
            both = arrays.pop(f"attn.kv.{leaf}")
            arrays[f"key.{leaf}"], arrays[f"value.{leaf}"] = np.split(both, 2)
        return arrays


class Toy(nnx.Module):
    def __init__(self, config, rngs):
        width = config.width
        self.stem = nnx.Conv(config.in_channels, width, (2, 2, 2), strides=2, rngs=rngs)
        self.mix = nnx.Conv(width, width, (3, 3, 3), feature_group_count=width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.table = nnx.Variable(jnp.linspace(0.5, 1.5, width))  # made, not trained
        self.up = nnx.ConvTranspose(width, width, (2, 2, 2), strides=2, padding="VALID", rngs=rngs)
        self.head = nnx.Conv(width, config.num_logits, (1, 1, 1), rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.mix(self.stem(x)))
        x = self.drop(self.value(x) * nnx.sigmoid(self.key(x))) * self.table[...]
        return self.head(self.up(x))


@pytest.fixture
def toy_folder(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch (extra torch) is the reference")
    registry = Registry(MODELS.group, MODELS.kind, {"toy": f"{__name__}:ToyConfig"})
    monkeypatch.setattr("jaxseg_xai.models.bundle.MODELS", registry)
    torch.manual_seed(0)
    layers = torch.nn.ModuleDict(
        {
            "backbone": torch.nn.ModuleDict({"stem": torch.nn.Conv3d(1, 4, 2, stride=2)}),
            "blocks": torch.nn.ModuleList([torch.nn.Conv3d(4, 4, 3, padding=1, groups=4)]),
            "norm": torch.nn.LayerNorm(4),
            "attn": torch.nn.ModuleDict({"kv": torch.nn.Linear(4, 8)}),
            "up": torch.nn.ConvTranspose3d(4, 4, 2, stride=2),
            "decode_head": torch.nn.ModuleDict({"pred": torch.nn.Conv3d(4, 2, 1)}),
            "aux": torch.nn.Linear(4, 2),
        }
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    state = {name: value.detach().numpy() for name, value in layers.state_dict().items()}
    safetensors.numpy.save_file(state, tmp_path / "weights.safetensors")
    card = {"architecture": "toy", "config": {}, "class_names": ["background", "lesion"]}
    (tmp_path / "model.json").write_text(json.dumps(card))

    def run(x):
        with torch.no_grad():
            x = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
            x = layers["blocks"][0](layers["backbone"]["stem"](x))
            x = layers["norm"](x.movedim(1, -1))
            key, value = layers["attn"]["kv"](x).chunk(2, dim=-1)
            x = value * torch.sigmoid(key) * torch.linspace(0.5, 1.5, 4)
            x = layers["decode_head"]["pred"](layers["up"](x.movedim(-1, 1)))
        return np.moveaxis(x.numpy(), 1, -1)

    return tmp_path, run


def test_a_family_of_another_package_with_weights_of_torch(toy_folder):
    folder, run = toy_folder
    bundle = load_model(folder)
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 2, 1)).astype(np.float32)
    expected = run(x)
    assert expected.shape == (2, 4, 6, 2, 2)
    found = jax.jit(bundle.segmenter)(bundle.variables, x)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    # What is no weight is there too, so that everything below can use the variables.
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(bundle.variables))
    program = trace(bundle.segmenter, bundle.variables, x[:1].shape, jnp.float32)
    assert program.shapes[program.logits].shape == (1, 4, 6, 2, 2)


def test_weights_of_our_own_names_are_not_translated(toy_folder):
    folder, _ = toy_folder
    bundle = load_model(folder)
    model = nnx.merge(bundle.segmenter.apply.graphdef, bundle.variables)
    save_model(folder, model, dataclasses.replace(bundle.card, name_map={}))
    again = load_model(folder)
    assert again.segmenter == bundle.segmenter
    wanted, found = (
        dict(nnx.to_flat_state(nnx.filter_state(b.variables, nnx.Param))) for b in (bundle, again)
    )
    assert found.keys() == wanted.keys()
    assert len(found) == 14
    for path, value in wanted.items():
        np.testing.assert_array_equal(found[path][...], value[...])
