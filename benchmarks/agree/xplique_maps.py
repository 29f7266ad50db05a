"""Maps and metrics of Xplique, frozen for the tests of ours.

    python -m venv xplique && . xplique/bin/activate
    pip install -e . xplique==2.0.2 tensorflow==2.20.0
    python -m benchmarks.agree.xplique_maps              # writes tests/reference/xplique.npz

Network, images and maps are those of `benchmarks.agree.judges`; what is explained is Xplique's
operator for segmentation, the mean probability of the class over what is segmented. SmoothGrad and
VarGrad draw, so the file has the mean of runs and its standard error. MuFidelity is given the
subsets of ours. Not the same quantity: Xplique's deletion and insertion follow the probability
(ours the Dice), and its RISE takes bilinear masks of another size.
"""

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agree import judges
from jaxseg_xai.metrics import METRICS

PATH = Path("tests/reference/xplique.npz")
BLOCK, NUM_SUBSETS, NOISE = 4, 30, 0.1
#: Samples of a run of what draws, and runs.
SAMPLES, RUNS = 500, 20
_STEPS = 20_000


def mu_fidelity() -> Any:
    """Ours, with the settings of both."""
    return METRICS.get("mu_fidelity")(
        num_subsets=NUM_SUBSETS, block_size=BLOCK, outcome="mean_probability"
    )


def veils(maps: np.ndarray) -> np.ndarray:
    """Maps under whose veil the outcome falls in some images, and rises in the others."""
    shown = np.where(maps > maps.min((1, 2), keepdims=True), 1.0, 0.0)
    shown[::2] = np.abs(maps[::2])
    return shown


def main() -> None:
    """Write the file."""
    tf = importlib.import_module("tensorflow")
    maps_of = importlib.import_module("xplique.attributions")
    judge = importlib.import_module("xplique.metrics")
    semantic = importlib.import_module("xplique").Tasks.SEMANTIC_SEGMENTATION
    with np.load(judges.PATH) as file:
        arrays = dict(file)
    images, reference = arrays["images"], arrays["reference"]
    keras = tf.keras
    layers = [
        keras.layers.Input(images.shape[1:]),
        keras.layers.Conv2D(judges.WIDTH, 3, padding="same", activation="relu", name="first"),
        keras.layers.Conv2D(2, 3, padding="same", name="second"),
        keras.layers.Softmax(),
    ]
    model = keras.Sequential(layers)
    for name in ("first", "second"):
        model.get_layer(name).set_weights([arrays[f"{name}_kernel"], arrays[f"{name}_bias"]])
    targets = np.stack([np.zeros_like(reference), reference], axis=-1).astype(np.float32)
    options: dict[str, Any] = {"operator": semantic, "batch_size": 64}

    def explained(name: str, **settings: Any) -> np.ndarray:
        method = getattr(maps_of, name)(model, **options, **settings)
        found = np.asarray(method(images, targets), np.float64)
        return found.reshape(images.shape[:-1])

    def drawn(name: str) -> dict[str, np.ndarray]:
        tf.random.set_seed(0)
        runs = []
        for _ in range(RUNS):
            each = []
            for image, target in zip(images, targets, strict=True):
                noise = NOISE * float(image.max() - image.min())
                method = getattr(maps_of, name)(model, **options, nb_samples=SAMPLES, noise=noise)
                each.append(np.asarray(method(image[None], target[None]), np.float64))
            runs.append(np.concatenate(each).reshape(images.shape[:-1]))
        error = np.std(runs, axis=0, ddof=1) / np.sqrt(RUNS)
        return {f"{name}_mean": np.mean(runs, axis=0), f"{name}_error": error}

    def judged(name: str) -> np.ndarray:
        """Of each image."""
        each = []
        for number in range(len(images)):
            one = slice(number, number + 1)
            metric = getattr(judge, name)(model, images[one], targets[one], **options)
            each.append(metric.evaluate(veils(arrays["maps"])[one]))
        return np.array(each)

    def fidelity() -> np.ndarray:
        problem, batch = judges.problem_and_batch(arrays)
        ours, each = mu_fidelity(), []
        for number in range(len(images)):
            one = slice(number, number + 1)
            example = judges.example(problem, batch, number)
            chosen = [np.asarray(ours.subset(example, i)) for i in range(NUM_SUBSETS)]
            kept = tf.constant(1.0 - np.stack(chosen)[None, ..., None].astype(np.float32))
            metric = judge.MuFidelity(
                model, images[one], targets[one], nb_samples=NUM_SUBSETS, **options
            )
            metric._perturb_samples = lambda found, _, kept=kept: (
                tf.reshape(found[:, None] * kept, (-1, *images.shape[1:])),
                kept,
            )
            each.append(metric.evaluate(arrays["maps"][one]))
        return np.array(each)

    plain = {
        "complexity": judge.Complexity().detailed_evaluate(arrays["maps"]),
        "sparseness": judge.Sparseness().detailed_evaluate(arrays["maps"]),
    }
    np.savez_compressed(
        PATH,
        allow_pickle=False,
        version=importlib.metadata.version("xplique"),
        occlusion=explained("Occlusion", patch_size=BLOCK, patch_stride=BLOCK),
        input_x_gradient=explained("GradientInput"),
        integrated_gradients=explained("IntegratedGradients", steps=_STEPS),
        guided_backprop=explained("GuidedBackprop"),
        **drawn("SmoothGrad"),
        **drawn("VarGrad"),
        average_drop=judged("AverageDropMetric"),
        average_increase=judged("AverageIncreaseMetric"),
        average_gain=judged("AverageGainMetric"),
        mu_fidelity=fidelity(),
        **plain,
    )
    print(f"{PATH}: Xplique {importlib.metadata.version('xplique')}, TensorFlow {tf.__version__}")


if __name__ == "__main__":
    main()
