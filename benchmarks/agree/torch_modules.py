"""`from_torch` on networks of the libraries that people use: MONAI, transformers, smp.

    python -m venv nets && . nets/bin/activate
    pip install -e '.[torch]' monai==1.6.1 transformers==5.24.0 segmentation-models-pytorch==0.6.0
    python -m benchmarks.agree.torch_modules DynUNet SegFormer --methods
    python -m benchmarks.agree.torch_modules --methods --json benchmarks/records/from_torch.json \
        --page docs/guide/torch.md                                 # all: an hour on two cores

It prints one line of a table for every network, with random weights and small images: the largest
difference of the output and of the gradient with respect to the image, in shares of the largest
value; the gradient in double precision, since in single precision a ReLU now and then decides
otherwise; how often it was compiled for one shape; and how many times fewer FLOPs an intervention
on an 8x8 block has for a 32x32 region of a 256x256 image. With `--methods` MiSuRe, ATE and
Grad-CAM explain one image. Exit code 1: a difference above 1e-4, or a method that fails.
"""

import argparse
import functools
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

import jaxseg_xai
from benchmarks.agree.torch_nets import NETS, Net
from benchmarks.harness.report import END, put_table
from jaxseg_xai.core.errors import JaxsegError, ModelError
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.models import Bundle

#: Largest difference from PyTorch.
LIMIT = 1e-4
_BEGIN = "<!-- made by `python -m benchmarks.agree.torch_modules --page docs/guide/torch.md` -->"
#: Differences, each at most `LIMIT`.
_DIFFERENCES = ("output", "output, double", "gradient, double")
#: Settings with which a method takes seconds.
METHODS: Mapping[str, Mapping[str, Any]] = {
    "misure": {"num_iterations": 2},
    "ate": {"block_size": 16, "perturbation": "zero"},
    "grad_cam": {},
}


def compare(net: Net) -> dict[str, Any]:
    """Differences in shares of the largest value, how often it was compiled, and FLOPs saved."""
    module, rng = net.make(), np.random.default_rng(0)
    model = net.bundle(module)
    spec = model.segmenter.input
    images = rng.random((2, *net.size, spec.channels))
    run = jax.jit(model.segmenter)
    single = _difference(
        run(model.variables, images.astype(np.float32)), _torch(module, net, images, "float32")[0]
    )
    run(model.variables, images[::-1].astype(np.float32))
    with jax.enable_x64(True):
        expected, slope, weight = _torch(module, net, images, "float64")
        variables = {name: np.asarray(v, np.float64) for name, v in model.variables.items()}

        @jax.jit
        def both(variables: Any, images: Any) -> Any:
            found, back = jax.vjp(functools.partial(_raw, model, variables), images)
            return found, back(weight)[0]

        found = both(variables, images)
        double = [_difference(a, b) for a, b in zip(found, (expected, slope), strict=True)]
    return {
        "output": single,
        "output, double": double[0],
        "gradient, double": double[1],
        "compiled": run._cache_size(),  # pyright: ignore[reportAttributeAccessIssue]
        "FLOPs saved": _saved(model, net),
    }


def _raw(model: Bundle, variables: Any, images: jax.Array) -> jax.Array:
    """The output in the images' precision, before it is resized to their size."""
    found = model.segmenter.apply(variables, images)
    for key in model.segmenter.output.select:
        found = found[key]
    return found[0] if isinstance(found, tuple) else found


def _torch(module: Any, net: Net, images: np.ndarray, dtype: str) -> tuple[np.ndarray, ...]:
    """By PyTorch, channels last: output, gradient of a weighted sum, weights of the sum."""
    inputs = torch.from_numpy(images).movedim(-1, 1).to(getattr(torch, dtype)).requires_grad_()
    found = net.logits(module.to(inputs.dtype)(inputs))
    if dtype == "float32" and found.shape[2:] != inputs.shape[2:]:
        found = torch.nn.functional.interpolate(found, size=inputs.shape[2:], mode="bilinear")
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=found.shape)).to(found.dtype)
    (found * weight).sum().backward()
    assert inputs.grad is not None
    return tuple(x.detach().movedim(1, -1).numpy() for x in (found, inputs.grad, weight))


def _difference(found: Any, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def _saved(model: Bundle, net: Net) -> float | None:
    if net.planned is None:
        return None
    shape = (net.planned, net.planned, model.segmenter.input.channels)
    plan = make_plan(
        model.segmenter, model.variables, shape, block=(8, 8), region=(32, 32), num_patches=4
    )
    return plan.table().ratio


def explain(net: Net) -> str:
    """The methods that explained an image with finite numbers.

    Raises:
      JaxsegError: one did not.
    """
    model, done = net.bundle(net.make()), []
    spec = model.segmenter.input
    image = np.random.default_rng(0).random((*net.size, spec.channels)).astype(np.float32)
    for method, settings in METHODS.items():
        if spec.rank == 3 and method == "misure":
            continue
        found = jaxseg_xai.explain(model, image, "object", method, **settings)
        if not np.isfinite(found.attribution).all():
            raise ModelError(f"{method} gives numbers that are not finite")
        done.append(method)
    return ", ".join(done)


def figures_of(net: Net, *, methods: bool) -> dict[str, Any]:
    """What `compare` finds, the methods that explain an image, and versions; or the error."""
    try:
        found = compare(net)
        found["methods"] = explain(net) if methods else ""
    except JaxsegError as error:
        return {"error": str(error)}
    library = net.library.partition(".")[0].replace("_", "-")
    names = ("jax", "torch", "torchax", library)
    return found | {"versions": {name: importlib.metadata.version(name) for name in names}}


def is_right(found: Mapping[str, Any]) -> bool:
    """Whether the figures of a network are as they must be; what is not a number is not."""
    small = all(found.get(name, np.nan) <= LIMIT for name in _DIFFERENCES)
    return small and found["compiled"] == 1


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Figures by name of the network, in Markdown; above it the versions."""
    versions = {f"{k} {v}" for found in rows.values() for k, v in found.get("versions", {}).items()}
    head = ("network", *_DIFFERENCES, "compiled", "FLOPs saved", "explained by")
    lines = [f"With {', '.join(sorted(versions))}:", "", _line(head), _line(["---"] * len(head))]
    return "\n".join([*lines, *(_line([name, *_cells(found)]) for name, found in rows.items())])


def _cells(found: Mapping[str, Any]) -> list[str]:
    if "error" in found:
        return [found["error"]]
    saved = "-" if found["FLOPs saved"] is None else f"{found['FLOPs saved']:.3g}"
    differences = [f"{found[name]:.1e}" for name in _DIFFERENCES]
    return [*differences, str(found["compiled"]), saved, found["methods"]]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="from_torch on networks of MONAI and others")
    parser.add_argument("names", nargs="*", help="parts of names; all networks without")
    parser.add_argument("--methods", action="store_true", help="also explain an image with each")
    parser.add_argument("--json", type=Path, help="file of figures; what it has of others stays")
    parser.add_argument("--page", type=Path, help="file with the table, which is replaced")
    asked = parser.parse_args()
    file, made = asked.json, {}
    rows = json.loads(file.read_text()) if file is not None and file.is_file() else {}
    for name, net in NETS.items():
        if asked.names and not any(part in name for part in asked.names):
            continue
        made[name] = figures_of(net, methods=asked.methods)
        print(_line([name, *_cells(made[name])]), flush=True)
        jaxseg_xai.clear_caches()
        rows |= made
        if file is not None:  # after every network, as the next takes minutes
            rows = {name: rows[name] for name in NETS if name in rows}
            file.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"\n{table(rows)}")
    if asked.page is not None:
        put_table(asked.page, f"{_BEGIN}\n{table(rows)}\n{END}")
    return int(not all(map(is_right, made.values())))


if __name__ == "__main__":
    sys.exit(main())
