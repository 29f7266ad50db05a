import io
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from PIL import Image

from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.report.serve import serve
from tests.report.demo_store import build
from tests.report.serving import served
from tests.report.test_gallery import Page


@pytest.fixture(scope="module")
def store():
    return build(kinds=("heat", "effects"))


@pytest.fixture(scope="module")
def address(store):
    with served(lambda: store) as address:
        yield address


def get(address, host=None):
    request = urllib.request.Request(address, headers={} if host is None else {"Host": host})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def refusal(address, host=None):
    with pytest.raises(urllib.error.HTTPError) as found:
        get(address, host)
    with found.value as error:
        return error.code, error.read().decode()


def test_the_page_lists_all_cases_and_holds_none(address):
    page = Page(get(f"{address}/").decode())
    assert set(page.data) == {"index"}
    assert len(page.data["index"]["images"]) == 9
    assert "18 explanations of 9 cases" in page.text


def test_cases_and_figures_are_made_when_they_are_asked_for(address):
    known = json.loads(get(f"{address}/cases/0"))
    assert [one["label"] for one in known["explanations"]] == ["heat", "effects"]
    assert known["explanations"][1]["figure"] == "figures/effects/0"
    with Image.open(io.BytesIO(get(f"{address}/figures/effects/0"))) as figure:
        assert figure.format == "WEBP"
        assert figure.width > 400


@pytest.mark.parametrize("path", ["cases/9", "figures/heat/99", "figures/nothing/0", "store", "."])
def test_what_is_not_there_is_not_found(address, path):
    if path == ".":
        assert refusal(f"{address}/../../etc/passwd")[0] == 404
    else:
        assert refusal(f"{address}/{path}")[0] == 404


def test_a_name_that_leads_here_from_elsewhere_is_refused(address):
    assert refusal(f"{address}/", "attacker.example")[0] == 400
    assert get(f"{address}/", "localhost:1234")


def test_damaged_rows_are_said(store, address, monkeypatch):
    def broken(row):
        raise DataError("row 0 of heat is damaged; run the sweep again")

    monkeypatch.setattr(store, "read", broken)
    assert refusal(f"{address}/figures/heat/0") == (
        500,
        "row 0 of heat is damaged; run the sweep again",
    )


def test_a_sweep_that_goes_on_is_seen_after_a_reload():
    stores = iter([build(kinds=("heat",)), build(kinds=("heat", "effects"))])
    with served(lambda: next(stores)) as address:
        assert "18 explanations" in get(f"{address}/").decode()


def test_nothing_listens_where_something_does(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port}.*choose another"):
            serve(lambda: store, port=port)
    with pytest.raises(ConfigError, match=r"cannot listen at nowhere\.invalid"):
        serve(lambda: store, host="nowhere.invalid")


@pytest.mark.parametrize("library", ["uvicorn", "starlette.applications"])
def test_without_the_extra(store, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[serve\]"):
        serve(lambda: store, port=0)


@pytest.mark.slow
def test_the_command_says_its_address_and_ends_when_interrupted(tmp_path):
    build(kinds=("heat",), sink="zarr", path=tmp_path / "s.zarr")
    command = [sys.executable, "-m", "jaxseg_xai", "serve", str(tmp_path / "s.zarr"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        line = run.stdout.readline().decode()
        assert line.endswith("/ (Ctrl+C ends it)\n")
        assert "9 explanations of 9 cases" in get(line.split()[0]).decode()
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 0
    assert errors == b""
