"""PyTorch modules as models: same values and gradients, shared programs, one line for the rest."""

import functools
import json
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError, MissingExtraError, ModelError
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.models import ADAPTERS, as_model, from_torch, load_model
from jaxseg_xai.sweeps.stored import model_identity

torch = pytest.importorskip("torch", reason="torch (extra torch) is the reference")
pytest.importorskip("torchax", reason="torchax (extra torch) is what the adapter is made of")

from torch.nn import functional as F  # noqa: E402

from jaxseg_xai.models.torchax import products, resizing, sampling  # noqa: E402
from tests.models.torch_nets import NETS, Transformer, Volume, make  # noqa: E402

NAMES = ("background", "object")


def first(x):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def run_torch(net, x, weight):
    """Output, and gradient of its weighted sum, by PyTorch."""
    inputs = first(x).requires_grad_()
    found = net(inputs)
    found = found["out"][0] if isinstance(found, dict) else found
    (found * first(weight)).sum().backward()
    return last(found), last(inputs.grad)


SLOW = ("aligned", "nearest", "transposed", "sparse")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NETS]
)
def test_outputs_and_gradients_are_those_of_pytorch(name):
    net = make(name)
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=(2, 16, 16, c)).astype(np.float32) for c in (3, 2))
    expected, slope = run_torch(net, x, weight)
    model = from_torch(net, class_names=NAMES)

    @jax.jit
    def run(variables, x):
        found, back = jax.vjp(functools.partial(model.segmenter, variables), x)
        return found, back(weight)[0]

    found = run(model.variables, x)
    for ours, theirs in zip(found, (expected, slope), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    assert run._cache_size() == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bilinear", "transformer", "pyramid"])
def test_modules_compute_in_bfloat16(name):
    x = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype(np.float32)
    models = [from_torch(make(name), class_names=NAMES, dtype=d) for d in ("float32", "bfloat16")]
    exact, short = (jax.jit(m.segmenter)(m.variables, x) for m in models)
    assert 0 < np.abs(exact - short).max() < 0.05 * np.abs(exact).max()


def test_volumes_and_outputs_in_containers():
    net = make("Volume")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 6, 8, 1)).astype(np.float32)
    expected = last(net(first(x))["out"][0])
    model = from_torch(net, class_names=NAMES, rank=3, channels=1, select=["out", 0])
    one_by_one = jax.vmap(lambda x: model.segmenter(model.variables, x[None])[0])
    np.testing.assert_allclose(jax.jit(one_by_one)(x), expected, atol=1e-5)
    model = from_torch(net, class_names=NAMES, rank=3, channels=1)
    with pytest.raises(ModelError, match=r"a dict of 'name', 'out'; set output\.select"):
        model.segmenter(model.variables, x)


def test_modules_made_alike_share_programs():
    nets = [make("segnet"), NETS["segnet"](), NETS["sparse"]()]
    nets[1].train()
    one, same, other = (from_torch(net, class_names=NAMES).segmenter for net in nets)
    assert (one == same, hash(one) == hash(same), one == other) == (True, True, False)
    assert nets[1].training  # the module is as it was


class Net(torch.nn.Module):
    """A layer, and what a test does with its output."""

    def __init__(self, then=lambda net, x: x, **attributes):
        super().__init__()
        self.conv, self.drop = torch.nn.Conv2d(3, 2, 1), torch.nn.Dropout(0.5)
        self.then = then
        self.__dict__.update(attributes)

    def forward(self, x):
        return self.then(self, self.drop(self.conv(x)))


def writes(net, x):
    found = torch.zeros_like(x)
    found[:, :, 1:] = x[:, :, 1:]
    return found


def remembers(net, x):
    net.seen = getattr(net, "seen", x)
    return x + net.seen


def on_the_cpu(net, x):
    ramp = torch.linspace(0, 1, x.shape[-1])
    return x * ramp if ramp.sum() > 0 else x


@pytest.mark.parametrize(
    "net",
    [
        Net(writes),
        Net(remembers),
        Net(on_the_cpu),
        Net(lambda net, x: x * net.scales["a"][0], scales={"a": [torch.tensor(2.0)]}),
        Net(lambda net, x: x[:, net.order], order=torch.tensor([1, 0])),
        Net().double(),
        Net().half(),
        torch.nn.Sequential(Net(), torch.nn.utils.spectral_norm(torch.nn.Conv2d(2, 2, 1))),
    ],
    ids=["writes", "remembers", "cpu", "attributes", "integers", "double", "half", "hooks"],
)
def test_what_modules_may_do(net):
    x = np.random.default_rng(0).random((1, 4, 5, 3)).astype(np.float32)
    model = from_torch(net.train(), class_names=NAMES)
    found = [jax.jit(model.segmenter)(model.variables, image) for image in (x, x[:, :3])]
    net = net.float().eval()
    np.testing.assert_allclose(found[0], last(net(first(x))), atol=1e-5)
    if hasattr(net, "seen"):
        del net.seen
    np.testing.assert_allclose(found[1], last(net(first(x[:, :3]))), atol=1e-5)
    assert all(value.dtype == jnp.float32 for value in model.variables.values())


def test_weights_are_a_copy_under_their_names():
    net = Net()
    model = from_torch(net, class_names=NAMES)
    with torch.no_grad():
        net.conv.bias += 1
    assert sorted(model.variables) == ["conv/bias", "conv/weight"]
    again = from_torch(net, class_names=NAMES)
    assert again.segmenter == model.segmenter
    np.testing.assert_allclose(again.variables["conv/bias"] - model.variables["conv/bias"], 1, 1e-6)


def writes_elsewhere(net, x):
    found = torch.zeros(x.shape)
    found[:] = x
    return found


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (lambda: Net(lambda net, x: x if x.mean() > 0 else -x), "decides in Python .* torch.where"),
        (lambda: Net(lambda net, x: torch.from_numpy(x.numpy())), "computes in NumPy"),
        (lambda: Net(lambda net, x: torch.special.airy_ai(x)), "operator aten::special_airy_ai of"),
        (lambda: Net(writes_elsewhere), "__setitem__.* make it with device=image.device"),
        (lambda: Net(lambda net, x: x[:, 0]), r"logits \[B, 4, 4, 2\], not an array"),
        (lambda: Net(lock=threading.Lock()), "the Net cannot be copied: .*lock"),
        (lambda: Net().to("meta"), "conv.weight has no values .device meta.; load"),
        (lambda: torch.nn.LazyConv2d(2, 1), "weight has no shape yet; call the module"),
        (lambda: torch.nn.Conv2d(5, 2, 1), "cannot be applied to images .* feature dimension"),
    ],
)
def test_modules_that_cannot_be_explained_are_one_line(net, match):
    def run():
        model = from_torch(net(), class_names=NAMES)
        model.segmenter(model.variables, jnp.ones((1, 4, 4, 3)))

    with pytest.raises(ModelError, match=match) as error:
        run()
    assert "\n" not in str(error.value)


def test_what_is_no_module_and_an_absent_torchax(monkeypatch):
    with pytest.raises(ConfigError, match=r"a function is no torch\.nn\.Module; use as_model"):
        from_torch(writes, class_names=NAMES)
    with pytest.raises(ConfigError, match="leave variables out"):
        as_model(Net(), {}, class_names=NAMES)
    monkeypatch.setitem(sys.modules, "jaxseg_xai.models.torchax.parts", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxseg-xai\[torch\]'"):
        from_torch(Net(), class_names=NAMES)


@pytest.fixture
def folder(tmp_path):
    card = {"torch": f"{__name__}:Net", "class_names": NAMES, "weights": "net.safetensors"}
    (tmp_path / "model.json").write_text(json.dumps(card))
    state = {f"module.{name}": value.numpy() for name, value in Net().state_dict().items()}

    def write(**changes):
        safetensors.numpy.save_file(state | changes, tmp_path / "net.safetensors")
        return tmp_path

    return write


def test_a_card_may_name_a_pytorch_module(folder):
    bias = np.arange(2.0, dtype=np.float32)
    model = load_model(folder(**{"module.conv.bias": bias}))
    np.testing.assert_array_equal(model.variables["conv/bias"], bias)
    identity = model_identity(types.SimpleNamespace(bundle=model, image_shape=(4, 4, 3)))
    assert identity["program"] != 0
    with pytest.raises(ModelError, match="do not fit: another class count") as error:
        load_model(folder(**{"module.conv.bias": np.zeros(3, np.float32)}))
    assert "\n" not in str(error.value)


def test_windows_and_layers_are_found():
    model = from_torch(NETS["bilinear"](), class_names=NAMES)
    plan = make_plan(
        model.segmenter, model.variables, (64, 64, 3), block=(4, 4), region=(8, 8), num_patches=2
    )
    table = plan.table()
    assert not any(row.note for row in table.rows)
    assert {row.layer for row in table.rows} >= {"enter.0", "down.0", "out.0.0", "out.1"}
    assert table.ratio > 10


def test_one_image_is_computed_like_several():
    """Attention with one head: nothing may drop or join a batch of one."""
    model = from_torch(Transformer(heads=1), class_names=NAMES)
    plan = make_plan(
        model.segmenter, model.variables, (16, 16, 3), block=(4, 4), region=(4, 4), num_patches=2
    )
    assert {row.layer for row in plan.table().rows} >= {"embed", "qkv", "head"}


MASKS = [{}, {"is_causal": True}, {"attn_mask": True, "scale": 0.3}, {"enable_gqa": True}]


@pytest.mark.parametrize("options", MASKS)
def test_attention_is_that_of_pytorch(options):
    generator = torch.Generator().manual_seed(0)
    heads = 1 if "enable_gqa" in options else 2
    q, k, v = (torch.randn(2, h, 5, 4, generator=generator) for h in (2, heads, heads))
    if "attn_mask" in options:
        options = options | {"attn_mask": torch.rand(5, 5, generator=generator) > 0.3}
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    arrays = [jnp.asarray(x.numpy()) for x in (q, k, v)]
    options = {
        name: np.asarray(value) if name == "attn_mask" else value for name, value in options.items()
    }
    np.testing.assert_allclose(products.attention(*arrays, **options), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("grad_cam", {}),
        ("ate", {"block_size": 4, "perturbation": "zero"}),
        ("misure", {"num_iterations": 3}),
    ],
)
@pytest.mark.slow
def test_methods_explain_modules(method, settings):
    model = from_torch(make("bilinear"), class_names=NAMES)
    image = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    found = jaxseg_xai.explain(model, image, "object", method, **settings)
    assert np.isfinite(found.attribution).all()


RESIZING = {
    "nearest": [{"size": (7, 5)}, {"scale_factor": (1.5, 3)}, {"scale_factor": 0.4}],
    "nearest-exact": [{"size": (7, 5)}, {"scale_factor": (1.5, 3)}],
    "bilinear": [
        {"size": (7, 12)},
        {"scale_factor": 2, "align_corners": True},
        {"scale_factor": (1.7, 0.45)},
        {"scale_factor": 1.7, "recompute_scale_factor": True},
        {"size": (3, 11), "antialias": True},
    ],
    "bicubic": [
        {"size": (7, 12)},
        {"size": (1, 9), "align_corners": True},
        {"size": (3, 11), "antialias": True},
    ],
    "area": [{"size": (4, 9)}],
}


@pytest.mark.parametrize("mode", RESIZING)
def test_images_are_resized_as_by_pytorch(mode):
    x = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    for options in RESIZING[mode]:
        expected = F.interpolate(x, mode=mode, **options)
        found = resizing.interpolate(jnp.asarray(x.numpy()), mode=mode, **options)
        np.testing.assert_allclose(found, expected, atol=3e-6, err_msg=str(options))


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_images_are_sampled_as_by_pytorch(padding_mode):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 5, 6, generator=generator)
    grid = 2.5 * torch.randn(1, 3, 4, 2, generator=generator)
    for mode, align_corners in (("bilinear", True), ("bilinear", False), ("nearest", False)):
        options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
        found = sampling.grid_sample(jnp.asarray(x.numpy()), jnp.asarray(grid.numpy()), **options)
        np.testing.assert_allclose(found, F.grid_sample(x, grid, **options), atol=1e-5)


def test_the_adapter_answers_without_pytorch(monkeypatch):
    adapter = ADAPTERS.get("torch")
    assert adapter.matches(Volume())
    monkeypatch.delitem(sys.modules, "torch")
    assert not adapter.matches(Volume())
