"""Small networks exported to ONNX by PyTorch, with its logits of an image.

    pip install onnx onnxscript && python -m tests.reference.onnx.make_reference

writes `*.onnx` and `logits.npz` beside this file. The U-Net is exported for images of any
size, by the older exporter; the SegFormer for images of one size.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HERE = Path(__file__).parent
SIZE = 32


class Block(nn.Sequential):
    """Two convolutions with norms."""

    def __init__(self, n_in: int, n_out: int) -> None:
        parts = []
        for n in (n_in, n_out):
            parts += [nn.Conv2d(n, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
        super().__init__(*parts)


class UNet(nn.Module):
    """Three resolutions; one way up is transposed, the other interpolated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down1, self.down2 = Block(3, 4), Block(4, 8), Block(8, 8)
        self.rise = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.up1, self.up2 = Block(16, 8), Block(12, 4)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        a = self.stem(image)
        b = self.down1(functional.max_pool2d(a, 2))
        c = self.down2(functional.max_pool2d(b, 2))
        b = self.up1(torch.cat([b, self.rise(c)], 1))
        risen = functional.interpolate(b, scale_factor=2, mode="bilinear", align_corners=True)
        return self.head(self.up2(torch.cat([a, risen], 1)))


class Attention(nn.Module):
    """Of all tokens to those of a coarser grid."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = (
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, dim),
        )
        self.reduce = nn.Conv2d(dim, dim, ratio, stride=ratio)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        batch, tokens, dim = x.shape
        q = self.q(x).reshape(batch, tokens, self.heads, -1).transpose(1, 2)
        coarse = x.transpose(1, 2).reshape(batch, dim, height, width)
        coarse = self.norm(self.reduce(coarse).flatten(2).transpose(1, 2))
        kv = self.kv(coarse).reshape(batch, -1, 2, self.heads, dim // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (dim // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))


class Stage(nn.Module):
    """Patches, a block of attention and a convolution between, a norm."""

    def __init__(self, n_in: int, dim: int, heads: int, ratio: int, stride: int) -> None:
        super().__init__()
        size = 2 * stride - 1
        self.patches = nn.Conv2d(n_in, dim, size, stride=stride, padding=size // 2)
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(4)])
        self.attention = Attention(dim, heads, ratio)
        self.wide, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.depthwise = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        grid = self.patches(image)
        batch, dim, height, width = grid.shape
        x = self.norms[0](grid.flatten(2).transpose(1, 2))
        x = x + self.attention(self.norms[1](x), height, width)
        y = self.wide(self.norms[2](x)).transpose(1, 2).reshape(batch, 2 * dim, height, width)
        y = functional.gelu(self.depthwise(y).flatten(2).transpose(1, 2))
        x = self.norms[3](x + self.narrow(y))
        return x.transpose(1, 2).reshape(batch, dim, height, width)


class SegFormer(nn.Module):
    """Three resolutions, and a decoder of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        dims = (3, 8, 8, 8)
        self.stages = nn.ModuleList(
            [
                Stage(dims[0], dims[1], 1, 4, 4),
                Stage(dims[1], dims[2], 2, 2, 2),
                Stage(dims[2], dims[3], 4, 1, 2),
            ]
        )
        self.linear = nn.ModuleList([nn.Linear(dim, 8) for dim in dims[1:]])
        self.fuse = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, found = image, []
        for stage, linear in zip(self.stages, self.linear, strict=True):
            x = stage(x)
            tokens = linear(x.flatten(2).transpose(1, 2)).transpose(1, 2)
            grid = tokens.reshape(x.shape[0], -1, *x.shape[2:])
            size = image.shape[2] // 4, image.shape[3] // 4
            found.append(functional.interpolate(grid, size=size, mode="bilinear"))
        logits = self.head(self.fuse(torch.cat(found, 1)))
        return functional.interpolate(logits, size=image.shape[2:], mode="bilinear")


@torch.no_grad()
def drawn(net: nn.Module, images: torch.Tensor) -> nn.Module:
    """The network with statistics that are not those of a fresh one, and every class somewhere."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    net.eval()
    net.head.bias -= net(images).mean((0, 2, 3))
    scale = net(images).std()
    net.head.weight /= scale
    net.head.bias /= scale
    return net


def main() -> None:
    """Write the files."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, SIZE, SIZE)
    unet, segformer = drawn(UNet(), images), drawn(SegFormer(), images)
    named = {"input_names": ["image"], "output_names": ["logits"]}
    any_size = {"image": {0: "batch", 2: "height", 3: "width"}}
    torch.onnx.export(
        unet,
        (images,),
        HERE / "unet.onnx",
        dynamic_axes=any_size | {"logits": any_size["image"]},
        opset_version=17,
        dynamo=False,
        **named,
    )
    torch.onnx.export(
        segformer,
        (images,),
        HERE / "segformer.onnx",
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        opset_version=20,
        dynamo=True,
        external_data=False,
        verbose=False,
        **named,
    )
    _strip(HERE / "segformer.onnx")
    with torch.no_grad():
        found = {"unet": unet(images), "segformer": segformer(images)}
    logits = {name: np.moveaxis(value.numpy(), 1, -1) for name, value in found.items()}
    np.savez_compressed(HERE / "logits.npz", images=np.moveaxis(images.numpy(), 1, -1), **logits)


def _strip(path: Path) -> None:
    """Leave out where in this script every operation comes from, but for the module."""
    import onnx

    model = onnx.load(path)
    for node in model.graph.node:
        kept = [e for e in node.metadata_props if e.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.doc_string = ""
    del model.graph.value_info[:], model.graph.metadata_props[:]
    onnx.save(model, path)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    main()
