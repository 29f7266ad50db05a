"""Where a store lies: a folder, or a URL of an object store (`s3://bucket/runs/liver.zarr`)."""

import contextlib
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zarr.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from jaxseg_xai.core.errors import ConfigError, JaxsegError, MissingExtraError, reason_of

#: Folder of the journals.
JOURNAL = "journal"
#: Beginnings of URLs.
_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https")
#: How long an object store that does not answer is asked again, with pauses that grow.
_RETRY: dict[str, Any] = {"max_retries": 10, "retry_timeout": datetime.timedelta(seconds=60)}


class Place:
    """Keys and their bytes; a key is written whole or not at all.

    Attributes:
      name: the last part of it.
      path: the folder; None of a URL.
      zarr: the same for zarr.
    """

    def __init__(self, path: str | os.PathLike[str], *, writes: bool = False) -> None:
        """Name a place; a folder that is not there is made where something `writes` to it."""
        self._text = url_of(path) or os.fspath(path)
        self.name = self._text.rstrip("/").rpartition("/")[2]
        self.path = None if url_of(path) else Path(path)
        self.zarr: Any = (
            _object_store(self._text)
            if self.path is None
            else _Folder(self.path, read_only=not writes)
        )

    def __str__(self) -> str:
        return self._text

    def read(self, key: str) -> bytes | None:
        """What stands under a key; None where nothing does."""
        try:
            found = sync(self.zarr.get(key, default_buffer_prototype()))
        except FileNotFoundError:  # not even the folder
            found = None
        return None if found is None else found.to_bytes()

    def has(self, key: str) -> bool:
        """Whether something stands under a key; a folder that is not there is not made."""
        return self.read(key) is not None if self.path is None else (self.path / key).exists()

    def write(self, key: str, value: bytes) -> None:
        """Put something there, in the place of what there was."""
        sync(self.zarr.set(key, cpu.Buffer.from_bytes(value)))

    def create(self, key: str, value: bytes) -> bool:
        """Put something there where nothing is; whether it is what stands there now.

        Args:
          key: where.
          value: what nobody else would put there.
        """
        sync(self.zarr.set_if_not_exists(key, cpu.Buffer.from_bytes(value)))
        # A server may have answered nothing to the first of several tries, and yet done it.
        return self.read(key) == value

    def stamps(self, prefix: str = "") -> dict[str, tuple[int, Any]]:
        """Key of what lies in a folder -> its bytes, and something that differs when rewritten."""
        if self.path is None:
            import obstore

            found = [one for page in obstore.list(self.zarr.store, prefix) for one in page]
            return {o["path"]: (o["size"], (o["last_modified"], o["e_tag"])) for o in found}
        stamps = {}
        for folder, _, names in os.walk(self.path / prefix):
            above = Path(folder).relative_to(self.path).as_posix()
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    told = os.stat(os.path.join(folder, name))
                    key = name if above == "." else f"{above}/{name}"
                    stamps[key] = told.st_size, (told.st_mtime_ns, told.st_ino)
        return stamps

    def delete(self, *keys: str) -> None:
        """Remove keys, whether they are there or not."""
        for key in keys:
            sync(self.zarr.delete(key))

    def delete_all(self, prefix: str) -> None:
        """Remove a folder with all that is in it."""
        sync(self.zarr.delete_dir(prefix))

    def clear(self) -> None:
        """Remove what a killed process was writing: of a folder, files beside those they become.

        Other processes may write to journals.
        """
        for half in self.path.rglob("*.partial") if self.path else ():
            if JOURNAL not in half.relative_to(self.path or "").parts:
                half.unlink()

    def names(self, prefix: str = "") -> list[str]:
        """What a folder holds, sorted; nothing where there is none."""

        async def found() -> list[str]:
            return [name async for name in self.zarr.list_dir(prefix)]

        try:
            return sorted(sync(found()))
        except FileNotFoundError:
            return []


class _Folder(LocalStore):
    """A folder without a thread for every small file: starting it takes longer than the file."""

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        if key.endswith("zarr.json"):
            return self.get_sync(key, prototype=prototype, byte_range=byte_range)
        return await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Any) -> None:
        self.set_sync(key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        if not (self.root / key).exists():  # as for the groups that an array lies in
            await super().set_if_not_exists(key, value)


def url_of(path: str | os.PathLike[str]) -> str:
    """The URL that a path stands for, "" where it is a folder. A `Path` forgets one slash of "//".

    >>> url_of(Path("s3://bucket/a.zarr")), url_of("runs/a.zarr")
    ('s3://bucket/a.zarr', '')
    """
    scheme, colon, rest = os.fspath(path).partition(":/")
    return f"{scheme}://{rest.lstrip('/')}" if colon and scheme in _SCHEMES else ""


def _object_store(url: str) -> Any:
    try:
        from obstore.store import from_url
        from zarr.storage import ObjectStore
    except ImportError as error:
        raise MissingExtraError(f"{url}: an object store", "cloud") from error
    try:
        options: Any = {"allow_http": True}
        return ObjectStore(from_url(url, client_options=options, retry_config=_RETRY))  # pyright: ignore[reportArgumentType,reportCallIssue]
    except Exception as error:
        raise ConfigError(f"{url}: cannot be used ({reason_of(error)})") from error


@contextlib.contextmanager
def io_errors(place: Place) -> Iterator[None]:
    """Turn what the file system, the object store or the decoder raises into one line."""
    try:
        yield
    except Exception as error:
        # What obstore raises has no common base that is there without it.
        if (
            not isinstance(error, OSError | RuntimeError)
            and "obstore" not in type(error).__module__
        ):
            raise
        why = getattr(error, "strerror", None) or reason_of(error)
        raise JaxsegError(
            f"{place}: cannot read or write the explanation store ({' '.join(why.split())}); "
            "check the path, its permissions and the free space, then run again to resume"
        ) from error


def damaged(place: Place, what: str) -> JaxsegError:
    """Of what no sweep that was killed leaves behind."""
    return JaxsegError(f"{place} is damaged: {what}; restore it, or sweep again with --overwrite")
