"""UNeXt (Valanarasu and Patel, 2022, arXiv 2203.04967): MLPs on features shifted by pixels."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.models.blocks.convolution import ConvNorm, conv, identity
from jaxseg_xai.models.blocks.token_unet import Layer, TokenUNet, TokenUNetConfig
from jaxseg_xai.ops import layers

#: How far each fifth of the channels moves, in pixels.
_SHIFTS = (-2, -1, 0, 1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNeXtConfig(TokenUNetConfig):
    """Shape of a UNeXt; UNeXt-S has encoder_channels 8, 16, 32 and token_channels 64, 128.

    The names of weights that are read are those of the published code and of PdCR.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      encoder_channels: width of every level of convolutions, finest first.
      token_channels: width of every level of MLPs, which follow; each level halves the sides.
      depths: blocks of every level of MLPs, on the way down and (in this order) on the way up.

    References:
      Valanarasu and Patel, arXiv 2203.04967, section 2.
    """

    name: ClassVar[str] = "unext"

    def build(self, rngs: nnx.Rngs) -> "UNeXt":
        """The network, randomly initialised."""
        return UNeXt(self, rngs)

    def torch_names(self) -> dict[str, str]:
        """Modules of the published code -> ours."""
        ours = super().torch_names()
        for i in range(len(self.encoder_channels)):
            ours |= {f"encoder{i + 1}": f"encoder/{i}/conv", f"ebn{i + 1}": f"encoder/{i}/norm"}
        steps = len(self.encoder_channels) + len(self.token_channels)
        for i in range(steps - 1):
            ours |= {f"decoder{i + 1}": f"decoder/{i}/conv", f"dbn{i + 1}": f"decoder/{i}/norm"}
        ours[f"decoder{steps}"] = f"decoder/{steps - 1}"
        for i, depth in enumerate(self.depths):
            for j in range(depth):
                for theirs, name in (("block", "blocks"), ("dblock", "decoder_blocks")):
                    block, place = f"{theirs}{i + 1}.{j}", f"{name}/{i}/{j}"
                    ours[f"{block}.norm2"] = f"{place}/norm"
                    ours[f"{block}.mlp"] = place
                    ours[f"{block}.mlp.dwconv.dwconv"] = f"{place}/depthwise"
        return ours


class ShiftedMLP(nnx.Module):
    """Two linear layers, before each of which channels move along an axis; added to the input."""

    def __init__(self, dim: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs)
        self.fc1 = nnx.Linear(dim, dim, rngs=rngs)
        self.depthwise = conv(dim, dim, 3, rngs, feature_group_count=dim)
        self.fc2 = nnx.Linear(dim, dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        y = self.depthwise(self.fc1(_shift(self.norm(x), 1)))
        return x + self.fc2(_shift(jax.nn.gelu(y, approximate=False), 2))


def _shift(x: jax.Array, axis: int) -> jax.Array:
    """Fifths of the channels moved along an axis, zeros where nothing comes from."""
    size = -(-x.shape[-1] // len(_SHIFTS))
    parts = [x[..., i * size : (i + 1) * size] for i in range(len(_SHIFTS))]
    moved = [layers.shifted(part, -by, axis) for part, by in zip(parts, _SHIFTS, strict=True)]
    return jnp.concatenate(moved, axis=-1)


class UNeXt(TokenUNet):
    """UNeXt; see `UNeXtConfig`."""

    def __init__(self, config: UNeXtConfig, rngs: nnx.Rngs) -> None:
        def level(n_in: int, n_out: int, last: bool = False) -> Layer:
            if last:
                return conv(n_in, n_out, 3, rngs)
            return ConvNorm(n_in, n_out, 3, rngs, use_bias=True, activation=identity)

        super().__init__(
            config, rngs, down=level, up=level, block=lambda dim: ShiftedMLP(dim, rngs)
        )
