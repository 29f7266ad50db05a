"""What can happen to the bytes of a file, drawn from a seed."""

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]

#: Where most headers are.
_HEAD = 512
_INTEGERS = (0, 1, -1, 2, 127, 128, 255, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 10**12)
_FLOATS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"))
#: What stands in place of a word or number of a text.
_WORDS = (
    b"null",
    b"true",
    b"-1",
    b"0",
    b"0.5",
    b"1e999",
    b"nan",
    b"9" * 20,
    b"9" * 5000,
    b'"x"',
    b"x",
    b"",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[[1, 2], [3]]",
    b"1000000000",
    b"1979-05-27",
    b"../../etc/passwd",
    "ü".encode("latin1"),
    "\ufeff".encode(),
    b"\0",
)


def mutate(content: bytes, others: Sequence[bytes], rng: Rng) -> tuple[bytes, str]:
    """Damage a file.

    Args:
      content: of the file.
      others: contents of files of other kinds, which may come in its place or behind it.
      rng: of all that is drawn.

    Returns:
      The damaged content, and what was done, in words.
    """
    if rng.random() < 0.04:
        other = others[rng.integers(len(others))]
        kind = ("swapped", "joined", "empty")[rng.integers(3)]
        return {"swapped": other, "joined": content + other, "empty": b""}[kind], kind
    done = []
    for _ in range(rng.geometric(0.6)):
        content, what = _once(content, rng)
        done.append(what)
    return content, ", ".join(done)


def _once(content: bytes, rng: Rng) -> tuple[bytes, str]:
    """One mutation; of what a container holds rather than of its bytes, most of the time."""
    for inside in (_in_gzip, _in_zip, _in_png):
        if rng.random() < 0.75:
            found = inside(content, rng)
            if found is not None:
                return found
    table = _OF_TEXT if _is_text(content) and rng.random() < 0.8 else _OF_BYTES
    mutation = table[rng.integers(len(table))]
    return mutation(content, rng), mutation.__name__.lstrip("_")


def _in_gzip(content: bytes, rng: Rng) -> tuple[bytes, str] | None:
    try:
        inner = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None
    changed, what = _once(inner, rng)
    return gzip.compress(changed, 1, mtime=0), f"in gzip: {what}"


def _in_zip(content: bytes, rng: Rng) -> tuple[bytes, str] | None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        if not members:
            return None
    except Exception:  # whatever an archive raises that was damaged before
        return None
    name = list(members)[rng.integers(len(members))]
    what = f"no {name}"
    if rng.random() < 0.1:
        del members[name]
    else:
        members[name], what = _once(members[name], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return stream.getvalue(), f"in {name}: {what}"


def _in_png(content: bytes, rng: Rng) -> tuple[bytes, str] | None:
    """A chunk of a PNG file changed, its checksum right."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    chunks, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    which = int(rng.integers(len(chunks))) if chunks else 0
    if not chunks:
        return None
    kind, data = chunks[which]
    try:
        inner = zlib.decompress(data) if kind == b"IDAT" else data
    except zlib.error:
        return None
    changed, what = _of_bytes(inner, rng)
    chunks[which] = (kind, zlib.compress(changed, 1) if kind == b"IDAT" else changed)
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return content[:8] + b"".join(packed), f"in {kind!r}: {what}"


def _of_bytes(content: bytes, rng: Rng) -> tuple[bytes, str]:
    mutation = _OF_BYTES[rng.integers(len(_OF_BYTES))]
    return mutation(content, rng), mutation.__name__.lstrip("_")


def _place(content: bytes, rng: Rng) -> int:
    """A place in a file, half of the time in its head."""
    end = min(len(content), _HEAD) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(end, 1)))


def _flip_bits(content: bytes, rng: Rng) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.geometric(0.3))):
        if changed:
            changed[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _overwrite(content: bytes, rng: Rng) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 65))
    fill = (b"\0" * length, b"\xff" * length, rng.bytes(length))[rng.integers(3)]
    return content[:place] + fill + content[place + length :]


def _set_integer(content: bytes, rng: Rng) -> bytes:
    """A number of a header at its extremes: sizes, lengths, offsets, kinds."""
    place, width = _place(content, rng), int(rng.choice((1, 2, 4, 8)))
    place -= place % min(width, 4) if rng.random() < 0.8 else 0
    value = _INTEGERS[rng.integers(len(_INTEGERS))] % 2 ** (8 * width)
    raw = value.to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return content[:place] + raw + content[place + width :]


def _set_float(content: bytes, rng: Rng) -> bytes:
    place = _place(content, rng) // 4 * 4
    raw = struct.pack(
        ("<", ">")[rng.integers(2)] + "fd"[rng.integers(2)], _FLOATS[rng.integers(len(_FLOATS))]
    )
    return content[:place] + raw + content[place + len(raw) :]


def _truncate(content: bytes, rng: Rng) -> bytes:
    return content[: _place(content, rng)]


def _remove(content: bytes, rng: Rng) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + int(rng.integers(1, 257)) :]


def _duplicate(content: bytes, rng: Rng) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 257))
    return content[: place + length] + content[place:]


def _insert(content: bytes, rng: Rng) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.bytes(int(rng.integers(1, 33))) + content[place:]


def _replace_word(content: bytes, rng: Rng) -> bytes:
    """A word, number, text or bracket of a text becomes something else."""
    words = list(re.finditer(rb'"[^"\n]*"|[\w.+-]+|[\[\]{}]', content[:100_000]))
    if not words:
        return content
    word = words[rng.integers(len(words))]
    return content[: word.start()] + _WORDS[rng.integers(len(_WORDS))] + content[word.end() :]


def _change_lines(content: bytes, rng: Rng) -> bytes:
    """A line is lost, twice there, or ends as Windows ends it."""
    lines = content.split(b"\n")
    place = int(rng.integers(len(lines)))
    change = (lines[:0], [lines[place]] * 2, [lines[place] + b"\r"])[rng.integers(3)]
    return b"\n".join(lines[:place] + change + lines[place + 1 :])


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content[:4096].decode()
    except UnicodeDecodeError:
        return False


_OF_BYTES: tuple[Mutation, ...] = (
    _flip_bits,
    _overwrite,
    _set_integer,
    _set_integer,
    _set_float,
    _truncate,
    _remove,
    _duplicate,
    _insert,
)
_OF_TEXT: tuple[Mutation, ...] = (_replace_word, _replace_word, _replace_word, _change_lines)
