"""One of many processes that explain a sweep together; nobody tells them what to do.

The images are cut into parts, the same whatever the number of workers. A worker leases a part,
explains it into journals of that part, says that it is done, and takes the next. One worker at a
time has the right to write the store: it brings what is done into shards, and the end is its work.
Whatever a worker does, another goes on with when it dies, after the lease of a part has expired or
the system has given the right to write to the next.
"""

import logging
import math
import random
import time
import uuid
from collections.abc import Iterable

from jaxseg_xai.core.version import VERSION
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.layout import is_store
from jaxseg_xai.store.leases import LeaseLost, Leases, Seen
from jaxseg_xai.store.part import Part
from jaxseg_xai.store.shared import SharedStore
from jaxseg_xai.store.writer import WRITER, Writer
from jaxseg_xai.sweeps.config import SweepConfig
from jaxseg_xai.sweeps.engine import Engine
from jaxseg_xai.sweeps.stored import entry_of, join_store, open_store, times_of
from jaxseg_xai.sweeps.times import Times
from jaxseg_xai.sweeps.work import Work

#: Parts at most: every worker looks at the list of all leases now and then.
_MOST_PARTS = 4096
#: Batches of a part where there are many, and the number of parts that is many.
_BATCHES, _MANY = 8, 64
#: Root attribute of a store.
_IMAGES_PER_PART = "images_per_part"
#: The share of a worker's time in which it looks at all leases: there may be thousands.
_LOOKING = 0.05
#: Pauses after which a worker that cannot begin says so.
_SAY_SO = 10
_log = logging.getLogger(__name__)


def images_per_part(num_images: int, num_classes: int, batch_size: int) -> int:
    """How many images a part has: whole batches of every method.

    >>> [images_per_part(n, 1, 8) for n in (20, 512, 2000, 100_000)]
    [8, 8, 24, 64]
    """
    batch = batch_size // math.gcd(batch_size, num_classes)
    batches = math.ceil(num_images / batch)
    most = math.ceil(batches / _MOST_PARTS)
    return batch * max(1, min(_BATCHES, batches // _MANY), most)


class Worker:
    """This process's share of a sweep."""

    def __init__(self, work: Work, config: SweepConfig, leases: Leases) -> None:
        """Prepare.

        Args:
          work: the sweep, checked.
          config: where it goes and what identifies it.
          leases: of the sweep.
        """
        leases.check_place()
        self._work, self._config, self._leases = work, config, leases
        self._writer, self._pause = Writer(config.out, leases), min(1.0, leases.expiry / 8)
        self._run = uuid.uuid4().hex
        #: What is known of the parts that were taken, and when to look again.
        self._seen: dict[str, Seen] = {}
        self._next_look = 0.0
        #: The store, as long as this process may write it, and the parts that it took over.
        self._store: SharedStore | None = None
        self._adopted: set[str] = set()

    def run(self) -> Times:
        """Work until the sweep is finished, by whomever."""
        try:
            self._join()
            while not self._is_finished():
                pass
        finally:
            self._writer.release()
        return self._engine.times

    def _join(self) -> None:
        """Make the store or continue it, or wait until another process has."""
        out, waited = self._config.out, 0
        while not self._may_write() and not (self._leases.shared and is_store(out)):
            waited += 1
            if waited == _SAY_SO:
                _log.warning(f"{out}: another process writes this store; waiting for it")
            time.sleep(self._pause)
        if self._store is None:
            self._pools = join_store(self._work, self._config)
        store = self._store or ZarrStore.open(out)
        retry = self._config.retry_failed
        self._engine = Engine(self._work, store, self._pools, retry_failed=retry, progress=False)
        self._size: int = store.attrs[_IMAGES_PER_PART]
        self._todo = {str(position // self._size) for position in self._engine.pending()}

    def _may_write(self) -> bool:
        """Whether this process has the right to write the store, which it takes if it can."""
        if self._store is None and self._writer.take():
            if not (self._leases.shared and is_store(self._config.out)):
                # What one left who came when the sweep was over would pass for parts of this one.
                self._leases.clear(WRITER)
            store, self._pools = open_store(
                # Others may be at the sweep as it was.
                self._work,
                self._config,
                SharedStore,
                strict=self._leases.shared,
            )
            store.check_writer = self._writer.check
            if _IMAGES_PER_PART not in store.attrs:
                work = self._work
                size = images_per_part(len(work.chosen), len(work.classes), work.batch_size)
                store.set_attribute(_IMAGES_PER_PART, size)
            self._store, self._adopted = store, set()
            self._leases.share()
        return self._store is not None

    def _is_finished(self) -> bool:
        """Do one thing: explain a part, take over what others explained, or wait."""
        if self._store is None and not self._leases.shared:
            return True  # another process brought it to its end
        self._look()
        seen = self._seen
        names = self._todo | seen.keys()
        todo = [name for name in names if name not in seen or not seen[name].done]
        free = [name for name in todo if name not in seen or seen[name].free]
        if free:
            self._explain(random.choice(free))
        new = {name for name, one in seen.items() if one.done} - self._adopted
        try:
            if self._may_write():
                self._adopt(new)
                if not todo and self._adopted >= names:
                    self._finish()
                    return True
        except LeaseLost:
            self._store = None
            self._writer.release()
        if not free:
            time.sleep(self._pause)
        return False

    def _look(self) -> None:
        """See what others did, unless that was a short time ago."""
        start = time.monotonic()
        if start >= self._next_look:
            seen = self._leases.look()
            self._seen = {name: one for name, one in seen.items() if name.isdecimal()}
            end = time.monotonic()
            wait = min((end - start) / _LOOKING, self._leases.expiry / 4)
            self._next_look = end + wait

    def _leave(self, name: str) -> None:
        """Let a part be until the next look."""
        number = self._seen[name].number if name in self._seen else 0
        self._seen[name] = Seen(number=number, free=False, done=False)

    def _explain(self, name: str) -> None:
        lease = self._leases.take(name, self._seen.get(name))
        self._leave(name)
        if lease is None:
            return
        try:
            part = Part(
                self._config.out,
                name,
                lease,
                settings={job.label: entry_of(self._work, job).settings for job in self._work.jobs},
                run=self._run,
                version=VERSION,
            )
            self._engine.run(part, self._images_of(name))
            part.close()
        except LeaseLost:
            _log.warning(
                f"{self._config.out}: this process was silent for too long and gives up part "
                f"{name}, of which what was written is kept"
            )
        finally:
            lease.release()

    def _adopt(self, names: Iterable[str]) -> None:
        """Take over parts that are done into the store; what is not whole is to be done again."""
        assert self._store is not None
        for name in names:
            self._writer.check()
            if self._store.adopt(name, self._images_of(name)):
                self._adopted.add(name)
            else:
                self._leases.undo(name)
                self._leave(name)
        self._store.flush()

    def _finish(self) -> None:
        assert self._store is not None
        self._writer.check()
        self._store.set_attribute("times", times_of(self._store))
        self._store.close()
        self._leases.clear(WRITER)

    def _images_of(self, name: str) -> range:
        return range(int(name) * self._size, (int(name) + 1) * self._size)
