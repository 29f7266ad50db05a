"""Networks behind `unet3d.*`, MONAI's (pip install monai), and `unet3d_strided.*`, one of ours."""

import torch
from torch import nn


def monai():
    from monai.networks.nets import BasicUNet

    return BasicUNet(3, in_channels=1, out_channels=2, features=(4, 4, 8, 16, 32, 4))


class Block(nn.Module):
    """Convolution, batch normalisation, ReLU, under the names that MONAI has for them."""

    def __init__(self, n_in, n_out, stride=1):
        super().__init__()
        self.conv = nn.Conv3d(n_in, n_out, 3, stride=stride, padding=1)
        self.adn = nn.ModuleDict({"N": nn.BatchNorm3d(n_out)})

    def forward(self, x):
        return torch.relu(self.adn["N"](self.conv(x)))


class Strided(nn.Module):
    """Strided convolutions on the way down, trilinear interpolation on the way up."""

    def __init__(self):
        super().__init__()
        fine, middle, coarse = 4, 6, 8

        def blocks(n_in, n_out, stride=1):
            layers = {"conv_0": Block(n_in, n_out, stride), "conv_1": Block(n_out, n_out)}
            return nn.ModuleDict(layers)

        self.conv_0 = blocks(2, fine)
        self.down_1 = nn.ModuleDict({"convs": blocks(fine, middle, 2)})
        self.down_2 = nn.ModuleDict({"convs": blocks(middle, coarse, 2)})
        self.upcat_2 = nn.ModuleDict({"convs": blocks(middle + coarse, middle)})
        self.upcat_1 = nn.ModuleDict({"convs": blocks(fine + middle, fine)})
        self.final_conv = nn.Conv3d(fine, 1, 1)

    def forward(self, x):
        def run(blocks, x):
            return blocks["conv_1"](blocks["conv_0"](x))

        fine = run(self.conv_0, x)
        middle = run(self.down_1["convs"], fine)
        x = run(self.down_2["convs"], middle)
        for skip, up in ((middle, self.upcat_2), (fine, self.upcat_1)):
            x = nn.functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
            x = run(up["convs"], torch.cat([skip, x], dim=1))
        return self.final_conv(x)


def strided():
    return Strided()
