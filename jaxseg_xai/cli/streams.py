"""Standard output and error that a command can rely on: work goes on when nobody reads them."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class _Tolerant:
    """A text stream that drops what it is given once its reader is gone (`... | head`)."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._unread():
            self._stream.write(text)
            self._stream.flush()  # else a full buffer would find out later, anywhere
        return len(text)

    def flush(self) -> None:
        with self._unread():
            self._stream.flush()

    @contextlib.contextmanager
    def _unread(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # On the file, not the object: Python flushes the object once more at its end.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextlib.contextmanager
def reliable_streams() -> Iterator[None]:
    """Within it `sys.stdout` and `sys.stderr` can be written whatever their readers do.

    One that was closed before the program began (`2>&-`, a service without a terminal) is None in
    Python; it becomes a stream that drops everything.
    """
    with contextlib.ExitStack() as stack:
        streams = []
        for stream in (sys.stdout, sys.stderr):
            if stream is None:
                stream = stack.enter_context(open(os.devnull, "w"))
            streams.append(_Tolerant(stream))
        stack.enter_context(contextlib.redirect_stdout(streams[0]))
        stack.enter_context(contextlib.redirect_stderr(streams[1]))
        yield
