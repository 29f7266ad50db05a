"""The right to write a store's tables, which one process has at a time."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.store.layout import prepare
from jaxseg_xai.store.leases import Lease, Leases
from jaxseg_xai.store.place import Place, io_errors

#: Of the lease, where it is one.
WRITER = "writer"


class Writer:
    """That right: by URL a lease, of a folder a lock, which who dies gives up at once."""

    def __init__(self, path: str | os.PathLike[str], leases: Leases) -> None:
        """Not yet taken."""
        self._place, self._leases = Place(path), leases
        self._held: filelock.BaseFileLock | Lease | None = None

    def take(self, *, wait: bool = False) -> bool:
        """Whether this process has it now.

        Args:
          wait: by URL, until it is known whether the process that has it lives.
        """
        if self._held is None:
            self._held = self._lease(wait) if self._place.path is None else self._lock()
        return self._held is not None

    def check(self) -> None:
        """Raise `LeaseLost` where another process may have it by now."""
        if isinstance(self._held, Lease):
            self._held.check()

    def release(self) -> None:
        """Give it up, if it was taken."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def _lease(self, wait: bool) -> Lease | None:
        if wait:
            return self._leases.wait_for(WRITER)
        return self._leases.take(WRITER, self._leases.look(WRITER).get(WRITER))

    def _lock(self) -> filelock.BaseFileLock | None:
        path = self._place.path
        assert path is not None
        with io_errors(self._place):
            path = path.resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                if not Path(lock.lock_file).exists():  # nobody has it, and nobody can
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
                return None
        return lock


def erase(path: str | os.PathLike[str], leases: Leases) -> None:
    """Delete a store (and nothing that is none) with the leases on it.

    Raises:
      ConfigError: a process writes it.
      JaxsegError: there is something else.
    """
    with sole_writer(path, leases):
        place = Place(path, writes=True)
        with io_errors(place):
            prepare(place, overwrite=True)
        leases.clear(WRITER)


@contextlib.contextmanager
def sole_writer(path: str | os.PathLike[str], leases: Leases | None = None) -> Iterator[Writer]:
    """Write a store alone, from here to the end.

    Raises:
      ConfigError: another process writes it.
    """
    writer = Writer(path, leases or Leases(path))
    if not writer.take(wait=True):
        raise ConfigError(
            f"{path}: another sweep is writing this store; wait for it, or choose another out"
        )
    try:
        yield writer
    finally:
        writer.release()
