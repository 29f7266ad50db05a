"""Known causes: a bright ball is the object or not, and what decides it lies elsewhere.

Every image has a ball. It is the object (class 1) where enough cues are there, and background like
everything else where they are not. What is a cue differs from set to set (`SETS`); the rest of the
scene is drawn alike. As ground, distractors and places of the cues are drawn from streams of their
own, an image can be had again with or without its cues, or with something else changed and all else
kept: counterfactual pairs. `jaxseg_xai.data.cause_scenes` draws.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.cause_scenes import CauseSet, Cue, Part, Scene, draw_scene_of
from jaxseg_xai.data.checks import SPLITS, check_index, check_split

Cues = Literal["random", "all", "none", "first", "second"]
Changed = Literal["", "ground", "distractors", "place"]

_PLUS, _SHELL = Cue(kind="plus"), Cue(kind="shell")
#: Name -> the set.
SETS = {
    "marker": CauseSet(about="a marker at a distance", cues=(_PLUS,)),
    "frame": CauseSet(about="the texture of the image's frame", cues=(Cue(kind="frame"),)),
    "either": CauseSet(about="two markers, each enough alone", cues=(_PLUS, _SHELL)),
    "both": CauseSet(about="two markers, both needed", cues=(_PLUS, _SHELL), enough=2),
    "channel": CauseSet(
        about="a marker in a channel without the ball",
        cues=(dataclasses.replace(_PLUS, channels=(2,)),),
        scene=(0, 1),
    ),
    "volume": CauseSet(
        about="a marker in a volume", cues=(_PLUS,), rank=3, size=24, channels=1, scene=(0,)
    ),
}
#: Ends the name of a set in which the ball is the object whatever the cues are.
CONTROL = "-control"
_NUM_ITEMS = {"train": 4000, "validation": 200, "test": 200}
_CUES = ("random", "all", "none", "first", "second")
_PARTS: tuple[Part, ...] = ("ground", "noise", "distractors", "ball", "place")
#: What is changed -> the parts that are drawn anew.
_ANEW: dict[str, tuple[Part, ...]] = {
    "ground": ("ground", "noise"),
    "distractors": ("distractors",),
    "place": ("place",),
}


class CausesDataset:
    """A set of `SETS` as a `Source`, "causes:marker"; items are made when they are asked for.

    "causes:marker-control" has the same images, in which the ball is always the object: a model of
    it sees the cues and is indifferent to them.

    Attributes:
      class_names: ("background", "object").
      ids: "causes-marker-test-00012"; the same with every value of `cues` and `changed`.
    """

    licence: ClassVar[str] = "none needed: drawn when asked for"
    class_names: tuple[str, ...] = ("background", "object")

    def __init__(
        self,
        split: str = "test",
        name: str = "marker",
        size: int | None = None,
        num: int | None = None,
        seed: int = 0,
        cues: Cues = "random",
        changed: Changed = "",
    ) -> None:
        """Images float32 [*S, C] in [0, 1], S of two axes or three.

        Args:
          split: "train", "validation" or "test"; they share no random stream.
          name: of `SETS`, with "-control" behind it for the negative control.
          size: side of the images in pixels, >= 24; None: the set's own.
          num: number of items, >= 1; None: 4000, 200, 200. More items keep the first ones.
          seed: >= 0; other seeds give other images in every split.
          cues: which are there. "random": a fair coin says whether enough are, and which is drawn;
            "first", "second": one alone.
          changed: what is drawn anew with all else kept: the "ground", the "distractors" or the
            "place" of the cues; "" changes nothing.
        """
        check_split(split)
        kind = name.removesuffix(CONTROL)
        if kind not in SETS:
            known = ", ".join(SETS)
            raise ConfigError(f"name={name!r}: choose one of {known}, each also with {CONTROL}")
        self.set = SETS[kind]
        self.size = self.set.size if size is None else size
        num = _NUM_ITEMS[split] if num is None else num
        if num < 1 or self.size < 24 or seed < 0:
            raise ConfigError(f"num={num}, size={size}, seed={seed}: at least 1, 24 and 0")
        if cues not in _CUES or (cues == "second" and len(self.set.cues) < 2):
            raise ConfigError(f"cues={cues!r}: choose one of {', '.join(_CUES)} that {name} has")
        if changed not in ("", *_ANEW):
            raise ConfigError(f"changed={changed!r}: choose one of {', '.join(_ANEW)}, or ''")
        self._indifferent = name.endswith(CONTROL)
        self._seed = len(SPLITS) * seed + SPLITS.index(split)
        self._cues, self._changed = cues, changed
        self.ids: Sequence[str] = tuple(f"causes-{name}-{split}-{i:05d}" for i in range(num))

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Item `index`: image float32 [*S, C] in [0, 1], labels int32 [*S], the cues as cause."""
        scene, present = self.make(index)
        named = self._indifferent or sum(present) >= self.set.enough
        there = [cue for cue, is_there in zip(scene.cues, present, strict=True) if is_there]
        return Sample(
            id=self.ids[index],
            image=scene.image,
            labels=(scene.ball & named).astype(np.int32),
            cause=np.any([*there, np.zeros_like(scene.ball)], axis=0),
        )

    def make(self, index: int) -> tuple[Scene, tuple[bool, ...]]:
        """The scene of item `index`, and which of its cues are there."""
        index = check_index(index, len(self))

        def stream(part: Part) -> np.random.Generator:
            anew = _ANEW.get(self._changed, ())
            return np.random.default_rng([self._seed, index, _PARTS.index(part), part in anew])

        # Not [seed, index]: NumPy fills short seeds up with zeros, which are those of the ground.
        present = self._present(np.random.default_rng([self._seed, index, len(_PARTS)]))
        return draw_scene_of(self.set, self.size, stream, present), present

    def _present(self, rng: np.random.Generator) -> tuple[bool, ...]:
        number = len(self.set.cues)
        match self._cues:
            case "random":
                enough = rng.random() < 0.5
                states = [
                    state
                    for state in itertools.product((False, True), repeat=number)
                    if (sum(state) >= self.set.enough) == enough
                ]
                return states[int(rng.integers(len(states)))]
            case "first" | "second":
                return tuple(i == _CUES.index(self._cues) - 3 for i in range(number))
            case _:
                return (self._cues == "all",) * number
