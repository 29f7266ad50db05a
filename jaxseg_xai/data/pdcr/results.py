"""What PdCR's code writes: maps and their statistics.

A folder of results has `heatmap_np/NAME.png.npy` and `statistics/NAME.txt`, NAME being
MODEL_IMAGE_x72_y88_p32_b8: first row and column of the region, its side, and that of the blocks.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

import numpy as np

from jaxseg_xai.core.errors import DataError, JaxsegError, reason_of
from jaxseg_xai.data.pdcr.text import bad_line, lines_of, write_text

#: Bins that do not depend on the threshold, on one side of it, in points.
_EDGES = ("0.3", "1", "3")
_NUMBER, _COUNT = r"[-+\d.einfa]+", r"(\d{1,18})"
_NAME = re.compile(
    r"(?P<model>[^_]+)_(?P<image>.+)_x(?P<top>\d+)_y(?P<left>\d+)_p(?P<side>\d+)_b(?P<block>\d+)"
)


def read_map(path: str | os.PathLike[str]) -> np.ndarray:
    """A map of effects from a `.npy` file, float32 [H, W], in points.

    Raises:
      DataError: it cannot be read, is no plane of numbers, or they are not all finite.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except Exception as error:  # of a damaged header numpy raises nearly anything
        raise DataError(
            f"{path}: no array of numpy ({reason_of(error)}); name a .npy file"
        ) from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "an archive"
        raise DataError(f"{path}: {what}; a map is one plane of numbers [H, W]")
    if not np.isfinite(found).all():
        raise DataError(f"{path}: NaN or infinity; a map of effects is finite")
    return found.astype(np.float32)


def write_map(path: str | os.PathLike[str], effects: np.ndarray) -> None:
    """Write a map [H, W] as float32; JaxsegError where it cannot be written."""
    try:
        with open(path, "wb") as file:  # `np.save` would add a suffix to some names
            np.save(file, np.asarray(effects, np.float32))
    except OSError as error:
        raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """What `statistics/NAME.txt` says of a map.

    Attributes:
      base: outcome of the image, in Dice points.
      histogram: blocks outside the region, by bins (-inf, -3, -1, -0.3, -t, t, 0.3, 1, 3, inf).
      num_positive: blocks whose replacement raises Dice.
      num_negative: blocks whose replacement lowers it.
      num_zero: the other blocks outside the region.
      num_region: blocks in the region; the file counts them in the middle bin.
      threshold: t, as it is written.
    """

    base: float
    histogram: tuple[int, ...]
    num_positive: int
    num_negative: int
    num_zero: int
    num_region: int
    threshold: str = "0.02"

    @classmethod
    def of_map(
        cls,
        effects: np.ndarray,
        *,
        base: float,
        region_size: int,
        block_size: int,
        threshold: float,
    ) -> Self:
        """As PdCR counts: pixels by the area of a block, those of the region among the zeros.

        Args:
          effects: [H, W] in points, 0 in the region and where an effect is below the threshold.
          base: outcome of the image, in points.
          region_size: pixels of the region.
          block_size: side of a block in pixels.
          threshold: t.
        """
        area = block_size**2
        edges = [float(edge) for edge in _EDGES]
        upper = [threshold, *edges, np.inf]
        bins = np.histogram(effects, [-edge for edge in reversed(upper)] + upper)[0] // area
        zero = (np.sum(effects == 0) - region_size) // area
        counts = (int(np.sum(effects > 0) // area), int(np.sum(effects < 0) // area), int(zero))
        region = int(bins.sum()) - sum(counts)
        bins[4] -= region
        return cls(
            base=float(base),
            histogram=tuple(map(int, bins)),
            num_positive=counts[0],
            num_negative=counts[1],
            num_zero=counts[2],
            num_region=region,
            threshold=f"{threshold:g}",
        )


def read_statistics(path: str | os.PathLike[str]) -> Statistics:
    """Read `statistics/NAME.txt`; its shares follow from its counts.

    Raises:
      DataError: a line is missing or something else, or the counts contradict each other.
    """
    lines = [*lines_of(path), *[""] * 12][:12]

    def values(number: int, pattern: str, expected: str) -> tuple[str, ...]:
        found = re.fullmatch(pattern, lines[number - 1].strip())
        if found is None:
            raise bad_line(path, number, lines[number - 1], expected)
        return found.groups()

    (base,) = values(1, rf"base dice: ({_NUMBER})", "base dice: NUMBER")
    counts = values(2, rf"pos: {_COUNT}, neg: {_COUNT}, zero: {_COUNT}", "pos: N, neg: N, zero: N")
    shares = ", ".join(f"{name}: ({_NUMBER})" for name in ("pos", "neg", "zero"))
    values(3, shares, "pos: PERCENT, neg: PERCENT, zero: PERCENT")
    threshold, _ = values(8, rf"-(.+) to \1_num: {_COUNT}", "-T to T_num: N, T being the threshold")
    bins = [
        int(values(number, rf"{re.escape(name)}_num: {_COUNT}", f"{name}_num: N")[0])
        for number, name in enumerate(bin_names(threshold), 4)
    ]
    positive, negative, zero = map(int, counts)
    region = sum(bins) - positive - negative - zero
    bins[4] -= region
    if region < 0 or bins[4] < 0:
        blocks = f"{sum(bins) + region} blocks in the bins, {sum(map(int, counts))} in line 2"
        raise DataError(f"{path}: {blocks}; the bins have those of the region, too")
    return Statistics(
        base=_float(path, 1, base),
        histogram=tuple(bins),
        num_positive=positive,
        num_negative=negative,
        num_zero=zero,
        num_region=region,
        threshold=threshold,
    )


def write_statistics(path: str | os.PathLike[str], found: Statistics) -> None:
    """Write `statistics/NAME.txt` as PdCR does; JaxsegError where it cannot be written."""
    total = found.num_positive + found.num_negative + found.num_zero
    positive, negative = (
        round(count / total * 100, 2) if total else 0.0
        for count in (found.num_positive, found.num_negative)
    )
    bins = list(found.histogram)
    bins[4] += found.num_region
    lines = [
        f"base dice: {found.base}",
        f"pos: {found.num_positive}, neg: {found.num_negative}, zero: {found.num_zero}",
        f"pos: {positive}, neg: {negative}, zero: {100 - positive - negative}",
    ]
    names = bin_names(found.threshold)
    lines += [f"{name}_num: {count}" for name, count in zip(names, bins, strict=True)]
    write_text(path, "\n".join(lines) + "\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A map in a folder of results.

    Attributes:
      model: name of the model, without "_".
      image: name of the image.
      top: first row of the region in pixels.
      left: its first column.
      side: of the region.
      block_size: side of a block.
      effects: float32 [H, W], constant on each block, 0 in the region.
      statistics: of it, or None where the file is missing.
    """

    model: str
    image: str
    top: int
    left: int
    side: int
    block_size: int
    effects: np.ndarray
    statistics: Statistics | None = None

    @property
    def name(self) -> str:
        """Of its files, without suffix; what a file's name or the pattern cannot have is quoted."""
        model = quote(self.model, safe=" ").replace("_", "-")
        image = quote(self.image, safe=" #()+,=@")
        return f"{model}_{image}_x{self.top}_y{self.left}_p{self.side}_b{self.block_size}"


def is_results(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds results of PdCR."""
    return (Path(folder) / "heatmap_np").is_dir()


def read_results(folder: str | os.PathLike[str]) -> list[Result]:
    """All maps of a folder, in the order of their names.

    Raises:
      DataError: there is none, a name does not say what it is of, or a file cannot be read.
    """
    found = []
    for path in sorted((Path(folder) / "heatmap_np").glob("*.npy")):
        name = path.name.removesuffix(".npy").removesuffix(".png")
        words = _NAME.fullmatch(name)
        if words is None:
            raise DataError(f"{path}: the name must be MODEL_IMAGE_x72_y88_p32_b8.png.npy; rename")
        statistics = Path(folder) / "statistics" / f"{name}.txt"
        top, left, side, block_size = (int(words[n]) for n in ("top", "left", "side", "block"))
        found.append(
            Result(
                model=unquote(words["model"]),
                image=unquote(words["image"]),
                top=top,
                left=left,
                side=side,
                block_size=block_size,
                effects=read_map(path),
                statistics=read_statistics(statistics) if statistics.exists() else None,
            )
        )
    if not found:
        raise DataError(f"{folder}: no map in heatmap_np/; name a folder of results")
    return found


def write_results(folder: str | os.PathLike[str], results: Sequence[Result]) -> None:
    """Write maps and statistics as PdCR does; JaxsegError where they cannot be written."""
    folder = Path(folder)
    try:
        for part in ("heatmap_np", "statistics"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JaxsegError(f"{folder}: cannot be written ({error.strerror})") from error
    for result in results:
        write_map(folder / "heatmap_np" / f"{result.name}.png.npy", result.effects)
        if result.statistics is not None:
            write_statistics(folder / "statistics" / f"{result.name}.txt", result.statistics)


def bin_names(threshold: str) -> list[str]:
    """The nine bins of the histogram as the file names them: "to -3", "-3 to -1", ...

    Args:
      threshold: as it is written.
    """
    edges = [*(f"-{edge}" for edge in reversed(_EDGES)), f"-{threshold}", threshold, *_EDGES]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    return [f"to {edges[0]}", *inner, f"{edges[-1]} to"]


def _float(path: str | os.PathLike[str], number: int, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise bad_line(path, number, text, "a number") from None
