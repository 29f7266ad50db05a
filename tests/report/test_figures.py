import dataclasses
import io
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.core.errors import MissingExtraError
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.report import figures, overlays, panels, record
from jaxseg_xai.report.files import save_figures
from jaxseg_xai.store import SINKS, Entry, PlanRow, StoredImage
from tests.report.demo_store import METAS, STATUSES, build, entry, explanation, nested_planes


def picture(store, label, number, **changes):
    row = store.rows(label)[number]
    known = dataclasses.replace(store.entry(label), **changes)
    figure = figures.draw(store.read(row), store.read_image(row), store.class_names, known)
    with Image.open(io.BytesIO(panels.to_png(figure, dpi=50))) as png:
        return figure, np.asarray(png.convert("RGB"))


def words(figure):
    texts = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "center", "right")]
    return " ".join([*texts, figure.get_suptitle(), figure.get_supxlabel()]).replace("\n", " ")


def panel(figure, title):
    (found,) = [axes for axes in figure.axes if axes.get_title().startswith(title)]
    return found


@pytest.fixture(scope="module")
def store():
    return build()


@pytest.fixture(scope="module")
def volumes():
    return build((6, 12, 10), evil="im0")


#: Without maps all kinds are drawn alike.
CASES = [(kind, number) for kind in ("heat", "parts") for number in range(len(STATUSES) + 1)]
CASES += [(kind, n) for kind in METAS for n in (Status.OK, Status.NOT_REACHED, Status.FAILED)]


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(("kind", "number"), sorted(set(CASES)))
def test_every_status_has_a_picture(store, volumes, kind, rank, number):
    """Every status, an image that was not stored, and a pending row."""
    figure, pixels = picture(store if rank == 2 else volumes, kind, number)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    status = STATUSES[number] if number < len(STATUSES) else None
    said = words(figure)
    if status == Status.FAILED:
        assert "corrupt" in said
    elif kind != "parts" if status == Status.NOT_REACHED else status != Status.OK:
        assert record.STATUS_NOTES[status].split(":")[0] in said


@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 90), (90, 2), (37, 53), (300, 200), (1, 1, 1), (2, 30, 90), (30, 40, 5)]
)
def test_every_size_has_a_picture(shape):
    store = build(shape, evil="im0")
    for kind in METAS:
        figure, pixels = picture(store, kind, 0)
        assert pixels.min() < 100 < pixels.max()
        assert max(figure.get_size_inches()) < 30


@pytest.mark.parametrize("kind", [kind for kind in METAS if kind != "parts"])
def test_a_volume_is_shown_in_three_planes_through_what_is_explained(volumes, kind):
    figure, _ = picture(volumes, kind, 0)
    # The reference is the upper half in depth: its centre is not the volume's.
    names = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert [name.split(" of ")[0] for name in names] == ["depth 2", "height 6", "width 5"]
    assert [name.split(" of ")[1] for name in names] == ["6", "12", "10"]
    rows = [axes for axes in figure.axes if axes.get_ylabel() in names]
    shown = volumes.read_image(0)
    segmentation = kind == "uncertainty"  # has no panel of the image alone
    if not segmentation:
        expected = (shown.image[1], shown.image[:, 5], shown.image[:, :, 4])
        for axes, image in zip(rows, expected, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), image)


def test_all_planes_of_a_volume_have_one_scale(volumes):
    figure, _ = picture(volumes, "heat", 0)
    maps = [axes.images[1] for axes in figure.axes if len(axes.images) == 2]
    assert len(maps) == 3
    assert len({image.get_clim() for image in maps}) == 1


@pytest.mark.parametrize("kind", [kind for kind in METAS if kind not in ("parts", "effects")])
@pytest.mark.parametrize("shape", [(40, 44), (20, 40, 44)])
def test_overlapping_classes_all_stay_visible(kind, shape):
    """Whole tumour, core and enhancing: one colour a class, whichever is explained."""
    names = ("whole tumour", "core", "enhancing")
    store = build(shape, (kind,), evil="im0", planes=nested_planes(shape), names=names)
    figure, _ = picture(store, kind, 0)
    said = [text.get_text() for axes in figure.axes for text in _legend(axes)]
    assert said == list(names)
    middle = panel(figure, "Prediction: core")
    drawn = [tuple(colour[:3]) for line in middle.collections for colour in line.get_edgecolor()]
    for index in range(3):
        assert tuple(overlays.class_colour(index, overlapping=True) / 255) in drawn
    # Only the explained class is painted: where it is not, the image is as it was.
    if len(shape) == 2:
        same = (middle.images[0].get_array() == store.read_image(0).image).all(axis=-1)
        core = nested_planes(shape)[..., 1]
        assert same[~core].all()
        assert not same[core].any()


def _legend(axes):
    legend = axes.get_legend()
    return [] if legend is None else legend.get_texts()


def test_captions_name_scores_and_a_dash_where_there_is_none(store):
    figure, _ = picture(store, "heat", 0)
    said = words(figure)
    assert "Outcome 900, of a black image -100." in said
    assert "Red: for the class; blue: against it." in said
    assert "Green: the region explained." in said
    assert "summed logits" in [axes.get_xlabel() for axes in figure.axes]
    meta = {**store.entry("heat").meta, "caption": "Gap {gap:.1f}"}
    assert "Gap –" in words(picture(store, "heat", 0, meta=meta)[0])
    missing = {**store.entry("heat").meta, "scores": {"outcome": ""}, "caption": "{outcome:.0f}!"}
    row = store.rows("effects")[0]
    known = dataclasses.replace(store.entry("effects"), meta=missing)
    assert "–!" in words(figures.draw(store.read(row), None, (), known))


def test_uncertainty_shows_every_map_of_numbers(store):
    said = words(picture(store, "uncertainty", 0)[0])
    assert "Entropy of the classes" in said
    assert "Tta disagreement" in said
    assert "Confidence 0.875, entropy 0.250" in said


def test_effects_say_what_their_sign_means(store):
    figure, _ = picture(store, "effects", 0)
    said = words(figure)
    assert "Dice in the region: 88.0 points" in said
    assert "Dice falls, so the block's own content helps" in said
    assert "33% help" in said
    assert "17% hurt" in said
    assert "change of Dice if replaced (points)" in [axes.get_xlabel() for axes in figure.axes]
    bars = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert bars[3:6] == ["−0.3 … −0.02", "no effect", "0.02 … 0.3"]


def test_effects_below_zero_are_red_and_above_blue(store):
    figure, _ = picture(store, "effects", 0)
    overlay = panel(figure, "Red: content that helps").images[0].get_array().astype(int)
    red, blue = overlay[15, 20], overlay[25, 20]
    assert red[0] > red[2] + 30
    assert blue[2] > blue[0] + 30


def test_effects_without_a_histogram_have_no_chart():
    store = build(kinds=("effects",))
    row = store.rows("effects")[0]
    stored = dataclasses.replace(store.read(row), traces={"histogram": np.full(9, np.nan)})
    figure = figures.draw(stored, None, (), store.entry("effects"))
    assert "Blocks by effect" not in words(figure)
    panels.to_png(figure)


def test_regions_show_the_region_itself_or_the_image_times_the_mask(store):
    figure, _ = picture(store, "regions", 0)
    # The levels are drawn on [0, 1], whatever their values.
    assert figure.axes[3].images[0].get_clim() == (0, 1)
    assert "3 dilations, Dice minimal 0.950" in words(figure)
    image = store.read_image(0).image
    kept = panel(figure, "What the model is shown").images[0].get_array()
    assert (kept[0, 0] == 0).all()
    np.testing.assert_array_equal(kept[20, 20], image[20, 20])
    # A mask that dims the image says how the region would do.
    stored = store.read(store.rows("regions")[0])
    row = dataclasses.replace(stored.row, scores={"dice_region": 0.9})
    stored = dataclasses.replace(stored, row=row)
    figure = figures.draw(stored, store.read_image(0), (), store.entry("regions"))
    kept = panel(figure, "What the model is shown").images[0].get_array()
    np.testing.assert_allclose(kept[20, 20], 0.7 * image[20, 20], atol=1)


@pytest.mark.parametrize("name", EXPLAINERS.names())
def test_every_method_has_a_picture_that_names_its_scores(name):
    """By what the method says of itself."""
    meta, shape = EXPLAINERS.get(name).meta, (16, 20)
    known = dataclasses.replace(entry(meta.figure, label="one"), method=name, meta={})
    stored_too = dataclasses.asdict(meta) | {"needs": sorted(meta.needs)}
    assert record.meta_of(dataclasses.replace(known, meta=stored_too)) == meta
    store = SINKS.get("memory").create_or_resume(
        "",
        entries=[known],
        plan={"one": [PlanRow(image_index=0, image_id="im", class_index=1)]},
        config={},
    )
    scores = {score: np.float32(0.5 + i) for i, score in enumerate(meta.scores)}
    found = dataclasses.replace(explanation(meta.figure, shape, Status.OK), scores=scores)
    region = np.ones(shape, bool)
    target = SegmentTarget(class_index=np.int32(1), region=region, reference=region)
    store.write("one", 0, found, target)
    figure, _ = picture(store, "one", 0)
    assert "–" not in figure.get_supxlabel()
    assert "{" not in words(figure)


def test_a_method_that_is_not_installed_has_a_picture_of_its_map(store):
    known = Entry(label="old", method="from elsewhere")
    stored, image = store.read(store.rows("heat")[0]), store.read_image(0)
    said = words(figures.draw(stored, image, (), known))
    assert "Attribution of old" in said
    assert "Red: positive; blue: negative." in said


def test_what_is_explained_is_outlined_where_it_is_not_the_whole_prediction():
    store = build(kinds=("effects", "heat"))
    assert "Explained: " in words(picture(store, "effects", 0)[0])
    # What was explained there is no prediction; `tests/facade` has a map of one.
    assert "Explained: " in words(picture(store, "heat", 0)[0])


def test_without_matplotlib(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[report\]"):
        picture(store, "regions", 0)


def test_pyplot_is_left_alone(store):
    sys.modules.pop("matplotlib.pyplot", None)
    for kind in ("heat", "effects"):
        picture(store, kind, 0)
    assert "matplotlib.pyplot" not in sys.modules


def test_two_images_never_share_a_file(tmp_path):
    names = ["a b", "a_b", "a/b"]
    rows = [PlanRow(image_index=i, image_id=name, class_index=1) for i, name in enumerate(names)]
    labels = ("one", "two")
    store = SINKS.get("memory").create_or_resume(
        "",
        entries=[Entry(label=label, method="heat") for label in labels],
        plan=dict.fromkeys(labels, rows),
        config={},
    )
    for label in labels:
        for row in range(3):
            store.fail(label, row, "no image")
    paths = list(save_figures(store, tmp_path / "figures"))
    assert len({path.name for path in paths}) == len(paths) == 6
    assert all(path.parent == tmp_path / "figures" for path in paths)
    assert paths[0].name == "a b-class 1-one.png"


def test_figures_of_a_store_on_disk_are_those_of_one_in_memory(tmp_path):
    memory = build(evil="im0")
    disk = build(evil="im0", sink="zarr", path=tmp_path / "s.zarr")
    for kind in METAS:
        np.testing.assert_array_equal(picture(memory, kind, 0)[1], picture(disk, kind, 0)[1])


def test_class_names_too_long_for_a_panel_are_cut():
    store = build(kinds=("heat",), names=("background", "a" * 80))
    image = np.zeros((40, 40, 3), np.uint8)
    store.write_image(0, StoredImage(id="im0", image=image))
    assert "a" * 17 + "…" in words(picture(store, "heat", 0)[0])
