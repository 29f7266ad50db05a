"""Occlusion and Shapley values of Captum, frozen for the tests.

    python -m venv captum && . captum/bin/activate
    pip install -e '.[torch]' captum==0.9.0
    python -m benchmarks.agree.captum_perturbation   # writes a file in tests/reference

A random network of two convolutions, a random image and six blocks of 4 x 4 pixels; the logits of
the class that it segments are summed over these pixels, and hidden blocks are 0. Occlusion by
`FeatureAblation` (and `Occlusion`, which must agree) and exact Shapley values by `ShapleyValues`;
`ShapleyValueSampling` and `KernelShap` draw, so the file has the mean of runs and its standard
error. It has the network's weights, too, so that the test needs no PyTorch.
"""

import importlib
import importlib.metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn

PATH = Path("tests/reference/captum_perturbation.npz")
SIZE, SIDE, CHANNELS, CLASSES = (8, 12), 4, 5, 3
_RUNS = 10


def main() -> None:
    """Write the file."""
    attr = importlib.import_module("captum.attr")
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, CHANNELS, 5, padding=2), nn.ReLU()),
        *(nn.Conv2d(CHANNELS, CHANNELS, 5, padding=2), nn.ReLU()),
        nn.Conv2d(CHANNELS, CLASSES, 1),
    ).requires_grad_(False)
    image = torch.rand(1, 1, *SIZE)
    model[-1].bias -= model(image).mean((0, 2, 3))  # no class everywhere
    prediction = model(image).argmax(1)
    most = int(prediction.flatten().bincount().argmax())
    mask = prediction == most

    def outcome(images: torch.Tensor) -> torch.Tensor:
        return (model(images)[:, most] * mask).sum((1, 2))

    rows, columns = (torch.arange(size) // SIDE for size in SIZE)
    blocks = (rows[:, None] * (SIZE[1] // SIDE) + columns)[None, None]
    given = {"baselines": 0, "feature_mask": blocks}

    def of_blocks(found: torch.Tensor) -> np.ndarray:
        return found[0, 0, ::SIDE, ::SIDE].numpy().ravel()

    def drawn(name: str, **settings: int) -> dict[str, np.ndarray]:
        runs = []
        for seed in range(_RUNS):
            torch.manual_seed(seed)
            method = getattr(attr, name)(outcome)
            runs.append(of_blocks(method.attribute(image, **given, **settings)))
        error = np.std(runs, axis=0, ddof=1) / np.sqrt(_RUNS)
        return {f"{name}_mean": np.mean(runs, axis=0), f"{name}_error": error}

    occlusion = of_blocks(attr.FeatureAblation(outcome).attribute(image, **given))
    window = {"sliding_window_shapes": (1, SIDE, SIDE), "strides": (1, SIDE, SIDE)}
    same = of_blocks(attr.Occlusion(outcome).attribute(image, **window, baselines=0))
    np.testing.assert_allclose(occlusion, same, rtol=1e-5, atol=1e-6)
    exact = attr.ShapleyValues(outcome).attribute(image, **given, perturbations_per_eval=64)
    weights = {name.replace(".", "_"): value.numpy() for name, value in model.state_dict().items()}
    version = importlib.metadata.version("captum")
    np.savez_compressed(
        PATH,
        allow_pickle=False,
        image=image[0, 0].numpy(),
        class_index=most,
        version=version,
        occlusion=occlusion,
        shapley=of_blocks(exact),
        **drawn("ShapleyValueSampling", n_samples=10),
        **drawn("KernelShap", n_samples=100),
        **weights,
    )
    print(f"{PATH}: Captum {version}, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
