"""Draws the scenes of known causes, of two axes or three: ground, boxes, a ball, cues elsewhere."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

#: What has chance of its own.
Part = Literal["ground", "noise", "distractors", "ball", "place"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cue:
    """What speaks for the object.

    Attributes:
      kind: "plus" or "shell", white on a black square (a cube in volumes); or "frame": the border
        of the image is checkered, where it is otherwise plain.
      channels: in which it is drawn; () is all.
    """

    kind: Literal["plus", "shell", "frame"]
    channels: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class CauseSet:
    """A set of images whose cause is known.

    Attributes:
      about: what the cause is, in words.
      cues: one or two.
      enough: so many of them make the ball the object.
      rank: axes of an image.
      size: side of an image in pixels, where nobody says another.
      channels: C.
      scene: channels that show the ball and the distractors; the others show the ground alone.
    """

    about: str
    cues: tuple[Cue, ...]
    enough: int = 1
    rank: int = 2
    size: int = 48
    channels: int = 3
    scene: tuple[int, ...] = (0, 1, 2)


class Scene(NamedTuple):
    """One image.

    Attributes:
      image: float32 [*S, C] in [0, 1].
      ball: bool [*S].
      cues: of each cue bool [*S], where it is or, if it is not there, would be.
    """

    image: np.ndarray
    ball: np.ndarray
    cues: tuple[np.ndarray, ...]


def draw_scene_of(
    which: CauseSet,
    size: int,
    stream: Callable[[Part], np.random.Generator],
    present: Sequence[bool],
) -> Scene:
    """One scene; what a part looks like depends on its own stream, and on where the ball is.

    Args:
      which: the set.
      size: side of the image in pixels, >= 24.
      stream: part of the scene -> where its chance comes from.
      present: of each cue, whether it is there.
    """
    grid = np.indices((size,) * which.rank)
    scene, frame = list(which.scene), _frame(size)
    rng = stream("ground")
    level = rng.uniform(0.35, 0.55, which.channels)
    image = level + _stripes(rng, grid)[..., None]

    rng = stream("distractors")
    for _ in range(int(rng.integers(2, 5))):
        half = rng.uniform(size / 24, size / 8, which.rank)
        box = _inside(grid, rng.uniform(0, size, which.rank), half)
        # Not brighter than the ground, as the ball is; some as dark as nothing.
        _paint(image, box, scene, rng.uniform(0, 1) * level[scene])

    rng = stream("ball")
    radius = rng.uniform(0.11, 0.16) * size
    margin = frame + radius + 1
    center = rng.uniform(margin, size - 1 - margin, which.rank)
    ball = np.sum((grid - _column(center)) ** 2, axis=0) <= radius**2
    _paint(image, ball, scene, level[scene] + rng.uniform(0.25, 0.4, len(scene)))
    image += stream("noise").normal(0, 0.03, image.shape)

    rng = stream("place")
    cues, taken = [], [(center, radius)]
    for cue, is_there in zip(which.cues, present, strict=True):
        channels = list(cue.channels or range(which.channels))
        if cue.kind == "frame":
            where = np.min(np.minimum(grid, size - 1 - grid), axis=0) < frame
            checks = np.sum(grid // 2, axis=0) % 2
            _paint(image, where, channels, checks[where][:, None] if is_there else 0.5)
        else:
            half = max(2, size // 16)
            middle = _free_place(rng, size, which.rank, half, taken)
            taken.append((middle, half))
            where = _inside(grid, middle, half)
            if is_there:
                glyph = _glyph(cue.kind, np.abs(grid - _column(middle)), half)
                _paint(image, where, channels, glyph[where][:, None])
        cues.append(where)
    return Scene(np.clip(image, 0, 1).astype(np.float32), ball, tuple(cues))


def _frame(size: int) -> int:
    """Width of the frame in pixels."""
    return size // 16


def _column(point: np.ndarray) -> np.ndarray:
    """A point [rank], to be taken from the grid [rank, *S]."""
    return point.reshape(-1, *[1] * len(point))


def _inside(grid: np.ndarray, center: np.ndarray, half: np.ndarray | float) -> np.ndarray:
    """The box around a center, bool [*S]."""
    half = np.broadcast_to(half, center.shape)
    return np.all(np.abs(grid - _column(center)) <= _column(half), axis=0)


def _paint(
    image: np.ndarray, where: np.ndarray, channels: list[int], values: np.ndarray | float
) -> None:
    """Put values ([pixels or 1, channels or 1]) into some channels of some pixels of an image."""
    pixels = image[where]
    pixels[:, channels] = values
    image[where] = pixels


def _stripes(rng: np.random.Generator, grid: np.ndarray) -> np.ndarray:
    """Faint stripes, 6 to 20 pixels apart: float64 [*S]."""
    waves = rng.uniform(0.2, 0.7, len(grid))
    phase = rng.uniform(0, 2 * np.pi)
    return rng.uniform(0.02, 0.05) * np.sin(np.tensordot(waves, grid, axes=1) + phase)


def _free_place(
    rng: np.random.Generator,
    size: int,
    rank: int,
    half: int,
    taken: Sequence[tuple[np.ndarray, float]],
) -> np.ndarray:
    """The middle [rank] of a cue that lies at least size / 8 away from all that is there.

    All such places are equally likely; where there is none, it is the farthest.
    """
    middles = np.indices((size - 2 * half,) * rank).reshape(rank, -1).T + half
    gaps = [np.max(np.abs(middles - center), axis=1) - reach - half for center, reach in taken]
    gap = np.min(gaps, axis=0)
    free = middles[gap >= min(size / 8, gap.max())]
    return free[int(rng.random() * len(free))]


def _glyph(kind: str, offsets: np.ndarray, half: int) -> np.ndarray:
    """White (1) and black (0) of a cue, float64 [*S], from the distances [rank, *S] to its middle.

    Black goes round the outside of both.
    """
    farthest = np.max(offsets, axis=0)
    if kind == "shell":
        return (farthest == half - 1).astype(float)
    on_axes = np.sum(offsets > half // 4, axis=0) <= 1
    return (on_axes & (farthest < half)).astype(float)
