"""U-KAN (Li et al., 2024, arXiv 2406.02918): a U-Net with Kolmogorov-Arnold layers."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.models.blocks.convolution import ConvNorm, conv
from jaxseg_xai.models.blocks.token_unet import Layer, TokenUNet, TokenUNetConfig
from jaxseg_xai.models.norms import norm_layer

#: Of the splines: their degree, and where their pieces meet. In single precision, as published.
_DEGREE = 3
_KNOTS = np.arange(-3, 9, dtype=np.float32) * np.float32(0.4) - np.float32(1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UKANConfig(TokenUNetConfig):
    """Shape of a U-KAN.

    The names of weights that are read are those of the published code and of PdCR. Published widths
    e0, e1, e2 are encoder_channels e0 // 8, e0 // 4, e0 and token_channels e1, e2.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      encoder_channels: width of every level of convolutions, finest first.
      token_channels: width of every level of KANs, which follow; each level halves the sides.
      depths: blocks of every level of KANs, on the way down and (in this order) on the way up.
      num_kans: KANs of a block, each with a depthwise convolution behind it.

    References:
      Li et al., arXiv 2406.02918, section 3.
    """

    name: ClassVar[str] = "ukan"
    num_kans: int = setting(3, at_least=1)

    def build(self, rngs: nnx.Rngs) -> "UKAN":
        """The network, randomly initialised."""
        return UKAN(self, rngs)

    def torch_names(self) -> dict[str, str]:
        """Modules of the published code -> ours."""
        ours = super().torch_names()
        parts = {"0": "0/conv", "1": "0/norm", "3": "1/conv", "4": "1/norm"}
        steps = len(self.encoder_channels) + len(self.token_channels)
        for side in ("encoder", "decoder"):
            for i in range(steps):
                for theirs, name in parts.items():
                    ours[f"{side}{i + 1}.conv.{theirs}"] = f"{side}/{i}/layers/{name}"
        for i, depth in enumerate(self.depths):
            for j in range(depth):
                for theirs, name in (("block", "blocks"), ("dblock", "decoder_blocks")):
                    block, place = f"{theirs}{i + 1}.{j}", f"{name}/{i}/{j}"
                    ours[f"{block}.norm2"] = f"{place}/norm"
                    for k in range(self.num_kans):
                        ours |= {
                            f"{block}.layer.fc{k + 1}": f"{place}/kan/{k}",
                            f"{block}.layer.dwconv_{k + 1}.dwconv": f"{place}/depthwise/{k}/conv",
                            f"{block}.layer.dwconv_{k + 1}.bn": f"{place}/depthwise/{k}/norm",
                        }
        return ours

    def translate(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Knots, which stand in the file though they are no weights, go.

        Raises:
          ModelError: they are not the published ones.
        """
        found = dict(arrays)
        for name, value in arrays.items():
            if name.endswith(".grid"):
                knots = found.pop(name)
                if knots.shape[-1:] != _KNOTS.shape or np.abs(value - _KNOTS).max() > 1e-5:
                    raise ModelError(
                        f"{name}: the knots of these splines were moved; not supported"
                    )
        return found


class KAN(nnx.Module):
    """y = silu(x) A + splines of every channel, weighted; arrays have PyTorch's layout."""

    def __init__(self, dim: int, rngs: nnx.Rngs) -> None:
        size, scale = len(_KNOTS) - _DEGREE - 1, dim**-0.5
        normal = jax.random.normal
        self.base_weight = nnx.Param(scale * normal(rngs.params(), (dim, dim)))
        self.spline_weight = nnx.Param(scale * normal(rngs.params(), (dim, dim, size)))
        self.spline_scaler = nnx.Param(jnp.ones((dim, dim)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        bases = _splines(x)
        weight = self.spline_weight[...] * self.spline_scaler[..., None]
        # One matrix product of all splines of all channels.
        weight = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0]).astype(x.dtype)
        curves = bases.reshape(*x.shape[:-1], -1) @ weight
        return nnx.silu(x) @ self.base_weight[...].T.astype(x.dtype) + curves


def _splines(x: jax.Array) -> jax.Array:
    """B-splines at every value: [..., C] -> [..., number of splines, C]; 0 outside the knots."""
    x = x[..., None, :]
    knots = jnp.asarray(_KNOTS, x.dtype)[:, None]

    def ramps(k: int) -> tuple[jax.Array, jax.Array]:
        rising = (x - knots[: -k - 1]) / (knots[k:-1] - knots[: -k - 1])
        falling = (knots[k + 1 :] - x) / (knots[k + 1 :] - knots[1:-k])
        return rising, falling

    # Those of degree 1 are hats; then Cox and de Boor.
    found = jnp.maximum(0.0, jnp.minimum(*ramps(1)))
    for k in range(2, _DEGREE + 1):
        rising, falling = ramps(k)
        found = rising * found[..., :-1, :] + falling * found[..., 1:, :]
    return found


class Depthwise(nnx.Module):
    """Depthwise 3x3 convolution, normalisation, ReLU."""

    def __init__(self, dim: int, rngs: nnx.Rngs) -> None:
        self.conv = conv(dim, dim, 3, rngs, feature_group_count=dim)
        self.norm = norm_layer("batch", dim, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        return nnx.relu(self.norm(self.conv(x)))


class Block(nnx.Module):
    """A few times a KAN and a depthwise convolution, added to the input."""

    def __init__(self, dim: int, num_kans: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs)
        self.kan = nnx.List([KAN(dim, rngs) for _ in range(num_kans)])
        self.depthwise = nnx.List([Depthwise(dim, rngs) for _ in range(num_kans)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        y = self.norm(x)
        for kan, depthwise in zip(self.kan, self.depthwise, strict=True):
            y = depthwise(kan(y))
        return x + y


class DoubleConv(nnx.Module):
    """Twice: 3x3 convolution, normalisation, ReLU."""

    def __init__(self, n_in: int, hidden: int, n_out: int, rngs: nnx.Rngs) -> None:
        pairs = ((n_in, hidden), (hidden, n_out))
        self.layers = nnx.List([ConvNorm(a, b, 3, rngs, use_bias=True) for a, b in pairs])

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, n_out]."""
        for layer in self.layers:
            x = layer(x)
        return x


class UKAN(TokenUNet):
    """U-KAN; see `UKANConfig`."""

    def __init__(self, config: UKANConfig, rngs: nnx.Rngs) -> None:
        def up(n_in: int, n_out: int, last: bool) -> Layer:
            del last  # as all others
            return DoubleConv(n_in, n_in, n_out, rngs)

        super().__init__(
            config,
            rngs,
            down=lambda n_in, n_out: DoubleConv(n_in, n_out, n_out, rngs),
            up=up,
            block=lambda dim: Block(dim, config.num_kans, rngs),
        )
