"""Makes the two reference files of a PyTorch network; see README.md.

python -m tests.reference.zoo.make_reference NAME FILE.py:FUNCTION --shape B C [D] H W
"""

import argparse
import copy
import importlib.util
import json
import math
from pathlib import Path

import numpy as np

from tests.reference.zoo import recipe

#: Of the arrays in float32; of a larger output only every second, third, ... pixel is kept.
MOST_BYTES = 80_000
_KEYS = (
    "small/logits, grad = full[..., ::stride, ::stride] in float32; small/logits64, grad64 = the "
    "float64 run's full[..., ::stride64, ::stride64]; of volumes along three axes"
)


def network_of(place):
    """What a function "file.py:function" returns."""
    file, _, function = place.partition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)()


def image_of(shape, seed):
    """[B, C, *S]; of a volume the slices of all channels are drawn as channels."""
    batch, channels, *size = shape
    stacked = (batch, channels * math.prod(size[:-2]), *size[-2:])
    return recipe.image(stacked, seed).reshape(shape)


def once(network):
    """The state dict, of a tensor with several names only the first."""
    places, found = set(), {}
    for name, value in network.state_dict().items():
        place = (value.data_ptr(), tuple(value.shape))
        if value.numel() == 0 or place not in places:
            found[name] = value
        places.add(place)
    return found


def load(network, arrays):
    """Set the weights; what the recipe leaves out stays as it is."""
    import torch  # here, so that what needs only NumPy can be had without

    state = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    named = once(network)
    kept = [
        name for name in missing if name in named and name.rsplit(".", 1)[-1] not in recipe.KEEP
    ]
    assert not kept, kept
    assert not unexpected, unexpected


def run(network, image):
    """Logits, and the gradient of their sum times the recipe's cotangent."""
    import torch

    inputs = torch.from_numpy(image).to(next(network.parameters()).dtype).requires_grad_()
    logits = network(inputs)
    cotangent = torch.from_numpy(recipe.cotangent(logits.shape)).to(logits.dtype)
    (gradient,) = torch.autograd.grad((logits * cotangent).sum(), inputs)
    return {"logits": logits.detach().numpy(), "grad": gradient.numpy()}


def error_of(single, double):
    """How far float32 is from float64."""
    error, std = np.abs(single - double), float(double.std())
    return {
        "max_abs": float(error.max()),
        "rms": float(np.sqrt(np.mean(error**2))),
        "ref_std": std,
        "max_abs_over_std": float(error.max()) / std,
        "p999_over_std": float(np.quantile(error, 0.999)) / std,
    }


def every(values, stride):
    """Every n-th pixel of [B, C, *S]."""
    return values[(..., *[slice(None, None, stride)] * (values.ndim - 2))]


def statistics(values):
    """What shows at a glance that two arrays are not the same."""
    found = {"mean": values.mean(), "std": values.std(), "absmax": np.abs(values).max()}
    return {"shape": list(values.shape)} | {name: float(value) for name, value in found.items()}


def make(place, shape, *, seed=2, salt=""):
    """The case "small" of a network, and its arrays."""
    network = network_of(place).eval()
    shapes = {name: list(value.shape) for name, value in once(network).items()}
    arrays, image = recipe.weights(shapes, salt), image_of(shape, seed)
    load(network, arrays)
    single, again = run(network, image), run(network, image)
    double = run(copy.deepcopy(network).double(), image)
    stride = 1
    while sum(every(values, stride).nbytes for values in single.values()) > MOST_BYTES:
        stride += 1
    norms = {
        (type(module).__name__, module.eps)
        for module in network.modules()
        if hasattr(module, "eps")
    }
    parameters = dict(network.named_parameters())
    case = {
        "class": place,
        "input_shape": list(shape),
        "seed": seed,
        "salt": salt,
        "input": "image_of(input_shape, seed)",
        "weights": "recipe.weights(state_dict, salt)",
        "input_crc32": recipe.checksum({"x": image}),
        "weights_crc32": recipe.checksum(arrays),
        "parameter_count": sum(value.numel() for value in parameters.values()),
        "activation": "none: raw logits",
        "norm_eps": sorted(norms),
        "stride": stride,
        "stride64": 2 * stride,
        "results": {kind: statistics(values) for kind, values in single.items()},
        "float32_error": {kind: error_of(single[kind], double[kind]) for kind in single},
        "bit_equal_rerun": all(np.array_equal(single[kind], again[kind]) for kind in single),
        "state_dict": shapes,
        "not_parameters": [name for name in shapes if name not in parameters],
    }
    kept = {f"small/{kind}": every(values, stride) for kind, values in single.items()}
    kept |= {f"small/{kind}64": every(values, 2 * stride) for kind, values in double.items()}
    return case, kept


def main():
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("network", help="file.py:function; the function returns a torch.nn.Module")
    parser.add_argument("--shape", type=int, nargs="+", required=True, help="of the input, B C *S")
    parser.add_argument("--source", default="written for this project")
    parser.add_argument("--licence", default="as the project")
    options = parser.parse_args()
    case, arrays = make(options.network, options.shape)
    document = {
        "family": options.name,
        "source": options.source,
        "licence": options.licence,
        "loss_for_grad": "sum(logits * recipe.cotangent(logits.shape)); grad is d loss / d input",
        "npz_keys": _KEYS,
        "made_with": f"torch {torch.__version__}, CPU, float32",
        "cases": {"small": case},
    }
    folder = Path(__file__).parent
    (folder / f"{options.name}.json").write_text(json.dumps(document, indent=1) + "\n")
    np.savez_compressed(folder / f"{options.name}.npz", **arrays)


if __name__ == "__main__":
    main()
