"""The sets of known causes, each with its images, objects, cues and interventions."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.data.checks import SPLITS
from jaxseg_xai.data.sources.causes import CONTROL, SETS, CausesDataset
from jaxseg_xai.data.sources.triangle import make_triangle

#: All cues are there: the images that are explained.
AS_DRAWN = {"cues": "all"}
_TRIANGLE = "triangle-cue"
#: Sets whose images are those of another, as drawn: one network is the control of both.
_SHARED_CONTROL = {"marker": "both", "either": "both"}


class Drawn(NamedTuple):
    """Images of a set.

    Attributes:
      ids: N names.
      images: float32 [N, *S, C].
      objects: bool [N, *S], what is segmented where the cues say so.
      cues: bool [N, cues, *S], where each cue is, or would be.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    objects: np.ndarray
    cues: np.ndarray


@dataclasses.dataclass(frozen=True)
class Known:
    """A set and the bundled model of it.

    Attributes:
      name: "marker", "marker-control".
      model: name of the bundled model.
      interventions: name -> options of `draw`.
      must: the interventions that must change the segmentation; the others must not.
    """

    name: str
    model: str
    interventions: Mapping[str, Mapping[str, Any]]
    must: tuple[str, ...]

    @property
    def trained_here(self) -> bool:
        """Whether its model was trained on it, as `benchmarks.causes.models` says."""
        return self.model == f"causes-{self.name}"

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.name if self.name == _TRIANGLE else f"causes:{self.name}"

    def draw(self, split: str, num: int, **options: Any) -> Drawn:
        """The first images of a split, with all cues (`AS_DRAWN`) or after an intervention."""
        if self.name == _TRIANGLE:
            return _triangles(split, num, **options)
        source = CausesDataset(split, self.name, num=num, **options)
        scenes = [source.make(index)[0] for index in range(num)]
        images, objects = (np.stack([scene[part] for scene in scenes]) for part in (0, 1))
        return Drawn(tuple(source.ids), images, objects, np.stack([s.cues for s in scenes]))


def known_sets(names: tuple[str, ...] = ()) -> list[Known]:
    """The sets of these names, or all: every cause and its control.

    Raises:
      ConfigError: an unknown name.
    """
    made = {one.name: one for one in _all()}
    for name in names:
        if name not in made:
            raise ConfigError(f"unknown set {name!r}; there is {', '.join(made)}")
    return [made[name] for name in names or made]


def _all() -> list[Known]:
    found = [Known(_TRIANGLE, _TRIANGLE, {"no cue": {"cues": "none"}}, ("no cue",))]
    for name, which in SETS.items():
        left = {"no cue": ("none", 0)}
        if len(which.cues) > 1:
            left |= {"first alone": ("first", 1), "second alone": ("second", 1)}
        made = {word: {"cues": cues} for word, (cues, _) in left.items()}
        for part in ("ground", "distractors", "place"):
            if part != "place" or all(cue.kind != "frame" for cue in which.cues):
                made[f"other {part}"] = AS_DRAWN | {"changed": part}
        must = tuple(word for word, (_, number) in left.items() if number < which.enough)
        found.append(Known(name, f"causes-{name}", made, must))
        control = _SHARED_CONTROL.get(name, name)
        found.append(Known(name + CONTROL, f"causes-{control}{CONTROL}", made, ()))
    return found


def _triangles(split: str, num: int, cues: str) -> Drawn:
    """Triangle-Cue, whose object is the triangle; with or without the marker."""
    made = [
        [make_triangle(i, seed=SPLITS.index(split), cue=True, marker=there) for i in range(num)]
        for there in (cues == "all", True)
    ]
    images = np.stack([one[0] for one in made[0]]).astype(np.float32) / np.float32(255)
    objects = np.stack([one[1] > 0 for one in made[0]])
    markers = np.zeros((num, 1, *objects.shape[1:]), bool)
    for marker, (_, _, info) in zip(markers, made[1], strict=True):
        assert info.marker is not None
        y0, x0, y1, x1 = info.marker
        marker[0, y0:y1, x0:x1] = True
    ids = tuple(f"{_TRIANGLE}-{split}-{index:05d}" for index in range(num))
    return Drawn(ids, images, objects, markers)
