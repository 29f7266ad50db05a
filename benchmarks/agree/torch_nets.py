"""PyTorch networks of MONAI, transformers and segmentation-models-pytorch, small ones."""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.models import Bundle


@dataclasses.dataclass(frozen=True)
class Net:
    """A network.

    Attributes:
      library: the module that has it.
      build: from that module to the network.
      size: of the images on which it is compared.
      planned: size of the images of the plan; None: no plan.
      description: of the model.
    """

    library: str
    build: Callable[[Any], torch.nn.Module]
    size: tuple[int, ...] = (64, 64)
    planned: int | None = 256
    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def make(self) -> torch.nn.Module:
        """The network in evaluation mode; every call makes the same.

        Raises:
          ConfigError: the library is not there.
        """
        _stand_in_for_torchvision()
        torch.manual_seed(0)
        try:
            net = self.build(importlib.import_module(self.library)).eval()
        except ImportError as error:
            raise ConfigError(
                f"{self.library}: {error}; install it, or put its code on PYTHONPATH"
            ) from None
        for module in net.modules():
            if isinstance(getattr(module, "running_var", None), torch.Tensor):
                module.running_var.uniform_(0.5, 1.5)  # pyright: ignore[reportCallIssue]
                module.running_mean.uniform_(-0.2, 0.2)  # pyright: ignore[reportCallIssue]
        return net

    def bundle(self, module: torch.nn.Module) -> Bundle:
        """Ours of a network that was made."""
        names = ("background", "object")
        return jaxseg_xai.from_torch(module, class_names=names, **self.description)

    def logits(self, found: Any) -> torch.Tensor:
        """In what a network returns."""
        for key in self.description.get("select", ()):
            found = found[key]
        return found[0] if isinstance(found, list | tuple) else found


class Peer(torch.nn.Module):
    """A network as the benchmarks' peers take it: logits [N, K, H, W] of the images' size."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net, self.module = net, net.make()

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, C, H, W] -> logits."""
        found = self.net.logits(self.module(images))
        size = images.shape[2:]
        if found.shape[2:] != size:
            found = torch.nn.functional.interpolate(found, size=size, mode="bilinear")
        return found


@functools.cache  # it is there as long as somebody holds it
def _stand_in_for_torchvision() -> Any:
    """Two operators that nothing here calls, for a torchvision that does not fit PyTorch's build.

    PyPI's torchvision does not load its operators beside a CPU build; then even the import fails.
    """
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


_MONAI, _SMP, _HF = "monai.networks.nets", "segmentation_models_pytorch", "transformers"
_SEGFORMER = {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2]}
_LOGITS = {"select": ["logits"], "resize": "linear"}
_DYNUNET = {"filters": (16, 32, 64, 128)}
_DECODERS = (
    *("Unet", "UnetPlusPlus", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus"),
    *("MAnet", "Linknet", "UPerNet", "Segformer"),
)


def _dynunet(nets: Any, norm: str) -> torch.nn.Module:
    return nets.DynUNet(2, 3, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, norm_name=norm, **_DYNUNET)


def _segformer(hf: Any) -> torch.nn.Module:
    return hf.SegformerForSemanticSegmentation(hf.SegformerConfig(num_labels=2, **_SEGFORMER))


def _upernet(hf: Any) -> torch.nn.Module:
    swin = hf.SwinConfig(
        image_size=64,
        embed_dim=24,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = hf.UperNetConfig(backbone_config=swin, num_labels=2, hidden_size=32)
    config.auxiliary_in_channels = 96
    return hf.UperNetForSemanticSegmentation(config)


NETS: Mapping[str, Net] = {
    "MONAI UNet": Net(_MONAI, lambda m: m.UNet(2, 3, 2, (8, 16, 32), (2, 2), num_res_units=2)),
    "MONAI UNet 3-D": Net(
        _MONAI,
        lambda m: m.UNet(3, 1, 2, (4, 8, 16), (2, 2)),
        size=(16, 16, 16),
        planned=None,
        description={"channels": 1, "rank": 3},
    ),
    "MONAI AttentionUnet": Net(_MONAI, lambda m: m.AttentionUnet(2, 3, 2, (8, 16, 32), (2, 2))),
    "MONAI SegResNet": Net(_MONAI, lambda m: m.SegResNet(2, 8, 3, 2)),
    "MONAI DynUNet": Net(_MONAI, lambda m: _dynunet(m, "INSTANCE")),
    "MONAI DynUNet, batch norm": Net(_MONAI, lambda m: _dynunet(m, "BATCH")),
    "MONAI UNETR": Net(
        _MONAI,
        lambda m: m.UNETR(3, 2, (64, 64), 8, 48, 96, 4, spatial_dims=2),
        planned=None,
    ),
    "MONAI SwinUNETR": Net(
        _MONAI, lambda m: m.SwinUNETR(3, 2, feature_size=12, spatial_dims=2), planned=None
    ),
    "transformers SegFormer-B0": Net(_HF, _segformer, description=_LOGITS),
    "transformers UperNet-Swin": Net(_HF, _upernet, description=_LOGITS),
    **{
        f"smp {name}": Net(
            _SMP,
            lambda m, name=name: getattr(m, name)("resnet18", encoder_weights=None, classes=2),
        )
        for name in _DECODERS
    },
}
