"""A store in an object store: an S3-compatible server on this machine."""

import pytest

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.store import MemoryStore, ZarrStore, copy_store
from tests.contracts.test_stores import ENTRIES, PLAN, Kind, assert_read

pytestmark = pytest.mark.slow
pytest.importorskip("obstore")
KIND = Kind("zarr", 2, planes=False)


@pytest.fixture
def bucket(monkeypatch):
    """URL of an empty bucket."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    import urllib.request

    request = urllib.request.Request(f"http://{host}:{port}/runs", method="PUT")
    urllib.request.urlopen(request).close()
    yield "s3://runs"
    server.stop()


@pytest.mark.filterwarnings("ignore")
def test_a_store_by_url(bucket, tmp_path):
    url = f"{bucket}/a.zarr"
    with pytest.raises(JaxsegError, match=r"s3://runs/a.zarr does not exist"):
        ZarrStore.open(url)
    store = KIND.store(url)
    store.write_image(1, KIND.image(1))
    store.write("ate8", 1, KIND.explanation(1), KIND.target(1))
    store.flush()
    seen = ZarrStore.open(url)  # from the journal
    assert_read(seen.read(seen.rows("ate8")[1]), KIND.explanation(1), KIND.target(1))
    again = KIND.store(url)
    assert again.pending("ate8").tolist() == [0, 2]
    again.write("ate8", 0, KIND.explanation(0), KIND.target(0))
    again.fail("ate16", 0, "no such file")
    again.close()
    seen = ZarrStore.open(url)
    assert seen.damage() == []
    for row in range(2):
        assert_read(seen.read(seen.rows("ate8")[row]), KIND.explanation(row), KIND.target(row))
    assert (seen.read_image(1).labels == KIND.image(1).labels).all()
    memory = MemoryStore(entries=ENTRIES, plan=PLAN)
    memory.write("ate8", 2, KIND.explanation(2), KIND.target(2))
    copied = copy_store(memory, f"{bucket}/b.zarr")
    assert copied.counts()["ate8"] == {"OK": 1, "PENDING": 2}
    fresh = KIND.store(url, overwrite=True)
    assert len(fresh.pending("ate8")) == 3


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr("jaxseg_xai.store.place._RETRY", {"max_retries": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(JaxsegError, match=r"s3://runs/a.zarr: cannot read or write"):
        ZarrStore.open("s3://runs/a.zarr")
