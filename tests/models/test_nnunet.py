"""Results folders of nnU-Net v2, tiny ones with drawn weights, opened as models."""

import json

import jax
import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Sample
from jaxseg_xai.models.zoo.nnunet import NNUNetConfig
from tests.contracts.test_families import torch_shapes
from tests.reference.zoo import recipe

SPACING = {"2d": [1.5, 2.0], "3d_fullres": [4.0, 1.5, 2.0]}
ARGUMENTS = {
    "n_stages": 2,
    "features_per_stage": [4, 6],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
PLANS = {
    "dataset_name": "Dataset007_Tiny",
    "original_median_shape_after_transp": [9, 20, 22],
    "transpose_forward": [2, 0, 1],
    "transpose_backward": [1, 2, 0],
    "foreground_intensity_properties_per_channel": {
        "0": {"max": 9, "mean": 1.0, "percentile_00_5": -2.0, "percentile_99_5": 3.0, "std": 2.0},
        "1": {"max": 9, "mean": 5.0, "percentile_00_5": 4.0, "percentile_99_5": 6.0, "std": 1.0},
    },
    "configurations": {
        name: {
            "patch_size": [8, 8, 8][-rank:],
            "spacing": SPACING[name],
            "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
            "use_mask_for_norm": [False, True],
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.PlainConvUNet",
                "arch_kwargs": ARGUMENTS
                | {
                    "conv_op": f"torch.nn.modules.conv.Conv{rank}d",
                    "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{rank}d",
                    "kernel_sizes": [[1, 3, 3][-rank:], [3] * rank],
                    "strides": [[1] * rank, [1, 2, 2][-rank:]],
                },
            },
        }
        for name, rank in (("2d", 2), ("3d_fullres", 3))
    },
}
LABELS = {"background": 0, "organ": 1, "lesion": 2, "ignore": 3}
REGIONS = {"background": 0, "whole": [1, 2], "lesion": 2}


RANKS = {"2d": 2, "3d_fullres": 3}


def network_of(rank, num_logits=3):
    return NNUNetConfig(
        rank=rank,
        in_channels=2,
        num_logits=num_logits,
        features_per_stage=(4, 6),
        kernel_sizes=((1, 3, 3)[-rank:], (3,) * rank),
        strides=((1,) * rank, (1, 2, 2)[-rank:]),
        n_conv_per_stage=(1, 1),
        n_conv_per_stage_decoder=(1,),
    )


def write(folder, configuration="2d", *, folds=(0,), labels=LABELS, num_logits=3, prefix=""):
    """A results folder; its weights have the names of nnU-Net's checkpoints, some twice."""
    folder = folder / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(PLANS))
    table = {"labels": labels, "channel_names": {"0": "CT", "1": "MRI"}}
    (folder / "dataset.json").write_text(json.dumps(table))
    shapes = torch_shapes(network_of(RANKS[configuration], num_logits))
    for fold in folds:
        arrays = recipe.weights(shapes, salt=str(fold))
        arrays |= {
            name.replace(".conv.", ".all_modules.0."): value
            for name, value in arrays.items()
            if ".conv." in name
        }
        arrays |= {f"decoder.{k}": v for k, v in arrays.items() if k.startswith("encoder.")}
        (folder / f"fold_{fold}").mkdir()
        named = {f"{prefix}{name}": value for name, value in arrays.items()}
        np.savez(folder / f"fold_{fold}" / "net.npz", **named)
    return folder


def edit(folder, configuration, change):
    plans = json.loads((folder / "plans.json").read_text())
    change(plans["configurations"][configuration])
    (folder / "plans.json").write_text(json.dumps(plans))
    return folder


def from_nnunet(folder, *arguments, **options):
    return jaxseg_xai.from_nnunet(folder, *arguments, checkpoint="net.npz", **options)


def case():
    rng = np.random.default_rng(0)
    image = np.zeros((12, 20, 14, 2), np.float32)
    image[1:, :18, 2:] = rng.normal(2, 2, (11, 18, 12, 2))
    return Sample(id="case", image=image, spacing=(1.5, 1.0, 3.0))


def logits_of(bundle, inputs):
    return np.asarray(jax.jit(bundle.segmenter)(bundle.variables, inputs))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return {name: write(folder, name, folds=(0, 1)) for name in RANKS}


@pytest.mark.parametrize("configuration", RANKS)
def test_a_folder_says_what_goes_in_and_what_comes_out(folders, configuration):
    bundle = from_nnunet(folders[configuration])
    spec, window = bundle.segmenter.input, bundle.segmenter.apply
    assert bundle.name == "Dataset007_Tiny"
    assert bundle.class_names == ("background", "organ", "lesion")
    assert (spec.rank, spec.channels, spec.crop) == (3, 2, "nonzero")
    # The network's axes are the file's 2, 0, 1; slices lie along the file's last.
    assert spec.spacing == (1.5, 2.0, 4.0 if configuration == "3d_fullres" else None)
    assert spec.clip == ((-2.0, 3.0), None)
    assert spec.normalize == ("none", "zscore_nonzero")
    assert (spec.mean, spec.std) == ((1.0, 0.0), (2.0, 1.0))
    assert window.axes == (2, 0, 1)
    assert window.patch == (8, 8, 8)[-RANKS[configuration] :]
    prepared = prepare(case(), spec).image
    assert prepared.shape == (11, 9, 9 if configuration == "3d_fullres" else 12, 2)
    # The network alone, on one tile that the window takes as it is.
    inner = from_nnunet(folders[configuration], prepared=True)
    tile = np.random.default_rng(1).random((1, *window.patch, 2)).astype(np.float32)
    assert inner.segmenter.input.rank == RANKS[configuration]
    wanted = np.asarray(inner.segmenter.apply.network(inner.variables, tile))
    np.testing.assert_allclose(logits_of(inner, tile), wanted, atol=1e-5)
    turned = (tile if configuration == "3d_fullres" else tile[None]).transpose(0, 2, 3, 1, 4)
    found = logits_of(bundle, turned).transpose(0, 3, 1, 2, 4)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-5)


def test_folds_are_averaged_and_images_mirrored(folders):
    folder = folders["2d"]
    tile = np.random.default_rng(1).random((1, 8, 8, 2)).astype(np.float32)
    one, other = (logits_of(from_nnunet(folder, fold, prepared=True), tile) for fold in (0, 1))
    both = from_nnunet(folder, fold=(0, 1), prepared=True)
    np.testing.assert_allclose(logits_of(both, tile), (one + other) / 2, atol=1e-5)
    assert np.abs(one - other).max() > 0.1


def test_a_card_or_the_folder_alone_opens_it(folders, tmp_path):
    place = {"folder": str(folders["2d"]), "checkpoint": "net.npz", "fold": [0, 1]}
    (tmp_path / "model.json").write_text(json.dumps({"nnunet": place}))
    found = jaxseg_xai.load_model(tmp_path)
    assert found.segmenter == from_nnunet(folders["2d"], fold=(0, 1)).segmenter
    with pytest.raises(ModelError, match=r"no checkpoint_final.* it has none"):
        jaxseg_xai.load_model(folders["2d"])
    (tmp_path / "model.json").write_text(json.dumps({"nnunet": {"folds": 3}}))
    with pytest.raises(ModelError, match="nnunet: unknown key folds; the keys are"):
        jaxseg_xai.load_model(tmp_path)


def test_a_volume_is_explained_on_its_own_grid(folders):
    model = from_nnunet(folders["3d_fullres"])
    found = jaxseg_xai.explain(
        model, case(), ["organ"], "integrated_gradients", region="image", num_nodes=2
    )[0]
    assert found.status_name == "OK", found.reason
    assert found.attribution.shape == (12, 20, 14)
    assert not found.attribution[0].any()  # was left out
    assert not found.attribution[:, 18:].any()
    assert np.asarray(found.attribution[1:, :18, 2:]).any()


def test_class_activation_maps_need_an_image_of_one_patch(folders):
    model = from_nnunet(folders["2d"], prepared=True)
    image = np.random.default_rng(3).random((8, 8, 2)).astype(np.float32)
    for size, fits in (((8, 8), True), ((6, 7), True), ((9, 8), False)):
        given = np.resize(image, (*size, 2))
        if fits:
            found = jaxseg_xai.explain(model, given, "organ", "grad_cam")[0]
            assert found.scores["height"] == 4
            continue
        with pytest.raises(
            ModelError, match=r"shows the whole image .*; give an image of one patch"
        ):
            jaxseg_xai.explain(model, given, "organ", "grad_cam")


def test_regions_of_several_labels_are_classes_that_overlap(tmp_path):
    folder = write(tmp_path, labels=REGIONS, num_logits=2)
    output = from_nnunet(folder).segmenter.output
    assert output.class_names == ("whole", "lesion")
    assert output.activation == "sigmoid"


def test_old_plans_and_inherited_ones_are_the_same(folders, tmp_path):
    wanted = from_nnunet(folders["2d"])
    folder = write(tmp_path, prefix="_orig_mod.module.")

    def old(found):
        arguments = found.pop("architecture")["arch_kwargs"]
        found |= {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 4,
            "unet_max_num_features": 6,
            "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
            "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
            "conv_kernel_sizes": arguments["kernel_sizes"],
            "pool_op_kernel_sizes": arguments["strides"],
        }

    edit(folder, "2d", old)
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["2d_large"] = {"inherits_from": "2d", "batch_size": 99}
    (folder / "plans.json").write_text(json.dumps(plans))
    found = from_nnunet(folder, configuration="2d_large")
    assert found.segmenter == wanted.segmenter
    for ours, theirs in zip(
        *map(jax.tree.leaves, (found.variables, wanted.variables)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_pictures_are_images(tmp_path):
    folder = write(tmp_path)
    plans = json.loads((folder / "plans.json").read_text())
    plans["original_median_shape_after_transp"] = [1, 20, 22]
    plans["transpose_forward"] = [0, 1, 2]
    plans["configurations"]["2d"]["spacing"] = [1.0, 1.0]
    schemes = ["RGBTo01Normalization", "RescaleTo01Normalization"]
    plans["configurations"]["2d"]["normalization_schemes"] = schemes
    (folder / "plans.json").write_text(json.dumps(plans))
    segmenter = from_nnunet(folder).segmenter
    assert segmenter.apply.axes == (0, 1)
    image = np.random.default_rng(0).random((9, 7, 2), np.float32)
    found = prepare(Sample(id="picture", image=image), segmenter.input).image
    np.testing.assert_allclose(found[..., 0], image[..., 0], atol=1e-6)
    assert (found[..., 1].min(), found[..., 1].max()) == (0, 1)


def test_what_nnunet_writes_is_read_with_its_mirrored_axes(folders, tmp_path):
    torch = pytest.importorskip("torch", reason="only it writes its files")
    folder = write(tmp_path)
    with np.load(folder / "fold_0" / "net.npz") as file:
        state = {name: torch.from_numpy(file[name]) for name in file.files}
    content = {
        "network_weights": state,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}},
        "_best_ema": np.float32(0.5),
        "inference_allowed_mirroring_axes": (1,),
    }
    path = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(content, path)
    tile = np.random.default_rng(1).random((1, 8, 8, 2)).astype(np.float32)
    plain = from_nnunet(folder, prepared=True)
    mirrored = jaxseg_xai.from_nnunet(folder, prepared=True, mirror=True)
    turned = logits_of(plain, tile[:, :, ::-1])[:, :, ::-1]
    wanted = (logits_of(plain, tile) + turned) / 2
    np.testing.assert_allclose(logits_of(mirrored, tile), wanted, atol=1e-5)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"checkpoint_final.pth: damaged .*; copy it again"):
        jaxseg_xai.from_nnunet(folder)


def network(**changes):
    return lambda found: found["architecture"]["arch_kwargs"].update(changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda found: found.pop("patch_size"), "is not as nnU-Net v2 writes it .*patch_size"),
        (
            lambda found: found.update(previous_stage="3d_lowres"),
            "of 3d_lowres as further channels",
        ),
        (
            lambda found: found.update(normalization_schemes=["Mine", "CTNormalization"]),
            "channel 0 is scaled by Mine, which is not supported; scale the images",
        ),
        (
            lambda found: found.update(resampling_fn_data="no_resampling"),
            "data are resampled by no_resampling .*; prepare the images with nnU-Net",
        ),
        (
            lambda found: found.update(resampling_fn_probabilities_kwargs={"order": 0}),
            "probabilities are resampled by .*'order': 0",
        ),
        (
            lambda found: found["architecture"].update(network_class_name="a.b.Primus"),
            "its network is a Primus; supported are PlainConvUNet and ResidualEncoderUNet",
        ),
        (network(nonlin="torch.nn.ReLU"), "nonlin = torch.nn.ReLU, which is not supported"),
        (network(nonlin_first=True), "nonlin_first = True, which is not supported"),
        (network(nonlin_kwargs={"negative_slope": 0.2}), "negative_slope"),
        (network(strides=[[1, 1]]), "strides has 1 entries, features_per_stage 2"),
        (network(features_per_stage=[4, 8]), "net.npz: .*4, 8|net.npz: .*8"),
    ],
)
def test_plans_that_need_what_is_not_supported(tmp_path, change, match):
    folder = edit(write(tmp_path), "2d", change)
    with pytest.raises(ModelError, match=match) as error:
        from_nnunet(folder)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "options", "match"),
    [
        (lambda f: (f / "plans.json").unlink(), {}, "no plans.json, so it is no results folder"),
        (lambda f: (f / "dataset.json").unlink(), {}, "no dataset.json, so it is no results"),
        (lambda f: (f / "plans.json").write_text("{"), {}, "plans.json: damaged"),
        (lambda f: (f / "plans.json").write_text("[]"), {}, "holds a list, no table"),
        (None, {"fold": 4}, "no fold 4; it has 0"),
        (None, {"fold": "all"}, "no fold all; it has 0"),
        (None, {"fold": ()}, "fold is empty"),
        (None, {"configuration": "3d"}, "no configuration '3d' in plans.json; it has 2d, 3d_full"),
        (lambda f: (f / "fold_0" / "net.npz").write_bytes(b"PK"), {}, "damaged weight file"),
    ],
)
def test_folders_that_cannot_be_opened(tmp_path, spoil, options, match):
    folder = write(tmp_path)
    if spoil:
        spoil(folder)
    with pytest.raises(ModelError, match=match) as error:
        from_nnunet(folder, **options)
    assert "\n" not in str(error.value)


def test_images_of_other_channels_are_one_error(folders):
    model = from_nnunet(folders["2d"])
    given = Sample(id="case", image=case().image[..., :1], spacing=(1.0, 1.0, 1.0))
    with pytest.raises(jaxseg_xai.JaxsegError, match="case: 1 channels, the model takes 2"):
        jaxseg_xai.explain(model, given, ["organ"], "integrated_gradients")
