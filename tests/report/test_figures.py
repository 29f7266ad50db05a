import io
import sys

import numpy as np
import pytest
from demo_store import STATUSES, build
from PIL import Image

from jaxseg_xai.core.errors import MissingExtraError
from jaxseg_xai.core.types import Status
from jaxseg_xai.report import figures, panels
from jaxseg_xai.report.files import save_figures
from jaxseg_xai.store.store import ExplanationStore, PlanRow


def picture(store, explainer, row):
    stored = store.read(explainer, row)
    image = store.read_image(stored.plan.image_index)
    figure = figures.draw(stored, image, store.class_names, store.parameters(explainer))
    with Image.open(io.BytesIO(panels.to_png(figure, dpi=50))) as png:
        return figure, np.asarray(png.convert("RGB"))


def words(figure):
    texts = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "center", "right")]
    return " ".join([*texts, figure.get_suptitle(), figure.get_supxlabel()])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build(tmp_path_factory.mktemp("viz") / "s")


@pytest.mark.parametrize("row", range(len(STATUSES) + 1))
@pytest.mark.parametrize("explainer", ["misure", "ate", "cam"])
def test_every_status_has_a_picture(store, explainer, row):
    """Every status, an image that was not stored, and a pending row."""
    figure, pixels = picture(store, explainer, row)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    status = STATUSES[row] if row < len(STATUSES) else None
    said = words(figure)
    if status == Status.FAILED:
        assert "corrupt" in said.replace("\n", " ")
    elif status != Status.OK:
        assert figures.common.STATUS_NOTES[status].split(":")[0] in said


@pytest.mark.parametrize("shape", [(1, 1), (2, 90), (90, 2), (37, 53), (300, 200)])
def test_every_size_has_a_picture(tmp_path, shape):
    store = build(tmp_path / "s", shape, evil="im0")
    for explainer in store.explainers:
        _, pixels = picture(store, explainer, 0)
        assert pixels.min() < 100 < pixels.max()


def test_confidence_shows_where_the_views_disagree(tmp_path):
    store = build(tmp_path / "s", explainers=("confidence",))
    said = words(picture(store, "confidence", 0)[0])
    assert "Test-time augmentation" in said
    assert "confidence 0.875, entropy 0.250" in said
    assert "disagree by 0.125" in said


def test_maps_by_gradients_say_what_they_add_up_to_and_how_fine_they_are(tmp_path):
    store = build(tmp_path / "s", explainers=("integrated_gradients", "grad_cam"))
    figure, _ = picture(store, "integrated_gradients", 0)
    said = words(figure)
    assert "Red: for the class; blue: against it." in said
    assert "segment: 900; of a black image -100" in said
    assert "but for 7." in said
    assert "summed logits" in [axes.get_xlabel() for axes in figure.axes]
    said = words(picture(store, "grad_cam", 0)[0])
    assert "Bright: matters for the class." in said
    assert "The layer has 4 x 5 pixels." in said


def test_ate_says_what_its_sign_means(store):
    figure, _ = picture(store, "ate", 0)
    said = words(figure)
    assert "Dice falls (negative ATE), so the block's own content helps" in said.replace("\n", " ")
    assert "33% help" in said
    assert "17% hurt" in said


def test_ate_paints_negative_red_and_positive_blue(store):
    figure, _ = picture(store, "ate", 0)
    overlay = figure.axes[1].images[0].get_array().astype(int)
    red, blue = overlay[15, 20], overlay[25, 20]
    assert red[0] > red[2] + 30
    assert blue[2] > blue[0] + 30


def test_misure_panels(store):
    figure, _ = picture(store, "misure", 0)
    # The levels are drawn on [0, 1], whatever their values.
    assert figure.axes[3].images[0].get_clim() == (0, 1)
    assert "3 dilations" in words(figure)
    assert "minimal 0.950" in words(figure)
    kept = figure.axes[4].images[0].get_array()
    assert (kept[0, 0] == 0).all()


def test_without_matplotlib(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[report\]"):
        picture(store, "misure", 0)


def test_pyplot_is_left_alone(store):
    sys.modules.pop("matplotlib.pyplot", None)
    picture(store, "ate", 0)
    assert "matplotlib.pyplot" not in sys.modules


def test_two_images_never_share_a_file(tmp_path):
    names = ["a b", "a_b", "a/b"]
    rows = [PlanRow(image_index=i, image_id=name, class_index=1) for i, name in enumerate(names)]
    store = ExplanationStore.create_or_resume(tmp_path / "s.zarr", plan={"cam": rows}, config={})
    for row in range(3):
        store.fail("cam", row, "no image")
    paths = list(save_figures(store, tmp_path / "figures"))
    assert len({path.name for path in paths}) == len(paths) == 3
    assert all(path.parent == tmp_path / "figures" for path in paths)
