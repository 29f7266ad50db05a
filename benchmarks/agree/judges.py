"""What Quantus and Captum say of maps, frozen for the tests of our metrics.

    python -m venv judges && . judges/bin/activate
    pip install -e '.[torch]' quantus==0.6.0 captum==0.9.0
    python -m benchmarks.agree.judges                  # writes tests/reference/judges.npz

A random network of two convolutions, four random images, a map of each (input x gradient of the
class's mean probability over what is segmented, by PyTorch) and a known region. To the peers the
network is a classifier whose score is that mean probability. Where a metric draws, both are given
the draws of ours: the subsets of infidelity, the moved images of max-sensitivity; and so are the
superpixels of IROF, which Quantus takes from scikit-image. Of ROAD only the imputation, without its
noise, is the same quantity: Quantus scores it by the accuracy of a classifier.
"""

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arrays import Arrays
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import Batch, Example, Problem
from jaxseg_xai.explainers.runner import example_of
from jaxseg_xai.metrics import METRICS, Metric
from jaxseg_xai.metrics.base import key_of_metrics
from jaxseg_xai.ops.random import make_key
from jaxseg_xai.ops.superpixels import slic

PATH = Path("tests/reference/judges.npz")
COUNT, SIZE, WIDTH, SUPERPIXELS = 4, (12, 16), 6, 5
#: Settings of ours, the same for the peers.
SETTINGS: dict[str, dict[str, Any]] = {
    "pixel_flipping": {"num_steps": 8},
    "irof": {"num_segments": 12, "baseline": "zero"},
    "infidelity": {"num_subsets": 10, "block_size": 4, "outcome": "mean_probability"},
    "max_sensitivity": {"num_again": 3, "radius": 0.1},
    "pointing_game": {},
    "relevance_rank_accuracy": {},
    "auroc": {},
    "sparseness": {},
    "complexity": {},
}


def metrics() -> dict[str, Metric]:
    """Ours."""
    return {name: METRICS.get(name)(**settings) for name, settings in SETTINGS.items()}


def network(weights: Arrays, images: jax.Array) -> jax.Array:
    """Two convolutions with a ReLU between: [B, H, W, 1] -> logits [B, H, W, 2]."""
    values = images
    for name in ("first", "second"):
        values = jax.lax.conv_general_dilated(
            values,
            jnp.asarray(weights[f"{name}_kernel"]),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        values += weights[f"{name}_bias"]
        values = jax.nn.relu(values) if name == "first" else values
    return values


def problem_and_batch(arrays: Arrays) -> tuple[Problem, Batch]:
    """Network and images of the file, or of what is to be written to it."""
    weights = {name: arrays[name] for name in arrays if name.endswith(("kernel", "bias"))}
    segmenter = Segmenter(
        apply=network,
        input=InputSpec(channels=1),
        output=OutputSpec(class_names=("background", "object")),
    )
    target = SegmentTarget(
        class_index=np.ones(COUNT, np.int32),
        region=np.ones((COUNT, *SIZE), bool),
        reference=arrays["reference"],
    )
    batch = Batch(
        images=arrays["images"],
        targets=target,
        image_ids=np.stack([np.zeros(COUNT), np.arange(COUNT)], axis=1).astype(np.uint32),
        valid=np.ones(COUNT, bool),
    )
    return Problem(segmenter=segmenter, variables=weights, key=make_key(0)), batch


def example(problem: Problem, batch: Batch, index: int) -> Example:
    """One image as our metrics see it."""
    one = jax.tree.map(lambda leaf: leaf[index], batch)
    found = example_of(problem, one.images, one.targets, one.image_ids)
    return Example(**{**vars(found), "key": key_of_metrics(found.key)})


def _always(value: Any) -> Any:
    """A function of one argument, as Captum counts them, that gives a value."""
    return lambda _: value


def main() -> None:
    """Write the file."""
    torch = importlib.import_module("torch")
    quantus = importlib.import_module("quantus")
    judges = importlib.import_module("captum.metrics")
    numpy: Any = np
    numpy.trapz = np.trapezoid  # its name before NumPy 2.4, which Quantus calls
    rng = np.random.default_rng(0)
    arrays: Arrays = {
        "images": rng.random((COUNT, *SIZE, 1)).astype(np.float32),
        "known": rng.random((COUNT, *SIZE)) < 0.2,
        "first_kernel": rng.normal(size=(3, 3, 1, WIDTH)).astype(np.float32),
        "first_bias": rng.normal(size=WIDTH).astype(np.float32),
        "second_kernel": rng.normal(0, 0.3, (3, 3, WIDTH, 2)).astype(np.float32),
        "second_bias": np.zeros(2, np.float32),
    }
    logits = np.asarray(network(arrays, jnp.asarray(arrays["images"])))
    arrays["second_bias"] = (-logits.mean((0, 1, 2))).astype(np.float32)
    arrays["reference"] = (logits + arrays["second_bias"]).argmax(-1) == 1
    problem, batch = problem_and_batch(arrays)

    weights = {name: torch.from_numpy(value) for name, value in problem.variables.items()}

    class Classifier(torch.nn.Module):
        """Scores (1 - p, p) of images [B, 1, H, W], p of class 1 over the reference of one."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.where = torch.from_numpy(arrays["reference"][index])

        def forward(self, images: Any) -> Any:
            values = images
            for name in ("first", "second"):
                kernel = weights[f"{name}_kernel"].permute(3, 2, 0, 1)
                values = torch.nn.functional.conv2d(
                    values, kernel, weights[f"{name}_bias"], padding=1
                )
                values = values.relu() if name == "first" else values
            p = values.softmax(1)[:, 1][:, self.where].mean(1)
            return torch.stack([1 - p, p], dim=1)

    def map_of(model: Any, images: Any) -> Any:
        (images,) = images if isinstance(images, tuple) else (images,)
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(model(images)[:, 1].sum(), images)
        return (images * slope).detach()

    ours, found, maps, filled = metrics(), {name: [] for name in SETTINGS}, [], []
    options = {"disable_warnings": True, "display_progressbar": False, "normalise": False}
    irof = importlib.import_module("quantus.metrics.faithfulness.irof")
    functions = importlib.import_module("quantus.functions.perturb_func")
    settings = SETTINGS["pixel_flipping"]
    flip = quantus.PixelFlipping(
        features_in_step=int(np.prod(SIZE)) // settings["num_steps"],
        perturb_baseline=0.0,
        **options,
    )
    segments = quantus.IROF(perturb_baseline=0.0, return_aggregate=False, **options)
    plain = {
        "pointing_game": quantus.PointingGame(abs=False, **options),
        "relevance_rank_accuracy": quantus.RelevanceRankAccuracy(abs=False, **options),
        "auroc": quantus.AUC(abs=False, **options),
        "sparseness": quantus.Sparseness(abs=True, **options),
        "complexity": quantus.Complexity(abs=True, **options),
    }
    moved = [
        np.asarray(ours["max_sensitivity"].changed(problem, batch, jnp.int32(number))[1].images)
        for number in range(ours["max_sensitivity"].num_explanations)
    ]
    side = importlib.import_module(type(ours["irof"]).__module__).block_side(
        SIZE, SETTINGS["irof"]["num_segments"]
    )
    for index in range(COUNT):
        model = Classifier(index).eval()
        image = torch.from_numpy(arrays["images"][index].transpose(2, 0, 1)[None])
        relevance = map_of(model, image)
        one = relevance.numpy()
        maps.append(one[0, 0])
        case = {
            "model": model,
            "x_batch": image.numpy(),
            "y_batch": np.array([1]),
            "a_batch": one.copy(),
            "s_batch": arrays["known"][index][None, None],
            "softmax": False,
            "channel_first": True,
        }
        found["pixel_flipping"].append(flip(**case)[0])
        labels = np.asarray(slic(jnp.asarray(arrays["images"][index]), side))
        irof.utils.get_superpixel_segments = lambda labels=labels, **_: np.unique(
            labels, return_inverse=True
        )[1].reshape(SIZE)
        found["irof"].append(segments(**case)[0])
        for name, metric in plain.items():
            found[name].append(float(np.asarray(metric(**case)).ravel()[0]))

        subset = ours["infidelity"].subset  # pyright: ignore[reportAttributeAccessIssue]
        here = example(problem, batch, index)
        masks = torch.from_numpy(
            np.stack([np.asarray(subset(here, number)) for number in range(10)])[:, None]
        )
        found["infidelity"].append(
            judges.infidelity(
                model,
                _always((masks.float(), torch.where(masks, 0.0, image))),
                image,
                relevance,
                target=1,
                n_perturb_samples=len(masks),
                normalize=True,
            ).item()
        )
        others = torch.from_numpy(np.stack([m[index].transpose(2, 0, 1) for m in moved]))
        found["max_sensitivity"].append(
            judges.sensitivity_max(
                lambda x, model=model: (map_of(model, x),),
                image,
                perturb_func=_always(others),
                n_perturb_samples=len(others),
            ).item()
        )
        missing = np.flatnonzero(arrays["known"][index])
        filled.append(
            functions.noisy_linear_imputation(
                arr=image.numpy()[0].copy(), indices=missing, noise=0.0
            )[0]
        )
    versions = {name: importlib.metadata.version(name) for name in ("quantus", "captum")}
    np.savez_compressed(
        PATH,
        allow_pickle=False,
        **arrays,
        maps=np.stack(maps),
        filled=np.stack(filled).astype(np.float32),
        versions=np.array([f"{name} {version}" for name, version in versions.items()]),
        **{f"of_{name}": np.array(values, np.float64) for name, values in found.items()},
    )
    print(f"{PATH}: {', '.join(found)}; {versions}, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
