"""A volume in a headless Chromium: three planes that belong together."""

import dataclasses

import numpy as np
import pytest

from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.report.gallery import write_report
from jaxseg_xai.store import MemoryStore, PlanRow, StoredImage
from tests.core.test_orientation import affine_of
from tests.report.browser import chromium, opened
from tests.report.demo_store import entry, explanation
from tests.report.serving import served

pytestmark = pytest.mark.slow  # a browser's start and its pages

#: The volume's own axes, and the voxels along them.
LETTERS, SHAPE = "RSA", (10, 6, 12)
#: Voxels down, to the back and to the left: what the page shows.
SHOWN = (6, 12, 10)
AFFINE = affine_of(LETTERS)  # 1.5, 2 and 0.7 mm


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def store():
    kinds = ("heat", "effects")
    plan = [PlanRow(image_index=0, image_id="scan", class_index=1)]
    attrs = {"class_names": ["background", "organ"]}
    store = MemoryStore(
        entries=[entry(kind) for kind in kinds],
        plan=dict.fromkeys(kinds, plan),
        attrs=attrs,
        rank=3,
    )
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) - 300
    image = np.broadcast_to((values[..., None] + 300) % 251, (*SHAPE, 3)).astype(np.uint8)
    region = np.zeros(SHAPE, bool)
    region[2:5, 1:4, 3:8] = True
    prediction = region.astype(np.int16)
    store.write_image(0, StoredImage(id="", image=image, prediction=prediction, affine=AFFINE))
    for kind in kinds:
        found = explanation(kind, SHAPE, Status.OK)
        found = dataclasses.replace(found, attribution=values if kind == "heat" else region * 1.0)
        target = SegmentTarget(class_index=np.int32(1), region=region, reference=region)
        store.write(kind, 0, found, target)
    return store


@pytest.fixture
def page(browser, store, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxseg_xai.report.gallery.figure_webp", lambda store, row: b"figure")
    with opened(browser, f"file://{write_report(store, tmp_path / 'r.html')}") as page:
        yield page


def places(page):
    """Which plane each picture of the first panel shows, from 0."""
    names = page.locator(".panel").first.locator(".plane").all_text_contents()
    words = [name.split() for name in names]
    assert [(word[0], int(word[-1])) for word in words] == list(
        zip(("axial", "coronal", "sagittal"), SHOWN, strict=True)
    )
    return [int(word[1]) - 1 for word in words]


def own(shown):
    """The volume's index of a voxel at (down, back, left)."""
    down, back, left = shown
    return SHAPE[0] - 1 - left, SHAPE[1] - 1 - down, SHAPE[2] - 1 - back


def place_in(page, number, column, row):
    canvas = page.locator(".picture canvas").nth(number)
    axes = [axis for axis in range(3) if axis != number % 3]
    height, width = (SHOWN[axis] for axis in axes)
    box = canvas.bounding_box()
    x, y = (column + 0.5) * box["width"] / width, (row + 0.5) * box["height"] / height
    return canvas, {"x": x, "y": y}


def said(page, panel):
    return page.locator(".panel").nth(panel).locator(".reading").text_content().strip()


def assert_at(page, shown):
    """What stands below the pictures is of this voxel."""
    voxel = own(shown)
    value = np.ravel_multi_index(voxel, SHAPE) - 300
    reading = said(page, 1).replace("−", "-").split(" (rounded")[0]
    assert float(reading) == pytest.approx(value, abs=0.006 * 420)
    where = page.locator("#pointer").text_content().replace("−", "-")
    mm = (AFFINE @ [*voxel, 1])[:3]
    named = ", ".join(f"{letter} {n:.1f}" for letter, n in zip("RAS", mm, strict=True))
    assert where == f"Voxel {', '.join(map(str, voxel))} · {named} mm"


def test_three_planes_meet_in_what_is_explained(page):
    assert page.locator(".picture canvas").count() == 3 * 3
    shown = places(page)
    assert all(
        low <= n < high for n, low, high in zip(own(shown), (2, 1, 3), (5, 4, 8), strict=True)
    )
    bars = page.locator("#planes input")
    assert [int(bar.input_value()) for bar in bars.all()] == shown
    assert page.locator("#planes label").all_text_contents() == ["axial", "coronal", "sagittal"]
    # The right is on the left and the front, or the head, above; sides go by millimetres.
    edges = page.locator(".panel").first.locator(".edge").all_text_contents()
    assert edges == ["R", "A", "R", "S", "A", "S"]
    ratios = page.evaluate("""() => [...document.querySelectorAll(".picture canvas")].slice(0, 3)
      .map(one => { const box = one.getBoundingClientRect(); return box.width / box.height; })""")
    down, back, left = 2 * 6, 0.7 * 12, 1.5 * 10
    assert ratios == pytest.approx([left / back, left / down, back / down], rel=0.02)


def test_a_scroll_bar_moves_its_plane_of_all_methods(page):
    before = places(page)
    page.locator("#planes input").nth(1).fill("11")
    assert places(page) == [before[0], 11, before[2]]
    names = page.locator(".panel").nth(2).locator(".plane").all_text_contents()
    assert names[1] == "coronal 12 of 12"
    # What is drawn is what is there: without the map and lines, the image's own grey.
    page.locator("#opacity").fill("0")
    for name in ("position", "explained class", "region", "of the method"):
        page.get_by_label(name, exact=True).uncheck()
    for number, shown in ((4, (3, 11, 7)), (1, (0, 11, 0))):
        row, column = shown[0], shown[2]
        colour = page.evaluate(
            """([number, x, y]) => {
              const canvas = document.querySelectorAll(".picture canvas")[number];
              const at = [x * canvas.width, y * canvas.height].map(Math.floor);
              return [...canvas.getContext("2d").getImageData(...at, 1, 1).data].slice(0, 3); }""",
            [number, (column + 0.5) / SHOWN[2], (row + 0.5) / SHOWN[0]],
        )
        assert colour == [np.ravel_multi_index(own(shown), SHAPE) % 251] * 3


def test_the_value_under_the_pointer_and_the_planes_that_go_there(page):
    depth, height, width = places(page)
    canvas, place = place_in(page, 3, column=2, row=9)  # axial
    canvas.hover(position=place)
    assert_at(page, (depth, 9, 2))
    assert places(page) == [depth, height, width]
    canvas.click(position=place)
    assert places(page) == [depth, 9, 2]
    canvas, place = place_in(page, 5, column=4, row=1)  # sagittal
    canvas.click(position=place)
    assert places(page) == [1, 4, 2]
    assert_at(page, (1, 4, 2))
    page.mouse.wheel(0, 100)  # over a picture that has the focus
    page.wait_for_function("document.querySelectorAll('#planes input')[2].value === '3'")
    assert places(page) == [1, 4, 3]


def test_keys_move_in_a_plane_and_through_the_planes(page):
    depth, height, width = places(page)
    page.locator(".picture canvas").nth(4).focus()  # coronal
    page.keyboard.press("ArrowLeft")
    assert places(page) == [depth, height, width - 1]
    assert_at(page, (depth, height, width - 1))
    page.keyboard.press("PageDown")
    assert places(page) == [depth, height + 1, width - 1]
    assert "heat: " in page.locator("#said").text_content()
    page.keyboard.press("Shift+PageUp")
    page.keyboard.press("Shift+ArrowDown")
    assert places(page) == [5, 0, width - 1]
    page.keyboard.press("Escape")
    assert page.locator(".picture.pointed").count() == 0
    assert page.evaluate("document.activeElement.tagName") == "CANVAS"


def test_the_server_shows_it_and_nothing_is_wider_than_a_small_window(browser, store):
    with served(lambda: store) as address, opened(browser, f"{address}/", width=400) as page:
        assert len(places(page)) == 3
        assert page.evaluate("document.documentElement.scrollWidth") == 400
