"""The families of models and the adapters; a further one is a file and a line here."""

from jaxseg_xai.core.registry import Registry
from jaxseg_xai.models.adapters import Adapter
from jaxseg_xai.models.architecture import Architecture

#: Name in `model.json` -> the settings of a family, an `Architecture`.
MODELS = Registry(
    "jaxseg_xai.models",
    "architecture",
    {
        "unet": "jaxseg_xai.models.zoo.unet:UNetConfig",
        "unetpp": "jaxseg_xai.models.zoo.unetpp:UNetPPConfig",
        "segnet": "jaxseg_xai.models.zoo.segnet:SegNetConfig",
        "unext": "jaxseg_xai.models.zoo.unext:UNeXtConfig",
        "ukan": "jaxseg_xai.models.zoo.ukan:UKANConfig",
        "segformer": "jaxseg_xai.models.zoo.segformer:SegFormerConfig",
        "unet3d": "jaxseg_xai.models.zoo.unet3d:UNet3DConfig",
        "vmunet": "jaxseg_xai.models.zoo.vmunet:VMUNetConfig",
        "fcn_resnet50": "jaxseg_xai.models.zoo.fcn:FCNConfig",
        "deeplabv3_resnet50": "jaxseg_xai.models.zoo.deeplabv3:DeepLabV3ResNetConfig",
        "deeplabv3_mobilenet_v3_large": (
            "jaxseg_xai.models.zoo.deeplabv3:DeepLabV3MobileNetConfig"
        ),
        "lraspp_mobilenet_v3_large": "jaxseg_xai.models.zoo.lraspp:LRASPPConfig",
        "hrnet": "jaxseg_xai.models.zoo.hrnet:HRNetConfig",
        "swinunet": "jaxseg_xai.models.zoo.swinunet:SwinUNetConfig",
        "transunet": "jaxseg_xai.models.zoo.transunet:TransUNetConfig",
        "lightmunet": "jaxseg_xai.models.zoo.lightmunet:LightMUNetConfig",
        "mcure": "jaxseg_xai.models.zoo.mcure:MCUREConfig",
        "attention_unet": "jaxseg_xai.models.zoo.attention_unet:AttentionUNetConfig",
        "nnunet": "jaxseg_xai.models.zoo.nnunet:NNUNetConfig",
    },
    base=Architecture,
)

#: Kinds of Python objects that can be explained -> an `Adapter`. They are asked from the last line
#: to the first, packages before ours, so that the most general one stands on top.
ADAPTERS = Registry(
    "jaxseg_xai.adapters",
    "adapter",
    {
        "callable": "jaxseg_xai.models.adapters.callable:CallableAdapter",
        "linen": "jaxseg_xai.models.adapters.linen:LinenAdapter",
        "nnx": "jaxseg_xai.models.adapters.nnx:NNXAdapter",
        "torch": "jaxseg_xai.models.adapters.torch:TorchAdapter",
        "nnunet": "jaxseg_xai.models.nnunet.adapter:NNUNetAdapter",
        "onnx": "jaxseg_xai.models.adapters.onnx:ONNXAdapter",
        "keras": "jaxseg_xai.models.adapters.keras:KerasAdapter",
    },
    base=Adapter,
)
