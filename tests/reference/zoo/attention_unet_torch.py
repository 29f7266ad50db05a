"""Network behind `attention_unet.*`: MONAI's (pip install monai) in 2-D, of few channels."""


def monai():
    from monai.networks.nets import AttentionUnet

    return AttentionUnet(2, in_channels=3, out_channels=2, channels=(4, 8, 16), strides=(2, 2))
