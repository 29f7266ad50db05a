"""Networks behind `nnunet_*`: those of dynamic-network-architectures (pip install --no-deps)."""

from torch import nn

#: Of the first resolution only one axis, in the second only two are halved, as in plans.
SIDES = [(1, 3, 3), (3, 3, 3), (3, 3, 3)]


def _network(cls, rank, **options):
    common = {
        "input_channels": 2,
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": {2: nn.Conv2d, 3: nn.Conv3d}[rank],
        "kernel_sizes": [sides[-rank:] for sides in SIDES],
        "strides": [(1, 1, 1)[-rank:], (1, 2, 2)[-rank:], (2, 2, 2)[-rank:]],
        "num_classes": 3,
        "n_conv_per_stage_decoder": [1, 2],
        "conv_bias": True,
        "norm_op": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[rank],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    return cls(**common, **options)


def plain():
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return _network(PlainConvUNet, 2, n_conv_per_stage=[2, 1, 2])


def plain_3d():
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return _network(PlainConvUNet, 3, n_conv_per_stage=[2, 1, 2])


def residual():
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    return _network(ResidualEncoderUNet, 2, n_blocks_per_stage=[1, 3, 2])


def residual_3d():
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    return _network(ResidualEncoderUNet, 3, n_blocks_per_stage=[1, 2, 1])
