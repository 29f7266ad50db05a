"""Who works at what, among processes that know of each other only what stands in a folder.

    .liver.zarr.leases/     beside the store
        shared              there is a sweep that may be joined
        7/1                 part 7 was leased for the first time,
        7/2                 and again after its holder was silent: the highest number counts
        3/done              part 3 is done

A file that is not there is created by one process only; its holder alone rewrites it, four times in
`expiry` seconds. Who has watched one that did not change for `expiry` seconds creates the next
number. What is compared is whether the time, size or tag of a file changes, and seconds of one's
own clock: the clocks of two machines never meet. A holder that could not rewrite its file for three
quarters of that time (it was stopped, or cut off) gives up before others may take over.
"""

import contextlib
import dataclasses
import socket
import threading
import time
import uuid
from os import PathLike, getpid
from os.path import abspath
from typing import Any

from jaxseg_xai.core.errors import ConfigError, JaxsegError, MissingExtraError, reason_of
from jaxseg_xai.store.place import Place, io_errors, url_of

#: Seconds after which a silent holder is taken for dead, where nobody says otherwise.
EXPIRY = 60.0
_DONE, _SHARED = "done", "shared"
#: A process that clears the place may remove a probe.
_TRIES = 3


class LeaseLost(JaxsegError):
    """The holder was silent for too long: another may have taken over."""


class Lease:
    """What this process has and no other, renewed in a thread of its own."""

    def __init__(self, place: Place, key: str, expiry: float, since: float) -> None:
        self._place, self._key, self._expiry, self._renewed = place, key, expiry, since
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `LeaseLost` where it could not be renewed in time."""
        if _now() - self._renewed > 0.75 * self._expiry:
            raise LeaseLost(
                f"{self._place}: this process was silent for longer than a lease lasts, and "
                "another may go on with its work; run again to continue"
            )

    def finish(self) -> None:
        """Say that it is done; nobody takes it again."""
        self._end()
        self.check()
        self._place.write(f"{self._key.rpartition('/')[0]}/{_DONE}", b"1")

    def release(self) -> None:
        """Give it up, where it is not over yet: others may take it at once."""
        if not self._over.is_set():
            self._end()
            # Where it cannot be given up, it ends by itself; what failed before is worth more.
            with contextlib.suppress(Exception):
                self.check()
                self._place.write(self._key, b"")

    def _end(self) -> None:
        self._over.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(self._expiry / 4):
            start = _now()
            # What fails is tried again, until it is too late.
            with contextlib.suppress(Exception):
                self.check()
                self._place.write(self._key, _about_me())
                self._renewed = start


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is known of a lease that was taken at least once.

    Attributes:
      number: how often.
      free: whether it may be taken: it was given up, or its holder is silent.
      done: whether it is over.
    """

    number: int
    free: bool
    done: bool


class Leases:
    """The leases of a sweep, as one of its processes sees them."""

    def __init__(self, path: str | PathLike[str], expiry: float = EXPIRY) -> None:
        """Look at the leases of the store at `path`; silent for `expiry` seconds means dead."""
        self.place = Place(_beside(path), writes=True)
        self.expiry = expiry
        #: Name -> what its newest file was like, and since when it is so.
        self._watched: dict[str, tuple[Any, float]] = {}

    def look(self, name: str = "") -> dict[str, Seen]:
        """Name -> what is known of it, of all that were taken, or of that one only."""
        now = _now()
        newest: dict[str, tuple[int, Any]] = {}
        done: set[str] = set()
        with io_errors(self.place):
            files = self.place.stamps(name)
        for key, stamp in files.items():
            name, _, number = key.rpartition("/")
            if number == _DONE:
                done.add(name)
            elif number.isdecimal():
                known = newest.get(name, (0, None))
                newest[name] = (int(number), stamp) if int(number) > known[0] else known
        for name, state in newest.items():
            if self._watched.get(name, (None,))[0] != state:
                self._watched[name] = state, now
        return {
            name: Seen(
                number=newest.get(name, (0, None))[0],
                free=name in newest and self._is_free(name, now),
                done=name in done,
            )
            for name in newest.keys() | done
        }

    def take(self, name: str, seen: Seen | None = None) -> Lease | None:
        """The lease, or None where another process has it or was first.

        Args:
          name: of the lease; digits or letters.
          seen: what `look` said of it, where it said something.
        """
        if seen is not None and (seen.done or not seen.free):
            return None
        number, start = (seen.number if seen else 0) + 1, _now()
        key = f"{name}/{number}"
        with io_errors(self.place):
            try:
                if not self.place.create(key, _about_me()):
                    return None
            except FileNotFoundError:  # the folder went meanwhile: the sweep is over
                return None
            # Who looked long ago may create a number that was there and is over.
            now = self.look(name).get(name)
            if now is not None and (now.done or now.number > number):
                self.place.delete(key)
                return None
            if number > 1:
                self.place.delete(f"{name}/{number - 1}")
        return Lease(self.place, key, self.expiry, start)

    def wait_for(self, name: str) -> Lease | None:
        """The lease, if need be after its holder was silent for long enough; None if it is not."""
        seen, begun = self.look(name).get(name), self._watched.get(name)
        while seen is not None and not seen.free:
            if self._watched[name] != begun:
                return None
            time.sleep(self.expiry / 8)
            seen = self.look(name).get(name)
        return self.take(name, seen)

    def undo(self, name: str) -> None:
        """Let a lease that is over be taken again, for what was made of it is damaged."""
        with io_errors(self.place):
            self.place.delete(f"{name}/{_DONE}")

    @property
    def shared(self) -> bool:
        """Whether there is a sweep here that may be joined."""
        with io_errors(self.place):
            return self.place.has(_SHARED)

    def share(self) -> None:
        """Say that there is."""
        with io_errors(self.place):
            self.place.write(_SHARED, b"1")

    def clear(self, *kept: str) -> None:
        """Forget all of them but `kept`, once nobody needs them any longer."""
        with io_errors(self.place):
            keys = self.place.stamps()
            others = [key for key in keys if key.rpartition("/")[0] not in kept]
            # The mark first: without it nobody takes what is left for a sweep.
            self.place.delete(*sorted(others, key=lambda key: key != _SHARED))
            if len(others) == len(keys):
                with contextlib.suppress(OSError):  # somebody who came late looks at it
                    self.place.delete_all("")

    def check_place(self) -> None:
        """Raise `ConfigError` where no file can be created by one process only."""
        why = ""
        for _ in range(_TRIES):
            key, why = f"probe_{uuid.uuid4().hex}", "two processes could create one file"
            try:
                first, second = self.place.create(key, b"1"), self.place.create(key, b"2")
                self.place.delete(key)
                if first and not second:
                    return
            except MissingExtraError:
                raise
            except Exception as error:  # of the file system or of obstore, which has its own
                why = getattr(error, "strerror", None) or reason_of(error)
        raise ConfigError(
            f"{self.place}: no leases can be kept here ({' '.join(why.split())}), by which workers "
            "share a sweep; choose an out on a disk that can be written and has hard links, or in "
            "an object store with conditional writes, or sweep without --workers"
        )

    def _is_free(self, name: str, now: float) -> bool:
        (_, (size, _)), since = self._watched[name]
        return size == 0 or now - since >= self.expiry


def _beside(path: str | PathLike[str]) -> str:
    head, slash, name = (url_of(path) or abspath(path)).rstrip("/").rpartition("/")
    return f"{head}{slash}.{name}.leases"


def _about_me() -> bytes:
    """For a person who looks; what is written differs every time."""
    return f"{socket.gethostname()} {getpid()} {uuid.uuid4().hex}".encode()


def _now() -> float:
    """Seconds; those while the machine sleeps count, too, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
