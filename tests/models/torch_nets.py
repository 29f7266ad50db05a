"""Small PyTorch networks, each with operators of its own kind."""

import torch
from torch import nn
from torch.nn import functional as F


class UNet(nn.Module):
    """Two resolutions; what up-samples is given."""

    def __init__(self, up, norm=nn.BatchNorm2d, width=4):
        super().__init__()
        self.norm = norm
        self.enter, self.down = self.block(3, width), self.block(width, 2 * width)
        self.up = up(2 * width)
        self.out = nn.Sequential(self.block(3 * width, width), nn.Conv2d(width, 2, 1))

    def block(self, inputs, outputs):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(conv, self.norm(outputs), nn.ReLU(inplace=True))

    def forward(self, x):
        fine = self.enter(x)
        coarse = self.up(self.down(F.max_pool2d(fine, 2)))
        return self.out(torch.cat([fine, coarse], 1))


def resize(**options):
    return lambda width: nn.Upsample(scale_factor=2, **options)


class SegNet(nn.Module):
    """Max-unpooling by the places of the maxima."""

    def __init__(self, size=2, stride=2):
        super().__init__()
        self.enter, self.mid = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding="same")
        self.pool = nn.MaxPool2d(size, stride, return_indices=True)
        self.unpool, self.out = nn.MaxUnpool2d(size, stride), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.enter(x)
        pooled, places = self.pool(x)
        return self.out(self.unpool(self.mid(pooled), places, output_size=x.shape))


class Transformer(nn.Module):
    """Patches, positions, attention with queries, keys and values in one layer, GELU, LayerNorm."""

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.embed, self.heads = nn.Conv2d(3, width, 4, stride=4), heads
        self.register_buffer("positions", torch.randn(1, 16, width))
        self.scale = torch.tensor((width // heads) ** -0.5)  # neither parameter nor buffer
        self.norm, self.qkv, self.last = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 16),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(16, width),
        )
        self.head = nn.ConvTranspose2d(width, 2, 4, stride=4)

    def forward(self, x):
        x = self.embed(x)
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2) + self.positions
        q, k, v = self.qkv(self.norm(x)).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        x = x + self.last(seen.transpose(1, 2).reshape(b, h * w, c))
        x = x + self.mlp(x)
        return self.head(x.transpose(1, 2).reshape(b, c, h, w))


class Pyramid(nn.Module):
    """Dilated, grouped and strided convolutions, adaptive pooling, other norms, sampling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(3, 6, 3, stride=2), nn.GroupNorm(2, 6), nn.SiLU()
        )
        self.deep = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6),
            nn.Conv2d(6, 6, 1),
            nn.InstanceNorm2d(6, affine=True),
            nn.LeakyReLU(0.1),
            nn.PReLU(6),
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6), nn.Hardsigmoid()
        )
        self.up = nn.ConvTranspose2d(12, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.out = nn.Conv2d(7, 2, 3, padding=1, padding_mode="replicate")

    def forward(self, x):
        y = self.deep(self.stem(x))
        y = y * self.gate(y)[:, :, None, None]
        pooled = F.adaptive_avg_pool2d(y, 3) + F.adaptive_max_pool2d(y, (3, 3))
        pooled = pooled + F.avg_pool2d(y, 3, 2, 1, count_include_pad=False)[:, :, :3, :3]
        wide = F.interpolate(pooled, size=y.shape[2:], mode="bicubic", align_corners=True)
        y = self.up(torch.cat([y, wide], 1))
        y = y + F.max_pool2d(y, 3, 1, 1)
        theta = torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 1.1, 0.1]]], device=x.device).expand(
            len(x), -1, -1
        )
        moved = F.grid_sample(
            x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False
        )
        return self.out(torch.cat([y, moved], 1))


class Volume(nn.Module):
    """Three axes."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.ReLU())
        self.down = nn.Conv3d(4, 4, 2, stride=2)
        self.out = nn.Conv3d(8, 2, 1)

    def forward(self, x):
        x = self.enter(x)
        y = F.interpolate(self.down(x), scale_factor=2, mode="trilinear") + F.interpolate(
            F.max_pool3d(x, 2), x.shape[2:]
        )
        return {"out": [self.out(torch.cat([x, y], 1)), y], "name": "volume"}


NETS = {
    "bilinear": lambda: UNet(resize(mode="bilinear")),
    "aligned": lambda: UNet(resize(mode="bilinear", align_corners=True), nn.Identity),
    "nearest": lambda: UNet(resize(), nn.InstanceNorm2d),
    "transposed": lambda: UNet(lambda width: nn.ConvTranspose2d(width, width, 2, stride=2)),
    "segnet": SegNet,
    "sparse": lambda: SegNet(2, 3),
    "transformer": Transformer,
    "pyramid": Pyramid,
}


def make(name):
    """A network in evaluation mode whose every weight and statistic is random."""
    torch.manual_seed(0)
    net = NETS[name]() if name in NETS else globals()[name]()
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(
                    torch.rand(tensor.shape) - 0.3
                    if tensor.ndim > 1
                    else torch.rand(tensor.shape) + 0.5
                )
    return net.eval()
