"""VM-UNet (Ruan and Xiang, 2024, arXiv 2402.02491): a U-shaped net of state spaces."""

import dataclasses
from typing import ClassVar

import jax
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.patches import PatchExpand
from jaxseg_xai.models.blocks.vss import PATCH, Block, Encoder
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class VMUNetConfig(Architecture):
    """Shape of a VM-UNet; the defaults are those of the paper and of PdCR.

    Their code ends in a sigmoid where there is one class; here the output is the logit before it.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      width: of the finest stage, which sees 1/4 of the pixels along each axis; every further one
        has twice the width of the one before.
      depths: blocks of every stage of the encoder, finest first.
      depths_decoder: blocks of every stage of the decoder, coarsest first.
      num_states: of every channel of a scan.

    References:
      Ruan and Xiang, arXiv 2402.02491, section 3. Compared with PdCR's, commit 6da8b5d1.
    """

    name: ClassVar[str] = "vmunet"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    width: int = setting(96, at_least=4)
    depths: tuple[int, ...] = setting((2, 2, 2, 2), at_least=1)
    depths_decoder: tuple[int, ...] = setting((2, 2, 2, 1), at_least=1)
    num_states: int = setting(16, at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where encoder and decoder do not match."""
        if len(self.depths) != len(self.depths_decoder):
            raise ConfigError(
                f"depths has {len(self.depths)} entries, depths_decoder "
                f"{len(self.depths_decoder)}; give one per stage"
            )
        if self.width % PATCH:
            raise ConfigError(f"width is {self.width}; it must be a multiple of {PATCH}")

    def build(self, rngs: nnx.Rngs) -> "VMUNet":
        """The network, randomly initialised."""
        return VMUNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images whose sides every stage can halve."""
        multiple = PATCH * 2 ** (len(self.depths) - 1)
        return InputSpec(channels=self.in_channels, multiple_of=multiple)

    def sites(self) -> Sites:
        """The last layer of the coarsest stage."""
        return Sites(
            cam_layer=f"layers_up/0/blocks/{self.depths_decoder[0] - 1}/self_attention/out_proj"
        )

    def torch_names(self) -> dict[str, str]:
        """Modules of the paper's and of PdCR's code -> ours."""
        ours = {"patch_embed": "encoder/patch_embed", "layers": "encoder/layers"}
        ours |= {name: name for name in ("layers_up", "final_up", "final_conv")}
        return {f"vmunet.{theirs}": name for theirs, name in ours.items()}


class UpStage(nnx.Module):
    """The way up to one resolution, and its blocks."""

    def __init__(self, dim: int, depth: int, num_states: int, first: bool, rngs: nnx.Rngs) -> None:
        self.upsample = None if first else PatchExpand(2 * dim, dim, 2, rngs)
        self.blocks = nnx.List([Block(dim, num_states, rngs) for _ in range(depth)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, 2 dim] -> [B, 2 H, 2 W, dim]; the first one keeps the shape."""
        x = x if self.upsample is None else self.upsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class VMUNet(nnx.Module):
    """VM-UNet; see `VMUNetConfig`."""

    def __init__(self, config: VMUNetConfig, rngs: nnx.Rngs) -> None:
        states, width = config.num_states, config.width
        self.encoder = Encoder(config.in_channels, width, config.depths, states, rngs)
        dims = [width * 2**i for i in reversed(range(len(config.depths)))]
        self.layers_up = nnx.List(
            [
                UpStage(dim, depth, states, i == 0, rngs)
                for i, (dim, depth) in enumerate(zip(dims, config.depths_decoder, strict=True))
            ]
        )
        self.final_up = PatchExpand(width, width // PATCH, PATCH, rngs)
        self.final_conv = nnx.Conv(
            width // PATCH,
            config.num_logits,
            (1, 1),
            conv_general_dilated=layers.conv_general_dilated,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]; H, W as `input_spec` says."""
        inputs, outputs = self.encoder(x)
        first, *rest = self.layers_up
        x = first(outputs[-1])
        # What went into a stage is added to what comes up to it, before both go one stage up.
        for stage, skip in zip(rest, inputs[:0:-1], strict=True):
            x = stage(x + skip)
        return self.final_conv(self.final_up(x))
