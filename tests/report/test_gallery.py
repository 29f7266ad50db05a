import json
import re
import sys
from html.parser import HTMLParser

import pytest

from jaxseg_xai.core.errors import JaxsegError, MissingExtraError
from jaxseg_xai.core.types import Status
from jaxseg_xai.report.gallery import _choose, write_report
from tests.report.demo_store import EVIL, STATUSES, build


class Page(HTMLParser):
    """Elements by name, and the text outside scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._inside = [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def store():
    return build(kinds=("regions", "effects"))


@pytest.fixture(scope="module")
def html(store, tmp_path_factory):
    return write_report(store, tmp_path_factory.mktemp("out") / "new/report.html").read_text()


def test_it_is_self_contained(html):
    page = Page(html)
    links = [
        value
        for _, attrs in page.elements
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert len(links) > len(STATUSES)
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"https?://|@import|url\(", html)


def test_names_are_escaped(html):
    page = Page(html)
    assert len(page.all("script")) == 1
    assert not any("onload" in attrs for _, attrs in page.elements)
    assert EVIL in page.text
    assert any(EVIL in attrs["alt"] for attrs in page.all("img"))


def test_filters_cards_and_alternatives(html):
    page = Page(html)
    assert {c["id"] for c in page.all("select") + page.all("input")} == {
        "label",
        "class_name",
        "status",
        "score",
        "low",
        "high",
        "sort",
    }
    assert len(page.all("label")) == 7
    cards = page.all("article")
    shown = [status for status in STATUSES if status is not Status.EMPTY_IMAGE]
    assert len(cards) == 2 * len(shown)
    assert {card["data-label"] for card in cards} == {"regions", "effects"}
    assert {card["data-status"] for card in cards} == {status.name for status in shown}
    assert json.loads(cards[0]["data-scores"])["dice_minimal"] == pytest.approx(0.95)
    assert all(attrs["alt"] for attrs in page.all("img"))


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
    text = write_report(store, tmp_path / "r.html", max_items=3).read_text()
    assert len(Page(text).all("article")) == 3
    assert "3 of 18 are shown, evenly spaced" in text
    assert "15 are left out" in " ".join(text.split())
    done = [row for row in store.rows(done_only=True) if row.status is not Status.EMPTY_IMAGE]
    chosen = [(row.label, row.number) for row in _choose(done, 2)]
    assert chosen == [("regions", 4), ("effects", 4)]
    assert _choose(done, 0) == []


def test_unwritable_report(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxsegError, match=r"r\.html: cannot write the report"):
        write_report(store, tmp_path / "file/r.html", max_items=1)


def test_without_jinja(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match="report"):
        write_report(store, tmp_path / "r.html")


def test_only_what_a_sweep_added_is_listed_as_further(tmp_path):
    for sink in ("memory", "zarr"):
        one = build(kinds=("heat",), sink=sink, path=tmp_path / "s.zarr")
        text = write_report(one, tmp_path / "r.html", max_items=0).read_text()
        assert "Further attributes" not in text
