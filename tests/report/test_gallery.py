import dataclasses
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError, JaxsegError, MissingExtraError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.report import gallery
from jaxseg_xai.report.case_page import Limits, case_json
from jaxseg_xai.report.cases import cases_of, choose
from jaxseg_xai.report.gallery import IN_FILE, write_report
from jaxseg_xai.store import MemoryStore, PlanRow, StoredImage
from tests.report.demo_store import EVIL, STATUSES, build, entry


class Page(HTMLParser):
    """Elements by name, the text outside scripts and styles, and scripts of JSON by their id."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.data, self._inside = [], "", {}, ("", {})
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._inside = tag, dict(attrs)
        self.elements.append(self._inside)

    def handle_data(self, data):
        tag, attrs = self._inside
        if attrs.get("type") == "application/json" and data.strip():
            self.data[attrs["id"]] = json.loads(data)
        if tag not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag):
        self._inside = "", {}

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def store():
    return build(kinds=("regions", "effects"))


@pytest.fixture(scope="module")
def html(store, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # figures have tests of their own
        patch.setattr(gallery, "figure_webp", lambda store, row: b"figure")
        return write_report(store, tmp_path_factory.mktemp("out") / "new/report.html").read_text()


def cases(store):
    return cases_of(store.rows(), store.class_names)


def test_it_is_self_contained(html):
    page = Page(html)
    links = [
        value
        for _, attrs in page.elements
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "default-src 'none'" in page.all("meta")[2]["content"]
    # What JavaScript may load is there, too.
    for name, known in page.data.items():
        if name != "index":
            addresses = [known["place"]["picture"]]
            addresses += [one["figure"] for one in known["explanations"]]
            assert all(address.startswith("data:image/webp;base64,") for address in addresses)
    assert set(re.findall(r"https?://[^\"'\s]*", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(", html)


def test_names_are_escaped(html):
    page = Page(html)
    assert len(page.all("script")) == 1 + len(page.data)
    assert not any("onload" in attrs for _, attrs in page.elements)
    assert EVIL in page.data["index"]["images"]
    assert page.data["case-0"]["image"] == EVIL
    assert EVIL in page.text


def test_the_list_has_every_score_and_status(html):
    index = Page(html).data["index"]
    shown = [status for status in STATUSES if status is not Status.EMPTY_IMAGE]
    assert len(index["images"]) == len(shown)
    assert [label["name"] for label in index["labels"]] == ["regions", "effects"]
    for label in index["labels"]:
        assert label["case"] == list(range(len(shown)))
        assert label["status"] == [status.name for status in shown]
        assert all(len(values) == len(shown) for values in label["scores"].values())
    assert index["labels"][0]["scores"]["dice_minimal"][0] == pytest.approx(0.95)
    assert index["labels"][1]["meanings"] == {"base_dice": "Dice of the image"}


def test_methods_stand_side_by_side(html):
    found = Page(html).data["case-0"]
    regions, effects = found["explanations"]
    assert (regions["label"], effects["label"]) == ("regions", "effects")
    assert effects["place"]["interval"] == {"map": "half_width", "words": "95% interval"}
    assert set(effects["place"]["maps"]) == {"attribution", "half_width"}
    kinds = {one["name"]: one["kind"] for one in regions["place"]["outlines"]}
    assert kinds["sufficient region"] == "method"
    assert kinds["region explained"] == "explained"
    assert found["place"]["shape"] == [40, 40]
    # Red is where an effect is negative: the first colour of the scale.
    assert effects["place"]["maps"]["attribution"]["colours"] == "RdBu"


def test_what_has_no_result_says_why(html):
    data = Page(html).data
    failed = [one for name in data if name != "index" for one in data[name]["explanations"]]
    for one in failed:
        if one["status"] not in ("OK", "NOT_REACHED"):
            assert one["warning"]
            assert not one["place"]["maps"]


def test_summary_and_failures(html):
    text = " ".join(Page(html).text.split())
    assert "2 OK" in text
    assert "1 EMPTY_IMAGE" in text
    assert "1 PENDING" in text
    assert "Failed (2)" in text
    assert "is corrupt" in text
    assert "Seed 7 · jax 0.1" in text
    assert "Computed by monday (version 1.2.3): 20" in text
    assert "effects (a effects method)" in text
    assert "left out" not in text


def test_a_long_sweep_is_thinned_evenly(store, tmp_path):
    page = Page(write_report(store, tmp_path / "r.html", max_items=3).read_text())
    assert set(page.data) == {"index", "case-0"}
    assert "2 of 18 are shown, evenly spaced" in page.text
    assert "16 are left out" in page.text
    found = cases(store)
    places = {case.image_id: place for place, case in enumerate(found)}
    assert [places[case.image_id] for case in choose(found, 6)] == [1, 4, 7]
    assert choose(found, 1)[0].rows == found[4].rows[:1]
    assert choose(found, 0) == []
    assert choose([], 5) == []


def test_a_large_image_is_reduced_in_a_file():
    side = 2 * IN_FILE.longest + 10
    plan = [PlanRow(image_index=0, image_id="large", class_index=1)]
    store = MemoryStore(entries=[entry("heat")], plan={"heat": plan})
    region = np.zeros((side, 30), bool)
    region[:20] = True
    ramp = np.arange(side * 30, dtype=np.float32).reshape(side, 30)
    explained = Explanation(attribution=ramp, status=np.int32(0), maps={}, scores={}, traces={})
    target = SegmentTarget(class_index=np.int32(1), region=region, reference=region)
    store.write("heat", 0, explained, target)
    store.write_image(0, StoredImage(id="", image=np.full((side, 30, 1), 7, np.uint8)))
    place = case_json(store, cases(store)[0], limits=IN_FILE, figure=str)["place"]
    assert place["factors"] == [3, 3]
    assert place["shape"] == [216, 10]
    limits = Limits(longest=1000, voxels=1)
    place = case_json(store, cases(store)[0], limits=limits, figure=str)["place"]
    assert place["shape"] == [650, 30]


def test_an_explanation_that_cannot_be_read_is_said_and_the_others_shown(store, monkeypatch):
    read = store.read

    def broken(row):
        if row.label == "regions":
            raise DataError("row 0 is damaged; run the sweep again")
        return read(row)

    monkeypatch.setattr(store, "read", broken)
    known = case_json(store, cases(store)[0], limits=IN_FILE, figure=str)
    assert known["explanations"][0]["error"] == "row 0 is damaged; run the sweep again"
    assert known["explanations"][1]["place"]["maps"]


def test_an_image_with_nothing_stored_has_no_planes_of_nothing(store):
    row = dataclasses.replace(cases(store)[0].rows[0], image_index=10, number=10)
    case = dataclasses.replace(cases(store)[0], rows=[row])
    known = case_json(store, case, limits=IN_FILE, figure=str)
    assert known["explanations"][0]["place"]["maps"] == {}


def test_unwritable_report(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxsegError, match=r"r\.html: cannot write the report"):
        write_report(store, tmp_path / "file/r.html", max_items=1)


def test_without_jinja(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match="report"):
        write_report(store, tmp_path / "r.html", max_items=0)


def test_only_what_a_sweep_added_is_listed_as_further(tmp_path):
    for sink in ("memory", "zarr"):
        one = build(kinds=("heat",), sink=sink, path=tmp_path / "s.zarr")
        text = write_report(one, tmp_path / "r.html", max_items=0).read_text()
        assert "Further attributes" not in text
