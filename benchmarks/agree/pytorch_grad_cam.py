"""Class activation maps of pytorch-grad-cam, frozen for the tests.

    python -m venv cams && . cams/bin/activate
    pip install -e '.[torch]' grad-cam==1.5.7 torchvision
    python -m benchmarks.agree.pytorch_grad_cam        # writes tests/reference/cams.npz

A random network of two convolutions with ReLUs and a linear head, a random image, and the maps of
its second layer for the class that it segments. The file has its weights, so that the test needs no
PyTorch. pytorch-grad-cam scales a map to [0, 1]. Not compared: its Ablation-CAM, which sets a
channel not to 0 but far below, and its Eigen-CAM, whose component has any sign (here the other
one) before what is negative is cut off.
"""

import importlib
import importlib.metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn

PATH = Path("tests/reference/cams.npz")
SIZE, CHANNELS, CLASSES = (12, 14), 6, 3
#: Name of ours -> that of theirs.
THEIRS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "score_cam": "ScoreCAM",
}


def main() -> None:
    """Write the file."""
    library = importlib.import_module("pytorch_grad_cam")
    targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    model, image, most, mask = example()
    found = {}
    for ours, theirs in THEIRS.items():
        target = targets.SemanticSegmentationTarget(most, mask.numpy().astype(np.float32))
        with getattr(library, theirs)(model=model, target_layers=[model[0]]) as cam:
            found[ours] = cam(input_tensor=image, targets=[target])[0]
    save(PATH, "grad-cam", found)


def example() -> tuple[nn.Sequential, torch.Tensor, int, torch.Tensor]:
    """The network, an image [1, 1, *S], the class that is predicted most, and where, bool [*S]."""
    torch.manual_seed(0)
    features = nn.Sequential(
        *(nn.Conv2d(1, CHANNELS, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()),
    )
    head = nn.Conv2d(CHANNELS, CLASSES, 1)
    model = nn.Sequential(features, head)
    image = torch.rand(1, 1, *SIZE)
    with torch.no_grad():  # no class everywhere
        head.bias -= model(image).mean((0, 2, 3))
    prediction = model(image).argmax(1)[0]
    most = int(prediction.flatten().bincount().argmax())
    return model, image, most, prediction == most


def save(path: Path, library: str, found: dict[str, np.ndarray]) -> None:
    """Write maps beside the network and the image that they are of."""
    model, image, most, _ = example()
    weights = {name.replace(".", "_"): value.numpy() for name, value in model.state_dict().items()}
    version = importlib.metadata.version(library)
    np.savez_compressed(
        path,
        allow_pickle=False,
        image=image[0, 0].numpy(),
        class_index=most,
        version=version,
        **weights,
        **found,
    )
    print(f"{path}: {', '.join(found)}; {library} {version}, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
