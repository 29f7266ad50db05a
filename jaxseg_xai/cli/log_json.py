"""`--log-json FILE`: what a sweep says of itself, a line of JSON each, for other programs."""

import contextlib
import datetime
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from jaxseg_xai.core.errors import ConfigError

_LOG = logging.getLogger("jaxseg_xai")


@contextlib.contextmanager
def json_lines(path: Path | None) -> Iterator[None]:
    """Add the package's records to a file; several processes may share it on a local disk.

    Each line has time (UTC), level and message; those of a sweep also event (begin, batch, failed
    or end), run, host, process, and the event's own.

    Args:
      path: of the file; None: nothing is added anywhere.

    Raises:
      ConfigError: it cannot be written.
    """
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _Lines(path, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"log_json: {path} cannot be written ({error.strerror})") from error
    lines.setFormatter(_Json())
    # Warnings come on standard error by themselves only where nobody else takes records.
    handlers: list[logging.Handler] = [lines]
    if not logging.root.handlers and logging.lastResort is not None:
        handlers.append(logging.lastResort)
    level = _LOG.level
    for handler in handlers:
        _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        _LOG.info(f"ended by {type(error).__name__}: {error}")
        raise
    finally:
        _LOG.setLevel(level)
        for handler in handlers:
            _LOG.removeHandler(handler)
        with contextlib.suppress(OSError):  # what is left of a line, on a full disk
            lines.close()


class _Json(logging.Formatter):
    """A record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        found = {"time": time.isoformat(), "level": record.levelname}
        found |= {"message": record.getMessage(), **getattr(record, "sweep", {})}
        return json.dumps(found)


class _Lines(logging.FileHandler):
    """A file that may become full: the work goes on, and that is said once."""

    def handleError(self, record: logging.LogRecord) -> None:
        del record
        reason = getattr(sys.exception(), "strerror", None) or "an error"
        print(f"log_json: {self.baseFilename} cannot be written ({reason})", file=sys.stderr)
        _LOG.removeHandler(self)
