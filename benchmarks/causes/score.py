"""How often each method finds the causes: one setting for all sets, a row a method and set."""

import dataclasses
import inspect
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jaxseg_xai
from benchmarks.causes.found import BLOCK, judge
from benchmarks.causes.sets import AS_DRAWN, Drawn, Known
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.parse import json_of
from jaxseg_xai.data import MemorySource, open_dataset
from jaxseg_xai.explainers import EXPLAINERS, Explainer

#: Beside the methods: every block has a random number.
RANDOM = "random"
#: Images from which methods take what they put into an image.
_NUM_OTHERS = 64
#: Images that are explained at a time.
_BATCH = 8
_JUDGED = ("OK", "NOT_REACHED")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """How a method did on a set.

    Attributes:
      set: its name.
      method: its name.
      split: of the images.
      num: images.
      settings: of the method, beside its defaults.
      found: share of the images in which the cause was found, in [0, 1].
      energy: mean share of the positive relevance in the cause, in [0, 1].
      share: mean share of the cause of the area, in [0, 1].
      top: share of the images in which the cause touches the top block.
      explained: share of the images that have an explanation.
      seconds: per image, without compiling; None where there is none.
      error: why there is none at all, or "".
    """

    set: str
    method: str
    split: str
    num: int
    settings: dict[str, Any]
    found: float = 0.0
    energy: float = 0.0
    share: float = 0.0
    top: float = 0.0
    explained: float = 0.0
    seconds: float | None = None
    error: str = ""


def judged_methods() -> list[str]:
    """The methods whose maps speak for or against a segment, and random maps."""
    usable = dict(EXPLAINERS.usable())
    maps = [
        name
        for name in EXPLAINERS.built_in
        if name in usable
        and usable[name].meta.high != "neither"
        and usable[name].meta.figure != "parts"
    ]
    return [RANDOM, *maps]


def score(
    sets: Sequence[Known], methods: Sequence[str], split: str, num: int, record: Path | None
) -> Iterator[Row]:
    """Score methods on sets; rows that are in the record already are not computed again."""
    for method in methods:
        if method not in judged_methods():
            raise ConfigError(f"unknown method {method!r}; there is {', '.join(judged_methods())}")
    rows = read(record) if record is not None and record.exists() else []
    for known in sets:
        drawn = known.draw(split, num, **AS_DRAWN)
        for method in methods:
            settings = _settings(method)
            same = {"set": known.name, "method": method, "split": split, "num": num}
            found = [row for row in rows if same.items() <= vars(row).items()]
            if not found or found[0].settings != settings:
                rows = [row for row in rows if row not in found]
                found = [_row(known, method, settings, split, drawn)]
                rows += found
                if record is not None:  # after every row, as the next may take long
                    write(record, rows)
            yield found[0]


def read(path: Path) -> list[Row]:
    """The rows of a record.

    Raises:
      ConfigError: there is none, or it is damaged.
    """
    try:
        return [Row(**row) for row in json_of(path)["rows"]]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; `score --record` writes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: damaged ({error}); write it again") from None


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write a record."""
    text = json.dumps({"block": BLOCK, "rows": [vars(row) for row in rows]}, indent=1)
    path.write_text(f"{text}\n")


def _row(known: Known, method: str, settings: dict[str, Any], split: str, drawn: Drawn) -> Row:
    row = Row(set=known.name, method=method, split=split, num=len(drawn.ids), settings=settings)
    try:
        explained, seconds = _explain(known, method, settings, drawn)
    except JaxsegError as error:
        return dataclasses.replace(row, error=str(error))
    things = zip(explained, drawn.objects, drawn.cues, strict=True)
    judged = [judge(one[0], thing, cues, one[1]) for one, thing, cues in things if one is not None]
    if not judged:
        return dataclasses.replace(row, error="no image has an explanation", seconds=seconds)
    # An image without an explanation is one in which nothing was found.
    means = {name: sum(one[name] for one in judged) / row.num for name in judged[0]}
    return dataclasses.replace(row, **means, explained=len(judged) / row.num, seconds=seconds)


def _explain(
    known: Known, method: str, settings: dict[str, Any], drawn: Drawn
) -> tuple[list[tuple[np.ndarray, Any] | None], float | None]:
    """Of each image relevance and maps, or None; and seconds per image."""
    if method == RANDOM:
        rng = np.random.default_rng(0)
        return [(_random_map(rng, thing.shape), None) for thing in drawn.objects], None
    explainer: Explainer = EXPLAINERS.get(method)(**settings)
    bundle = jaxseg_xai.load_model(known.model)
    rank = bundle.segmenter.input.rank
    others = open_dataset(known.data, "train", num=_NUM_OTHERS) if explainer.needs else None

    def run(number: int) -> Any:
        source = MemorySource(list(drawn.images[:number]), ids=drawn.ids[:number], rank=rank)
        return jaxseg_xai.explain(
            bundle,
            source,
            1,
            method,
            region="component",
            target="prediction",
            others=others,
            batch_size=_BATCH,
            **settings,
        )

    run(min(_BATCH, len(drawn.ids)))  # compiles
    start = time.perf_counter()
    found = run(len(drawn.ids))
    seconds = (time.perf_counter() - start) / len(drawn.ids)
    sign = -1.0 if explainer.meta.high == "against" else 1.0
    return [
        (sign * one.attribution, one.maps) if one.status_name in _JUDGED else None for one in found
    ], seconds


def _random_map(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.random([-(-size // BLOCK) for size in shape])
    for axis in range(len(shape)):
        values = np.repeat(values, BLOCK, axis)
    return values[tuple(slice(size) for size in shape)]


def _settings(method: str) -> dict[str, Any]:
    """The one setting for all sets: blocks are as small as those by which maps are judged."""
    if method == RANDOM:
        return {}
    known = inspect.signature(EXPLAINERS.get(method)).parameters
    return {"block_size": BLOCK} if "block_size" in known else {}
