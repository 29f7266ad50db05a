"""PdCR's networks in its authors' code, which the user has: ours in Flax gets the same weights.

    git clone https://github.com/lcmmai/PdCR && pip install timm einops thop matplotlib
    PYTHONPATH=PdCR python -m benchmarks run ate --model "torch:PdCR hrnet" --peer original

Weights are random, of the published widths. The statistics of batch norms and the head are set on
triangle images, so that every layer has numbers of the usual size, logits have deviation 1 and the
network finds something.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.agree.torch_nets import Net
from jaxseg_xai.data.sources.triangle import TriangleDataset
from jaxseg_xai.models import Bundle
from jaxseg_xai.models.bundle import ModelCard
from jaxseg_xai.models.folder import with_weights

#: Images that set the statistics.
_IMAGES = 4
#: Share of pixels that a network calls foreground: so few that the ATE's region sees edges.
_FOREGROUND = 0.03


@dataclasses.dataclass(frozen=True)
class PublishedNet(Net):
    """A network of published code that is a family of ours.

    Attributes:
      architecture: the family.
      config: its settings that weights do not show.
    """

    architecture: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def make(self) -> torch.nn.Module:
        """See `Net.make`."""
        return _as_if_trained(super().make(), self.size[0])

    def bundle(self, module: torch.nn.Module) -> Bundle:
        """The family with its weights, taken by the published names."""
        names = ("background", "object")
        card = ModelCard(
            architecture=self.architecture, config=dict(self.config), class_names=names
        )
        arrays = {name: value.numpy() for name, value in module.state_dict().items()}
        return with_weights(card, card.architecture_config(), arrays)


@torch.no_grad()
def _as_if_trained(net: torch.nn.Module, side: int) -> torch.nn.Module:
    """With weights of variance 1 / inputs, batch norms' statistics of images, a head of use."""
    pictures = TriangleDataset("test", size=side, num=_IMAGES)
    images = np.stack([pictures[i].image for i in range(_IMAGES)])
    x = torch.from_numpy(images).movedim(-1, 1).contiguous()
    for weight in net.parameters():
        if weight.ndim > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None  # the images' own statistics
    net(x)
    *_, head = (m for m in net.eval().modules() if isinstance(m, torch.nn.Conv2d))
    head.weight /= net(x).std()
    if head.bias is not None:
        head.bias -= net(x).quantile(1 - _FOREGROUND)
    return net


def _build(name: str, settings: Any) -> torch.nn.Module:
    code = importlib.import_module("seg_model.model_utils")
    return code.build_model(name, settings.setting_config.model_config)


#: Of PdCR's networks, see the families.
_SETTINGS = {"segformer": {"gelu": "tanh", "fuse_epsilon": 1e-3, "align_corners": True}}

PUBLISHED: Mapping[str, PublishedNet] = {
    f"PdCR {name}": PublishedNet(
        f"seg_model.model_zoo.{name}.HAM10000_model_config",
        functools.partial(_build, name),
        size=(256, 256),
        architecture=name,
        config=_SETTINGS.get(name, {}),
    )
    for name in ("unet", "unetpp", "hrnet", "unext", "ukan", "segformer", "swinunet")
}
