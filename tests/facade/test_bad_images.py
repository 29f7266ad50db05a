"""One image that cannot be used, or explained, fails alone; what is wrong with all speaks once."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.explainers.parts.components import ComponentAte
from tests import tiny

RNG = np.random.default_rng(0)
EVEN = [RNG.random((8, 8, 1)).astype(np.float32) for _ in range(5)]
ODD = RNG.random((9, 9, 1)).astype(np.float32)


def bright(x):
    """Class 1 where a pixel is bright, of images whose size is even; nobody says so."""
    halves = x[:, ::2] + x[:, 1::2]
    return 20 * (x - 0.5) + 0 * jnp.repeat(halves, 2, axis=1)


@pytest.fixture(scope="module")
def model():
    return jaxseg_xai.as_model(bright, class_names=["dark", "bright"], channels=1)


def statuses(found):
    return [one.status_name for one in found]


class Gallery:
    """Images, or errors to raise in their place; `read` counts how often each was asked for."""

    class_names = ()

    def __init__(self, *items):
        self.items, self.ids = items, tuple(f"i{n}" for n in range(len(items)))
        self.read = dict.fromkeys(self.ids, 0)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.read[self.ids[index]] += 1
        item = self.items[index]
        if isinstance(item, BaseException):
            raise item
        return Sample(id=self.ids[index], image=item) if isinstance(item, np.ndarray) else item


@pytest.mark.parametrize("method", ["confidence", "integrated_gradients"])
@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("place", [0, 2])
def test_a_size_that_the_model_cannot_take(model, method, place, batch_size):
    images = EVEN[:2]
    images.insert(place, ODD)
    found = jaxseg_xai.explain(model, images, "bright", method, batch_size=batch_size)
    expected = ["OK", "OK"]
    expected.insert(place, "FAILED")
    assert statuses(found) == expected
    assert found[place].reason.startswith(f"image-0000{place}: the model cannot be applied to")


def test_a_model_that_takes_none_speaks_once_and_early(model):
    gallery = Gallery(*[ODD] * 100)
    with pytest.raises(ModelError, match=r"^the model cannot be applied to images \(1, 9, 9, 1\)"):
        jaxseg_xai.explain(model, gallery, "bright", "confidence")
    assert sum(gallery.read.values()) < 40


def test_empty_images_have_a_status_of_their_own(model):
    found = jaxseg_xai.explain(model, [EVEN[0] * 0, EVEN[0]], "bright", "confidence")
    assert statuses(found) == ["EMPTY_IMAGE", "OK"]
    assert found[0].reason.startswith("image-00000: a constant image")
    with pytest.raises(
        ConfigError, match=r"^none of 2 images can be explained: image-00000: a con"
    ):
        jaxseg_xai.explain(model, [EVEN[0] * 0] * 2, "bright", "confidence")


def test_whatever_a_source_raises_fails_one_item(model):
    bad = [ValueError("no header\nat all"), OSError("gone"), "no sample", KeyError("image")]
    gallery = Gallery(*EVEN[:2], *bad)
    found = jaxseg_xai.explain(
        model, gallery, "bright", "ate", region="box 4", block_size=2, num_patches=2, num_screen=0
    )
    assert statuses(found) == ["OK", "OK", *["FAILED"] * 4]
    reasons = [one.reason for one in found[2:]]
    assert reasons[0] == "i2: cannot be read: ValueError: no header; mend it, or leave it out"
    assert reasons[1].startswith("i3: cannot be read: OSError: gone; ")
    assert reasons[2] == "i4: its source gives a str; it must be a Sample"
    with pytest.raises(KeyboardInterrupt):
        jaxseg_xai.explain(
            model, Gallery(EVEN[0], KeyboardInterrupt()), "bright", "confidence", batch_size=1
        )


@pytest.mark.parametrize("batch_size", [1, 8])
def test_without_other_images_of_its_size_one_image_fails_alone(tmp_path, batch_size):
    net = tiny.write_model(tmp_path / "model")
    large = [tiny.picture(n)[0] for n in range(3)]
    found = jaxseg_xai.explain(
        net,
        [*large, tiny.picture(4, (34, 32))[0]],
        "bright",
        ComponentAte(num_others=2, exact_channels=False),
        region="box 8",
        batch_size=batch_size,
    )
    assert statuses(found) == ["OK", "OK", "OK", "FAILED"]
    assert "image-00003: 0 other images of its size, 2 are needed" in found[3].reason


def test_labels_that_are_no_class(model, caplog):
    labels = [(image[..., 0] > 0.5).astype(int) for image in EVEN[:3]]
    labels[1][0, 0] = 7
    found = jaxseg_xai.explain(model, EVEN[:3], "bright", "confidence", labels=labels)
    assert statuses(found) == ["OK"] * 3
    assert "1 images are stored without their label maps" in caplog.text
    found = jaxseg_xai.explain(
        model, EVEN[:3], "bright", "confidence", labels=labels, target="truth"
    )
    assert statuses(found) == ["OK", "FAILED", "OK"]
    assert found[1].reason.startswith("image-00001: label 7 is out of range (0 to 1); map it")


def test_where_all_fail_the_first_reason_is_raised(model):
    with pytest.raises(ConfigError, match=r"^none of 2 images can be explained: image-00000: r"):
        jaxseg_xai.explain(model, EVEN[:2], "bright", "confidence", region=(40, 40))


def test_the_usual_box_of_a_small_image_is_all_of_it(model):
    no_blocks = "NO_BLOCKS"  # all touch the region
    for method, settings, wanted in (
        ("ate", {"perturbation": "zero", "block_size": 4, "num_screen": 0}, {no_blocks}),
        ("ate_gradient", {"block_size": 4, "others": EVEN[1:]}, {no_blocks}),
        (
            "misure",
            {"region": "box", "num_iterations": 2, "max_dilations": 2},
            {"OK", "NOT_REACHED"},
        ),
    ):
        found = jaxseg_xai.explain(model, EVEN[0], "bright", method, **settings)
        assert found.status_name in wanted
        assert found.region.all()


def test_an_empty_mask_is_an_empty_region(model):
    mask = np.zeros((8, 8), bool)
    found = jaxseg_xai.explain(model, EVEN[:2], "bright", "confidence", region=mask)
    assert statuses(found) == ["EMPTY_REGION"] * 2
    assert not found[0].attribution.any()


def test_numbers_of_numpy_are_numbers(model):
    numbers = np.arange(3)
    found = jaxseg_xai.explain(
        model, EVEN[0], numbers[1], "integrated_gradients", num_nodes=numbers[2]
    )
    assert found.class_name == "bright"
    nodes = jaxseg_xai.IntegratedGradients(num_nodes=numbers[2])
    same = jaxseg_xai.explain(model, EVEN[0], [numbers[1]], nodes)
    assert same.status_name == "OK"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_nodes": "8"}, "num_nodes is '8': input should be a valid integer"),
        ({"num_nodes": 2.5}, "num_nodes is 2.5: input should be a valid integer"),
        ({"num_nodes": [2]}, "num_nodes is [2]: input should be a valid integer"),
        ({"outcome": ["dice"]}, "outcome is ['dice']; use dice, soft_dice"),
    ],
)
def test_settings_of_another_type_are_one_line(model, settings, words):
    with pytest.raises(ConfigError) as error:
        jaxseg_xai.explain(model, EVEN[0], "bright", jaxseg_xai.IntegratedGradients(), **settings)
    assert str(error.value).startswith(f"integrated_gradients.{words}")
