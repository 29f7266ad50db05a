"""The gallery in a headless Chromium: a file, and the same page from a server."""

import dataclasses
import json

import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.report.gallery import write_report
from jaxseg_xai.store import MemoryStore, PlanRow, StoredImage
from tests.report.browser import chromium, opened
from tests.report.demo_store import EVIL, build, entry, explanation
from tests.report.serving import served

pytestmark = pytest.mark.slow  # a browser's start and its pages

LONG = "a-name-without-any-place-to-break-it-" + "0" * 80
NUM = 5


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def wide_store():
    """Five images of 24 x 32 with four methods, many scores, and awkward names."""
    kinds = {"heat": "heat", "effects": "effects", LONG.replace("-", "_"): "regions", "two": "heat"}
    plan = [
        PlanRow(image_index=i, image_id=(EVIL, LONG)[i] if i < 2 else f"im{i}", class_index=1)
        for i in range(NUM)
    ]
    entries = [dataclasses.replace(entry(kind), label=label) for label, kind in kinds.items()]
    store = MemoryStore(
        entries=entries,
        plan=dict.fromkeys(kinds, plan),
        attrs={"class_names": ["background", f"class with {LONG}"]},
    )
    shape = (24, 32)
    region = np.zeros(shape, bool)
    region[4:20, 4:28] = True
    for i in range(NUM):
        image = np.full((*shape, 1), 10, np.uint8)  # dark
        prediction = region.astype(np.int16)
        labels = np.roll(prediction, 2, axis=0)
        store.write_image(i, StoredImage(id="", image=image, prediction=prediction, labels=labels))
        for label, kind in kinds.items():
            found = explanation(kind, shape, Status.OK)
            scores = {f"score_{k}_of_a_metric": np.float32(k) for k in range(20)}
            scores |= found.scores | {"order": np.float32([3, 1, 4, 1.5, 5][i])}
            found = dataclasses.replace(found, scores=scores)
            target = SegmentTarget(class_index=np.int32(1), region=region, reference=region)
            store.write(label, i, found, target)
    return store


@pytest.fixture(scope="module")
def store():
    return wide_store()


@pytest.fixture(scope="module")
def path(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:  # the server draws one that is looked at
        patch.setattr("jaxseg_xai.report.gallery.figure_webp", lambda store, row: b"figure")
        return f"file://{write_report(store, out)}"


@pytest.fixture
def page(browser, path):
    with opened(browser, path) as page:
        yield page


def names(page):
    return page.locator("#cases .name").all_text_contents()


def readings(page):
    return [text.strip() for text in page.locator(".reading").all_text_contents()]


def point(page, column, row, number=2, shape=(24, 32)):
    """Move the mouse over a pixel of picture `number`."""
    canvas = page.locator(".picture canvas").nth(number)
    box = canvas.bounding_box()
    x, y = (column + 0.5) * box["width"] / shape[1], (row + 0.5) * box["height"] / shape[0]
    canvas.hover(position={"x": x, "y": y})


def pixel(page, column, row, number=2, shape=(24, 32)):
    """Colour of the middle of a pixel of picture `number`."""
    script = """([number, x, y]) => {
      const canvas = document.querySelectorAll(".picture canvas")[number];
      const at = [x * canvas.width, y * canvas.height].map(Math.floor);
      return [...canvas.getContext("2d").getImageData(...at, 1, 1).data].slice(0, 3);
    }"""
    return page.evaluate(script, [number, (column + 0.5) / shape[1], (row + 0.5) / shape[0]])


def test_names_are_text(page):
    assert page.locator("#case_title").text_content().startswith(f"{EVIL}, class with")
    assert names(page) == [EVIL, LONG, "im2", "im3", "im4"]


def test_the_value_under_the_pointer_stands_below_every_picture(page):
    point(page, 15, 8)
    image, heat, effects, regions, _ = readings(page)
    assert image.startswith("predicted: class with")
    assert heat == "−2"
    assert effects == "−2 ± 0.5 (95% interval), significant"
    assert regions == "0.7, sufficient region, minimal region, masked prediction"
    assert page.locator("#pointer").text_content() == "Row 8, column 15"
    assert page.locator(".picture.pointed").count() == 5
    point(page, 15, 14)
    assert readings(page)[2] == "1 ± 0.5 (95% interval)"
    point(page, 0, 0)
    assert readings(page)[1:4] == ["0", "0", "0"]


def test_rounded_values_say_so(browser, tmp_path):
    store = build(kinds=("heat",))
    stored = store.read(store.rows("heat")[0])
    noise = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    store._found["heat", 0] = dataclasses.replace(stored, attribution=noise)
    out = write_report(store, tmp_path / "r.html", max_items=9)
    with opened(browser, f"file://{out}") as page:
        point(page, 7, 5, number=1, shape=(40, 40))
        said = readings(page)[1]
        value, error = said.replace("−", "-").removesuffix(")").split(" (rounded, within ")
        assert abs(float(value) - noise[5, 7]) <= 1.1 * float(error) + 0.005
        assert 0 < float(error) < 0.01 * np.abs(noise).max()


def test_opacity_and_outlines(page):
    inside = pixel(page, 15, 8)
    assert inside[0] > inside[2] + 50  # red: the outcome falls
    slider = page.locator("#opacity")
    slider.fill("0")
    assert pixel(page, 15, 8) == [10, 10, 10]
    slider.fill("100")
    assert pixel(page, 15, 8)[0] > inside[0]
    assert pixel(page, 1, 1) == [10, 10, 10]  # no effect, no colour
    # Below the explained region its outline is drawn on the image, unless it is switched off.
    count = "() => new Set(document.querySelector('.picture canvas').getContext('2d')"
    count += ".getImageData(0, 0, 640, 480).data).size"
    drawn = page.evaluate(count)
    for name in ("explained class", "truth", "region", "of the method"):
        page.get_by_label(name, exact=True).uncheck()
    assert page.evaluate(count) == 2 < drawn  # the image's value, and opaque
    assert page.locator("#panels .legend li:visible").count() == 0


def test_cases_are_sorted_by_any_score_and_filtered(page):
    page.locator("#score").select_option(json.dumps(["two", "order"], separators=(",", ":")))
    page.locator("#sort").select_option("up")
    assert page.locator("#cases .value").all_text_contents() == ["1", "1.5", "3", "4", "5"]
    assert names(page) == [LONG, "im3", EVIL, "im2", "im4"]
    page.locator("#sort").select_option("down")
    page.locator("#high").fill("3.5")
    assert names(page) == [EVIL, "im3", LONG]
    page.locator("#search").fill("IM")
    assert names(page) == ["im3"]
    assert page.locator("#case_title").text_content().startswith("im3, ")
    assert page.locator("#shown").text_content() == "1 of 5 cases"
    page.locator("#search").fill("nothing")
    assert names(page) == []
    page.get_by_role("button", name="Reset").click()
    page.locator("#cases li").nth(NUM - 1).wait_for()


def test_keys_go_through_the_cases_and_move_the_pointer(page):
    def shown(number):
        page.wait_for_selector(f"body[data-shown='{number}']")
        assert page.locator("#cases [aria-current]").get_attribute("data-number") == str(number)

    for key, number in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 4)]:
        page.keyboard.press(key)
        shown(number)
    page.keyboard.press("ArrowRight")  # there is no further one
    page.keyboard.press("Home")
    shown(0)
    assert page.url.endswith("#0")
    page.locator("#cases button").first.focus()
    page.keyboard.press("ArrowDown")
    shown(1)
    assert page.evaluate("document.activeElement.dataset.number") == "1"
    # In a picture the arrows move the pointer, and what is there is said aloud.
    page.locator(".picture canvas").nth(2).focus()
    page.keyboard.press("ArrowUp")
    assert page.locator("#pointer").text_content() == "Row 11, column 16"
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#pointer").text_content() == "Row 11, column 26"
    page.keyboard.press("ArrowLeft")
    assert "effects: 0" in page.locator("#said").text_content()
    shown(1)
    page.keyboard.press("Escape")
    assert page.locator(".picture.pointed").count() == 0


def test_the_tab_key_reaches_everything_in_order(page):
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("""() => { const at = document.activeElement;
              return at.id || at.value || at.tagName; }""")
        )
    order = ["search", "class_name", "status", "score", "next", "opacity", "size", "class"]
    assert [name for name in reached if name in order] == order
    assert reached.count("CANVAS") >= 4


def test_every_control_and_picture_has_a_name(page):
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    nameless = page.evaluate("""() =>
      [...document.querySelectorAll("input, select, button, canvas, img")]
      .filter(one => !(one.labels?.length || one.textContent.trim() || one.ariaLabel))
      .filter(one => !(one.alt || one.ariaHidden)).map(one => one.outerHTML)""")
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_have_contrast(browser, path, scheme):
    """4.5 to 1 for words, 3 to 1 for lines of curves and borders of controls (WCAG 2.1 AA)."""
    with opened(browser, path, color_scheme=scheme) as page:
        script = "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"

        def luminance(name):
            page.evaluate("name => { document.body.style.color = `var(${name})`; }", name)
            colour = page.evaluate("getComputedStyle(document.body).color")
            parts = np.array([int(part) / 255 for part in colour[4:-1].split(",")])
            linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
            return linear @ [0.2126, 0.7152, 0.0722]

        assert page.evaluate(script, "--text")
        for ground in map(luminance, ("--back", "--card")):
            for name in ("--text", "--soft", "--accent", "--bad", "--good"):
                pair = sorted([luminance(name), ground])
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, name
            for name in ("--control", *(f"--c{k}" for k in range(6))):
                pair = sorted([luminance(name), ground])
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 3, name


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(browser, path, width):
    with opened(browser, path, width=width) as page:
        for number in range(2):
            page.evaluate(
                "document.querySelectorAll('details').forEach(one => { one.open = true; })"
            )
            assert page.evaluate("document.documentElement.scrollWidth") == width
            boxes = [one.bounding_box() for one in page.locator(".panel").all()]
            assert len(boxes) == 6  # the image, four methods, a chart
            assert min(box["width"] for box in boxes) > 200
            page.keyboard.press("ArrowRight")
            page.wait_for_selector(f"body[data-shown='{number + 1}']")


def test_curves_of_all_methods_are_in_one_chart(page):
    (chart,) = page.locator(".chart").all()
    said = "deletion: heat from 1 to 0.25; two from 1 to 0.25"
    assert chart.get_attribute("aria-label") == said
    page.locator("#methods summary").click()
    page.locator("#methods").get_by_label("two").uncheck()
    assert page.locator(".chart").get_attribute("aria-label") == "deletion: heat from 1 to 0.25"
    assert page.locator(".picture canvas").count() == 4


def test_the_server_shows_the_same_page(browser, store, monkeypatch):
    with served(lambda: store) as address, opened(browser, f"{address}/#2") as page:
        assert page.locator("#case_title").text_content().startswith("im2, ")
        point(page, 15, 8)
        assert readings(page)[2] == "−2 ± 0.5 (95% interval), significant"
        page.locator(".figure summary").nth(1).click()
        loaded = "one => one.decode().then(() => one.naturalWidth)"
        assert page.locator(".figure img").evaluate(loaded) > 400

        def gone(*_, **__):
            raise DataError("the store is gone; open another")

        monkeypatch.setattr("jaxseg_xai.report.serve.case_json", gone)
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#message:not([hidden])")
        said = page.locator("#message").text_content()
        assert said == "This case cannot be shown: the store is gone; open another"
