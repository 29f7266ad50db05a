"""Gradient maps of Captum, frozen for the tests.

    python -m venv captum && . captum/bin/activate
    pip install -e '.[torch]' captum==0.9.0
    python -m benchmarks.agree.captum_maps             # writes tests/reference/captum.npz

The network and the image of `benchmarks.agree.pytorch_grad_cam`, and the maps of the logits of a
class summed over its predicted pixels. Not compared: what is random (SmoothGrad, VarGrad).
"""

import importlib
from pathlib import Path

import torch

from benchmarks.agree.pytorch_grad_cam import example, save

PATH = Path("tests/reference/captum.npz")
#: Name of ours -> that of theirs, and its options.
THEIRS = {
    "guided_backprop": ("GuidedBackprop", {}),
    "input_x_gradient": ("InputXGradient", {}),
    "integrated_gradients": ("IntegratedGradients", {"n_steps": 50}),
}


class Summed(torch.nn.Module):
    """Logits of a class summed over the pixels where it is predicted."""

    def __init__(self) -> None:
        """Of the example."""
        super().__init__()
        self.model, _, self.most, self.mask = example()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The sum, [B]."""
        return (self.model(image)[:, self.most] * self.mask).sum((1, 2))


def main() -> None:
    """Write the file."""
    library = importlib.import_module("captum.attr")
    _, image, _, _ = example()
    found = {}
    for ours, (theirs, options) in THEIRS.items():
        method = getattr(library, theirs)(Summed())
        found[ours] = method.attribute(image, **options)[0, 0].detach().numpy()
    save(PATH, "captum", found)


if __name__ == "__main__":
    main()
