"""The one test parameter of a family of models: an entry in `FAMILIES`."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Golden:
    """What PyTorch makes of one network; see `tests/reference/zoo/README.md`.

    Attributes:
      name: of the two files there.
      config: settings of that network.
      case: which of the file's cases; "published" has 256 x 256 pixels.
      within: how far a logit may be from PyTorch's, in standard deviations of them.
      beyond: share of the logits that may be further off in single precision: where values go to
        the place of a maximum, rounding moves some to the next pixel. In double precision, none.
      flips: whether in single precision a ReLU or a maximum of this network is known to turn over,
        so that its gradient may be off by `FLIP`.
      slow: whether compiling it takes too long for every run of the tests.
    """

    name: str
    config: Mapping[str, Any]
    case: str = "small"
    within: float = 1e-4
    beyond: float = 0.0
    flips: bool = False
    slow: bool = False


def both(name: str, config: Mapping[str, Any], **options: Any) -> tuple[Golden, Golden]:
    """The cases "small" and "published" of one network; options are fields of the small one."""
    small = Golden(name=name, config=config, **options)
    return small, dataclasses.replace(small, case="published", slow=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What the contract tests build of a family.

    Attributes:
      config: settings of a network of at most 50,000 parameters; the tests set `num_logits`.
      size: of its images, at most 64 x 64 or 16 x 16 x 16 pixels.
      golden: outputs of PyTorch, of a network or several.
      idle: weights that do nothing in so small an image, and so learn nothing from it.
    """

    config: Mapping[str, Any]
    size: tuple[int, ...]
    golden: tuple[Golden, ...] = ()
    idle: tuple[str, ...] = ()


def published(name: str) -> Golden:
    """The only case of torchvision's networks, of 21 classes."""
    return Golden(name=name, config={"num_logits": 21}, case="published", slow=True)


#: Backbones of torchvision's networks.
RESNET = {"stem_channels": 4, "widths": [4, 4, 4], "depths": [1, 1, 1]}
MOBILENET = {
    "stem_channels": 4,
    "kernels": [3, 5],
    "hidden": [4, 8],
    "widths": [4, 6],
    "strides": [2, 2],
    "dilations": [1, 2],
    "squeezed": [False, True],
    "num_relu": 1,
    "last_channels": 16,
}


def nnunet(rank: int, **depths: list[int]) -> dict[str, Any]:
    """What nnU-Net's networks of `tests/reference/zoo/nnunet_torch.py` have in common."""
    kernels, strides = [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    return {
        "rank": rank,
        "in_channels": 2,
        "num_logits": 3,
        "features_per_stage": [4, 6, 8],
        "kernel_sizes": [sides[-rank:] for sides in kernels],
        "strides": [sides[-rank:] for sides in strides],
        "n_conv_per_stage_decoder": [1, 2],
        **depths,
    }


#: Name in the registry -> entry.
FAMILIES = {
    "unet": Family(
        config={"encoder_channels": [4, 12], "decoder_channels": [4]},
        size=(16, 16),
        golden=(
            Golden(name="unet", config={"num_logits": 1}, flips=True, slow=True),
            Golden(name="unet", config={"num_logits": 1}, case="published", slow=True),
            Golden(name="unet_milesial", config={"num_logits": 2}),
            Golden(name="unet_milesial_bilinear", config={"num_logits": 2}, slow=True),
        ),
    ),
    "unetpp": Family(
        config={"channels": [4, 6, 8], "depths": [1, 1]},
        size=(16, 16),
        golden=both("unetpp", {"num_logits": 1}, slow=True),
    ),
    "segnet": Family(
        config={"channels": [4, 8], "depths": [1, 2]},
        size=(16, 16),
        golden=(
            Golden(name="segnet", config={"num_logits": 1}, slow=True),
            Golden(
                name="segnet",
                config={"num_logits": 1},
                case="published",
                beyond=0.01,
                slow=True,
            ),
        ),
    ),
    "unext": Family(
        config={"encoder_channels": [4], "token_channels": [10], "depths": [1]},
        size=(16, 16),
        golden=(
            *both("unext", {"num_logits": 1}, slow=True),
            Golden(
                name="unext",
                config={
                    "num_logits": 2,
                    "encoder_channels": [8, 16, 32],
                    "token_channels": [64, 128],
                },
                case="small_s",
                slow=True,
            ),
        ),
    ),
    "ukan": Family(
        config={
            "encoder_channels": [4],
            "token_channels": [6],
            "depths": [1],
            "num_kans": 1,
        },
        size=(16, 16),
        golden=(
            Golden(
                name="ukan",
                config={
                    "num_logits": 2,
                    "encoder_channels": [4, 8, 32],
                    "token_channels": [40, 64],
                },
                within=3e-4,
                slow=True,
            ),
            Golden(
                name="ukan",
                config={"num_logits": 1},
                case="published",
                within=3e-4,
                slow=True,
            ),
        ),
    ),
    "segformer": Family(
        config={
            "embed_dims": [8, 16],
            "depths": [1, 1],
            "num_heads": [1, 2],
            "sr_ratios": [2, 1],
            "decoder_dim": 16,
        },
        size=(32, 32),
        golden=both(
            "segformer",
            {"num_logits": 1, "gelu": "tanh", "fuse_epsilon": 1e-3, "align_corners": True},
        ),
    ),
    "unet3d": Family(
        config={"encoder_channels": [4, 8], "decoder_channels": [4]},
        size=(8, 8, 8),
        golden=(
            Golden(
                name="unet3d",
                config={
                    "num_logits": 2,
                    "encoder_channels": [4, 4, 8, 16, 32],
                    "decoder_channels": [16, 8, 4, 4],
                },
            ),
            Golden(
                name="unet3d_strided",
                config={
                    "in_channels": 2,
                    "num_logits": 1,
                    "encoder_channels": [4, 6, 8],
                    "decoder_channels": [6, 4],
                    "norm": "batch",
                    "negative_slope": 0.0,
                    "down": "strided",
                    "upsample": "trilinear",
                },
            ),
        ),
    ),
    "vmunet": Family(
        config={"width": 8, "depths": [1], "depths_decoder": [1], "num_states": 4},
        size=(16, 16),
        golden=(
            Golden(
                name="vmunet",
                config={"num_logits": 1, "depths": [1] * 4, "depths_decoder": [1] * 4},
                slow=True,
            ),
            Golden(name="vmunet", config={"num_logits": 1}, case="published", slow=True),
        ),
    ),
    "fcn_resnet50": Family(
        config=RESNET | {"head_channels": 8},
        size=(32, 32),
        golden=(published("torchvision_fcn_resnet50"),),
    ),
    "deeplabv3_resnet50": Family(
        config=RESNET | {"head_channels": 8, "rates": [2]},
        size=(32, 32),
        golden=(published("torchvision_deeplabv3_resnet50"),),
    ),
    "deeplabv3_mobilenet_v3_large": Family(
        config=MOBILENET | {"head_channels": 8, "rates": [2]},
        size=(32, 32),
        golden=(published("torchvision_deeplabv3_mobilenet_v3_large"),),
    ),
    "lraspp_mobilenet_v3_large": Family(
        config=MOBILENET | {"head_channels": 8},
        size=(32, 32),
        golden=(published("torchvision_lraspp_mobilenet_v3_large"),),
    ),
    "hrnet": Family(
        config={
            "stem_channels": 4,
            "first_width": 2,
            "widths": [2, 4],
            "modules": [1],
            "depth": 1,
        },
        size=(32, 32),
        golden=both("hrnet", {"num_logits": 1}, slow=True),
    ),
    "swinunet": Family(
        config={
            "image_size": 32,
            "embed_dim": 8,
            "depths": [2, 1],
            "num_heads": [1, 2],
            "window_size": 4,
            "mlp_ratio": 2.0,
        },
        size=(32, 32),
        golden=(
            Golden(
                name="swinunet",
                config={
                    "num_logits": 2,
                    "image_size": 64,
                    "embed_dim": 24,
                    "num_heads": [1, 2, 3, 4],
                    "window_size": 4,
                    "absolute_positions": True,
                },
                slow=True,
            ),
            Golden(name="swinunet", config={"num_logits": 1}, case="published", slow=True),
        ),
    ),
    "transunet": Family(
        config={
            "image_size": 16,
            "resnet_width": 4,
            "resnet_depths": [1, 1],
            "num_groups": 2,
            "hidden_size": 8,
            "mlp_dim": 8,
            "num_heads": 2,
            "num_layers": 1,
            "more_channels": 8,
            "decoder_channels": [8, 4, 4],
        },
        size=(16, 16),
        golden=(
            Golden(
                name="transunet",
                config={
                    "num_logits": 2,
                    "image_size": 64,
                    "resnet_width": 32,
                    "resnet_depths": [1, 1, 1],
                    "hidden_size": 48,
                    "mlp_dim": 96,
                    "num_heads": 4,
                    "num_layers": 2,
                    "decoder_channels": [32, 24, 16, 8],
                },
                within=3e-4,
                slow=True,
            ),
            Golden(
                name="transunet",
                config={"num_logits": 1},
                case="published",
                within=3e-4,
                slow=True,
            ),
        ),
    ),
    "lightmunet": Family(
        # Two channels a group: behind norms of single ones the gradient is 0 in the mean.
        config={
            "width": 4,
            "num_groups": 2,
            "depths": [0, 1],
            "depths_decoder": [1],
            "num_states": 2,
        },
        size=(4, 4),
        golden=(
            Golden(
                name="lightmunet",
                config={
                    "num_logits": 2,
                    "width": 16,
                    "depths": [1] * 4,
                    "depths_decoder": [1] * 3,
                },
                slow=True,
            ),
            Golden(name="lightmunet", config={"num_logits": 1}, case="published", slow=True),
        ),
    ),
    "mcure": Family(
        config={
            "width": 4,
            "scan_depths": [0, 0, 1],
            "num_states": 2,
            "encoder_channels": [4, 8, 16],
            "depths": [1, 1, 1],
            "decoder_channels": 4,
            "num_groups": 2,
        },
        size=(16, 16),
        idle=("A_logs",),  # its scan sees one token
        golden=(
            Golden(
                name="mcure",
                config={"num_logits": 2, "scan_depths": [1, 1, 1, 1]},
                flips=True,
                slow=True,
            ),
            Golden(name="mcure", config={"num_logits": 1}, case="published", slow=True),
        ),
    ),
    "attention_unet": Family(
        config={"channels": [4, 8, 8], "strides": [2, 2]},
        size=(16, 16),
        golden=(
            Golden(
                name="attention_unet",
                config={"num_logits": 2, "channels": [4, 8, 16], "strides": [2, 2]},
            ),
        ),
    ),
    "nnunet": Family(
        config={
            "rank": 2,
            "features_per_stage": [4, 6],
            "kernel_sizes": [[3, 3], [3, 3]],
            "strides": [[1, 1], [2, 2]],
            "n_blocks_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1],
        },
        size=(16, 16),
        golden=(
            Golden(name="nnunet_plain", config=nnunet(2, n_conv_per_stage=[2, 1, 2])),
            *(
                Golden(name=f"nnunet_{name}", config=nnunet(rank, **depths), slow=True)
                for name, rank, depths in (
                    ("plain_3d", 3, {"n_conv_per_stage": [2, 1, 2]}),
                    ("residual", 2, {"n_blocks_per_stage": [1, 3, 2]}),
                    ("residual_3d", 3, {"n_blocks_per_stage": [1, 2, 1]}),
                )
            ),
        ),
    ),
}
