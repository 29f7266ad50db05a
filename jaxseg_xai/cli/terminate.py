"""A process that is told to end (SIGTERM): it keeps what it has and says "resume me", in time."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

#: "Try again later", as sysexits.h calls it: batch systems start the job anew.
EXIT_RESUME = 75
#: Seconds after which a computation that does not end is left. Kubernetes kills after 30.
_PATIENCE = 20.0


class Terminated(BaseException):
    """Raised where the process is told to end."""


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """SIGTERM raises `Terminated`; a computation that does not notice it is ended after 20 seconds.

    Python sees a signal between two of its own steps, and one batch may take minutes: then what is
    in the journal is what is kept. Outside of the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # The system writes the number of a signal there whatever the main thread does.
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    watch = threading.Thread(target=_end_in_time, args=(ours,), daemon=True)
    old_handler = signal.signal(signal.SIGTERM, _terminate)
    old_wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_wakeup)
        signal.signal(signal.SIGTERM, old_handler)
        theirs.close()  # ends the thread
        watch.join()
        ours.close()


def _terminate(number: int, frame: object) -> None:
    del number, frame
    raise Terminated


def _end_in_time(told: socket.socket) -> None:
    while received := told.recv(1):
        if received[0] == signal.SIGTERM:
            told.settimeout(_PATIENCE)
            try:
                while told.recv(1):
                    pass
            except TimeoutError:
                os._exit(EXIT_RESUME)
            return
