"""A store in an object store: an S3-compatible server on this machine."""

import dataclasses
import datetime
from pathlib import Path

import pytest

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.store import MemoryStore, ZarrStore, copy_store
from jaxseg_xai.store.leases import Leases
from jaxseg_xai.store.shared import SharedStore
from jaxseg_xai.store.writer import Writer
from jaxseg_xai.sweeps.run import run_sweep
from tests import tiny
from tests.contracts.test_stores import ENTRIES, PLAN, Kind, assert_read
from tests.store.faulty_server import FaultyServer
from tests.store.test_part import fill, make, part

pytestmark = pytest.mark.slow
pytest.importorskip("obstore")
KIND = Kind("zarr", 2, planes=False)


@pytest.fixture
def server(monkeypatch):
    """A server with one empty bucket, and what makes it fail in front of it."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    front = FaultyServer(host, port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    import urllib.request

    # What an earlier server of this process held, the next one has, too.
    for path, method in (("moto-api/reset", "POST"), ("runs", "PUT")):
        request = urllib.request.Request(f"http://{host}:{port}/{path}", method=method)
        urllib.request.urlopen(request).close()
    yield front
    front.close()
    server.stop()


@pytest.fixture
def bucket(server):
    """URL of the bucket."""
    return "s3://runs"


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


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A sweep into a folder."""
    folder = tmp_path_factory.mktemp("local")
    images = tiny.write_images(folder / "images", [f"i{n}" for n in range(5)])
    model = tiny.write_model(folder / "model")
    config = tiny.sweep_config(folder / "s.zarr", model, images, explain=(Confidence(),))
    run_sweep(config, progress=False)
    return config


def assert_same_maps(url, local):
    ours, theirs = ZarrStore.open(url), ZarrStore.open(local.out)
    assert ours.damage() == []
    for one, other in zip(ours.rows(), theirs.rows(), strict=True):
        assert (ours.read(one).attribution == theirs.read(other).attribution).all()


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_fails_now_and_then(server, bucket, local):
    """Errors, dropped connections and slow answers are waited for; nothing is lost."""
    turns = {3: "error", 7: "drop", 11: "slow"}
    server.fault = lambda number, method: turns.get(number % 13, "")
    config = dataclasses.replace(local, out=Path(f"{bucket}/a.zarr"))
    assert run_sweep(config, progress=False).counts == {"confidence": {"OK": 5}}
    assert {"error", "drop", "slow"} <= set(server.met)
    assert_same_maps(f"{bucket}/a.zarr", local)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", ["error", "drop"])
def test_a_server_that_fails_for_good_in_the_middle(server, bucket, local, monkeypatch, fault):
    """One line after some tries; the same command completes when the server is back."""
    patience = {"max_retries": 2, "retry_timeout": datetime.timedelta(seconds=5)}
    monkeypatch.setattr("jaxseg_xai.store.place._RETRY", patience)
    monkeypatch.setattr("jaxseg_xai.sweeps.engine._SECONDS", 0.0)
    url = f"{bucket}/a.zarr"
    config = dataclasses.replace(local, out=Path(url), batch_size=4)
    begun = []

    def after_a_journal(number, method):
        del number, method
        return fault if begun else ""

    server.fault = after_a_journal
    flush = ZarrStore.flush

    def flushed(self):
        flush(self)
        begun.append(True)

    with monkeypatch.context() as patch:
        patch.setattr(ZarrStore, "flush", flushed)
        with pytest.raises(JaxsegError, match=r"s3://runs/a.zarr: cannot read or write"):
            run_sweep(config, progress=False)
    assert len(server.met) > 2
    server.fault = lambda number, method: ""
    pending = len(ZarrStore.open(url).pending("confidence"))
    assert run_sweep(config, progress=False).times.computed == {"confidence": pending}
    assert_same_maps(url, local)


@pytest.mark.filterwarnings("ignore")
def test_processes_share_a_store_by_url(bucket):
    url = f"{bucket}/shared.zarr"
    leases, others = Leases(url, 1000.0), Leases(url, 1000.0)
    leases.check_place()
    writer = Writer(url, leases)
    assert writer.take()
    assert not Writer(url, others).take()
    store = make(url, of=SharedStore)
    store.check_writer = writer.check
    first = leases.take("0")
    assert others.take("0", others.look()["0"]) is None
    first.release()
    one = part(url, others)
    fill(one, range(4))
    assert ZarrStore.open(url).counts()["parts"] == {"FAILED": 4}
    one.close()
    assert store.adopt("0", range(4))
    store.close()
    leases.clear("writer")
    assert others.look().keys() == {"writer"}
    writer.release()
    assert Writer(url, others).take()
    seen = ZarrStore.open(url)
    assert seen.damage() == []
    assert_read(seen.read(seen.rows("ate8")[3]), KIND.explanation(3), KIND.target(3))


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr("jaxseg_xai.store.place._RETRY", {"max_retries": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(JaxsegError, match=r"s3://runs/a.zarr: cannot read or write"):
        ZarrStore.open("s3://runs/a.zarr")
