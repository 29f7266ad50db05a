"""Networks behind `unet_milesial*.*`: milesial's module names, few channels."""

import torch
from torch import nn
from torch.nn import functional


class Double(nn.Module):
    """Twice: convolution without a bias, batch normalisation, ReLU."""

    def __init__(self, n_in, hidden, n_out):
        super().__init__()
        layers = []
        for a, b in ((n_in, hidden), (hidden, n_out)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), Double(n_in, n_out, n_out))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Up to the skip, with zeros where it is larger, and a block; `transposed` or bilinear."""

    def __init__(self, n_below, n_skip, n_out, transposed):
        super().__init__()
        if transposed:
            self.up = nn.ConvTranspose2d(n_below, n_skip, 2, stride=2)
            self.conv = Double(2 * n_skip, n_out, n_out)
        else:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = Double(n_below + n_skip, (n_below + n_skip) // 2, n_out)

    def forward(self, x, skip):
        x = self.up(x)
        rows, columns = (skip.shape[i] - x.shape[i] for i in (2, 3))
        around = [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
        return self.conv(torch.cat([skip, functional.pad(x, around)], dim=1))


class UNet(nn.Module):
    def __init__(self, transposed):
        super().__init__()
        widths = [4, 8, 12, 16, 20 if transposed else 16]
        self.inc = Double(3, widths[0], widths[0])
        for i in range(1, 5):
            setattr(self, f"down{i}", Down(widths[i - 1], widths[i]))
        below = widths[-1]
        for i, skip in enumerate(reversed(widths[:-1]), 1):
            n_out = skip if transposed or i == 4 else widths[3 - i]
            setattr(self, f"up{i}", Up(below, skip, n_out, transposed))
            below = n_out
        self.outc = nn.ModuleDict({"conv": nn.Conv2d(below, 2, 1)})

    def forward(self, x):
        skips = [self.inc(x)]
        for i in range(1, 5):
            skips.append(getattr(self, f"down{i}")(skips[-1]))
        x = skips.pop()
        for i in range(1, 5):
            x = getattr(self, f"up{i}")(x, skips.pop())
        return self.outc["conv"](x)


def transposed():
    return UNet(True)


def bilinear():
    return UNet(False)
