"""plans.json and dataset.json of nnU-Net v2: what a configuration's network is, takes and returns.

What we cannot do exactly as nnU-Net does is refused here, never left out.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.models.zoo.nnunet import NNUNetConfig

#: Class of the network -> what its encoder's depths are called in the plans.
_NETWORKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
#: Arguments of a network that change nothing when it is applied.
_IDLE = ("dropout_op", "dropout_op_kwargs", "deep_supervision", "norm_op_kwargs", "nonlin_kwargs")
#: How images and logits are resampled.
_RESAMPLING = {"force_separate_z": None, "is_seg": False, "order_z": 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One configuration of a plans file.

    Attributes:
      network: settings of the family `nnunet`.
      patch: what the network was trained on, in its own axes.
      axes: the network's axis i is the image's axis `axes[i]`.
      input: what images are to be.
      output: what the logits mean.
    """

    network: NNUNetConfig
    patch: tuple[int, ...]
    axes: tuple[int, ...]
    input: InputSpec
    output: OutputSpec


def read_plan(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> Plan:
    """Read a configuration.

    Args:
      plans: what plans.json holds.
      dataset: what dataset.json holds.
      configuration: "2d", "3d_fullres", ...

    Raises:
      ModelError: there is no such configuration, a key is missing, or it needs what is not
        supported here.
    """
    try:
        found = _with_architecture(_resolved(plans, configuration))
        return _plan(plans, dataset, configuration, found)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"plans.json or dataset.json is not as nnU-Net v2 writes it ({type(error).__name__}: "
            f"{error}); copy both again"
        ) from error


def _plan(
    plans: Mapping[str, Any], dataset: Mapping[str, Any], name: str, found: Mapping[str, Any]
) -> Plan:
    if found.get("previous_stage"):
        raise ModelError(
            f"{name} takes the segmentation of {found['previous_stage']} as further channels, "
            "which is not supported; take a configuration of one stage (3d_fullres, 3d_lowres)"
        )
    output = _output(dataset)
    channels = len(dataset.get("channel_names") or dataset["modality"])
    patch = tuple(found["patch_size"])
    network = _network(found["architecture"], len(patch), channels, output.num_classes)
    axes = tuple(plans["transpose_forward"])
    # A data set of pictures: nnU-Net takes them for volumes of one slice.
    pictures = plans["original_median_shape_after_transp"][0] == 1 and len(patch) == 2
    if pictures and axes[0] != 0:
        raise ModelError(f"transpose_forward {axes} of pictures is not supported; plan again")
    if pictures:
        axes = tuple(axis - 1 for axis in axes[1:])
    spacing = (None,) * (len(axes) - len(patch)) + tuple(map(float, found["spacing"]))
    ours = tuple(spacing[axes.index(axis)] for axis in range(len(axes)))
    if pictures and set(ours) == {1.0}:
        ours = ()
    if ours:
        _check_resampling(found)
    table = {"rank": len(axes), "channels": channels, "crop": "nonzero", "spacing": ours}
    table["raw"] = not pictures
    table |= _scaling(plans, found, channels, pictures=pictures)
    return Plan(
        network=network,
        patch=patch,
        axes=axes,
        input=from_table(InputSpec, table),
        output=output,
    )


def _resolved(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    known, found, seen = plans["configurations"], {}, []
    while name:
        if name not in known or name in seen:
            raise ModelError(
                f"no configuration {name!r} in plans.json; it has {', '.join(map(str, known))}"
            )
        seen.append(name)
        found = known[name] | found
        name = known[name].get("inherits_from")
    return found


def _with_architecture(found: dict[str, Any]) -> dict[str, Any]:
    """Plans of before nnU-Net 2.3 say the network in other words."""
    if "architecture" in found:
        return found
    network, stages = found["UNet_class_name"], len(found["n_conv_per_stage_encoder"])
    widest, base = found["unet_max_num_features"], found["UNet_base_num_features"]
    arguments = {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**i, widest) for i in range(stages)],
        "kernel_sizes": found["conv_kernel_sizes"],
        "strides": found["pool_op_kernel_sizes"],
        _NETWORKS.get(network, "n_conv_per_stage"): found["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": found["n_conv_per_stage_decoder"],
        "conv_bias": True,
    }
    return found | {"architecture": {"network_class_name": network, "arch_kwargs": arguments}}


def _network(
    architecture: Mapping[str, Any], rank: int, channels: int, num_logits: int
) -> NNUNetConfig:
    kind = architecture["network_class_name"].rpartition(".")[2]
    if kind not in _NETWORKS:
        raise ModelError(
            f"its network is a {kind}; supported are {' and '.join(_NETWORKS)}; give another one "
            "to as_model"
        )
    given = dict(architecture["arch_kwargs"])
    # The one that says how deep the encoder is; each network has its own.
    depths = {_NETWORKS[kind]: given.pop(_NETWORKS[kind])}
    usual = {
        "conv_op": f"Conv{rank}d",
        "norm_op": f"InstanceNorm{rank}d",
        "nonlin": "LeakyReLU",
        "n_stages": len(given["features_per_stage"]),
    }
    norm, slope = (given.get(f"{key}_kwargs") or {} for key in ("norm_op", "nonlin"))
    wrong = [
        f"{key} = {given[key]}"
        for key, value in usual.items()
        if key in given and str(given[key]).rpartition(".")[2] != str(value)
    ]
    if not norm.get("affine", True) or slope.get("negative_slope", 0.01) != 0.01:
        wrong.append(f"norm_op_kwargs = {norm}, nonlin_kwargs = {slope}")
    taken = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder")
    known = (*usual, *_IDLE, *taken, "conv_bias")
    wrong += [f"{k} = {v}" for k, v in given.items() if k not in known and v not in (None, False)]
    if wrong:
        raise ModelError(f"its network has {wrong[0]}, which is not supported; use as_model")
    table = {key: given[key] for key in taken} | depths
    for key in ("kernel_sizes", "strides"):
        table[key] = [n if isinstance(n, list) else [n] * rank for n in table[key]]
    table |= {"rank": rank, "in_channels": channels, "num_logits": num_logits}
    table |= {"conv_bias": bool(given.get("conv_bias", False)), "eps": norm.get("eps", 1e-5)}
    return from_table(NNUNetConfig, table)


def _output(dataset: Mapping[str, Any]) -> OutputSpec:
    """Labels exclude each other; regions, of several labels each, overlap."""
    labels = {name: value for name, value in dataset["labels"].items() if name != "ignore"}
    if any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        names = [name for name, value in labels.items() if value not in (0, [0])]
        return OutputSpec(class_names=tuple(names), activation="sigmoid")
    numbers = {name: v[0] if isinstance(v, list) else v for name, v in labels.items()}
    names = sorted(numbers, key=lambda name: int(numbers[name]))
    return OutputSpec(class_names=tuple(names))


def _scaling(
    plans: Mapping[str, Any], found: Mapping[str, Any], channels: int, *, pictures: bool
) -> dict[str, Any]:
    """Fields of `InputSpec` that say how each channel is scaled."""
    measured = (
        plans.get("foreground_intensity_properties_per_channel")
        or plans["foreground_intensity_properties_by_modality"]
    )
    clip, normalize, mean, std = [], [], [], []
    for i in range(channels):
        scheme, masked = found["normalization_schemes"][i], found["use_mask_for_norm"][i]
        limits, kind, shift, scale = None, "none", 0.0, 1.0
        match scheme:
            case "CTNormalization":
                of = measured[str(i)]
                limits = (float(of["percentile_00_5"]), float(of["percentile_99_5"]))
                shift, scale = float(of["mean"]), max(float(of["std"]), 1e-8)
            case "ZScoreNormalization":
                kind = "zscore_nonzero" if masked else "zscore"
            case "RescaleTo01Normalization":
                kind = "minmax"
            case "RGBTo01Normalization":
                scale = 255.0
            case "NoNormalization":
                pass
            case _:
                raise ModelError(
                    f"channel {i} is scaled by {scheme}, which is not supported; scale the images "
                    "yourself and open the folder with prepared=True"
                )
        clip.append(limits)
        normalize.append(kind)
        mean.append(shift)
        std.append(scale)
    brightest = max((float(of.get("max", 0)) for of in measured.values()), default=0.0)
    return {
        # Sources give pictures in [0, 1], nnU-Net reads the numbers of the file.
        "value_range": (0.0, 65535.0 if brightest > 255 else 255.0) if pictures else (0.0, 1.0),
        "clip": tuple(clip) if any(clip) else (),
        "normalize": tuple(normalize) if set(normalize) != {"none"} else (),
        "mean": tuple(mean) if any(mean) else (),
        "std": tuple(std) if set(std) != {1.0} else (),
    }


def _check_resampling(found: Mapping[str, Any]) -> None:
    for what, order in (("data", 3), ("probabilities", 1)):
        function = found.get(f"resampling_fn_{what}", "resample_data_or_seg_to_shape")
        options = _RESAMPLING | {"order": order}
        given = options | (found.get(f"resampling_fn_{what}_kwargs") or {})
        if function != "resample_data_or_seg_to_shape" or given != options:
            raise ModelError(
                f"its {what} are resampled by {function} with {given}, which is not supported; "
                "prepare the images with nnU-Net and open the folder with prepared=True"
            )
