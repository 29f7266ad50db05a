"""`python -m benchmarks.precision`: what low precision changes of interventions, and what it saves.

A block of an image is replaced, and the class is read off the pixels of a box. The products of
convolutions and matrices are evaluated with rounded factors and float32 sums, as tensor cores do
(emulated: the counts are those of any device). Two forms:

    plain         the changed image goes through the model
    difference    only what the block changes goes through linear layers; others are evaluated in
                  float32 with and without it, so that errors are relative to the change

and factors of 7 bits (`bfloat16`), 10 (`tensorfloat32`), or `bfloat16 x 3`: a factor is the sum of
two, and all products but that of the small ones are summed. Decisions nearer to the threshold than
a margin have to be settled in float32. The margin is one and a half times the largest error of half
of the interventions (of a difference: relative to it); the other half tells what is settled, and
whether a decision is wrong that is not.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.agree.frozen import REFERENCE
from benchmarks.precision.forms import FORMS, Form, difference, plain
from jaxseg_xai.core.fields import check, setting
from jaxseg_xai.core.types import Array
from jaxseg_xai.data import open_dataset
from jaxseg_xai.models import Bundle, load_model
from jaxseg_xai.program.trace import trace

_BLOCK, _BOX, _AT_ONCE, _IMAGES = 8, 32, 16, 6
#: Factor of the largest error that was seen; and rounding of float32, relative to the logits.
_SAFETY, _FLOAT32 = 1.5, 3e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Count what low precision changes of interventions, and what has to be settled in float32.

    Attributes:
      models: bundled ones, or "reference".
      interventions: of each model, at least.
      json: file for the figures.
    """

    models: tuple[str, ...] = ("reference", "brain", "brain-hrnet", "brain-unext")
    interventions: int = setting(2000, at_least=2)
    json: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What a form makes of a model's interventions.

    Attributes:
      model: its name.
      form: how they were evaluated.
      interventions: how many, half of which gave the margin.
      changed: share of them with another class at a pixel of the box than in float32, in [0, 1].
      settled: share (of the other half) that has a pixel within the margin.
      wrong: interventions (of the other half) with another class that are not settled.
      error: the largest of a decision's value, in units of logits.
    """

    model: str
    form: Form
    interventions: int
    changed: float
    settled: float
    wrong: int
    error: float


def rows_of(name: str, bundle: Bundle, images: np.ndarray, least: int, seed: int) -> list[Row]:
    """Interventions on images [N, *S, C], in every form."""
    segmenter, variables = bundle.segmenter, bundle.variables
    shape = (_AT_ONCE, *images.shape[1:])
    program = trace(segmenter.logits, variables, shape, np.float32)
    rng = np.random.default_rng(seed)

    @jax.jit
    def evaluate(image: jax.Array, changed: jax.Array) -> tuple[Array, Array, list[Array]]:
        values = program.run(variables, jnp.broadcast_to(image, changed.shape))
        before = values[program.logits]
        weights = {k: v for k, v in values.items() if k not in program.of_image}
        rough = []
        for form in FORMS:
            if form.difference:
                rough.append(before + difference(program, values, changed - image, form.factors))
            else:
                rough.append(plain(program, weights, changed, form.factors))
        return before, segmenter.logits(variables, changed), rough

    before, exact, rough = [], [], [[] for _ in FORMS]
    for number in range(-(-least // _AT_ONCE)):
        image = images[number % len(images)]
        others = np.delete(images, number % len(images), axis=0)
        found = evaluate(image, _replaced(rng, image, others))
        class_index = 1 + number % (segmenter.output.num_classes - 1)
        box = _box(rng, np.asarray(found[0][0]), class_index)
        value = functools.partial(_decision, class_index=class_index, box=box)
        before.append(value(found[0]))
        exact.append(value(found[1]))
        for into, logits in zip(rough, found[2], strict=True):
            into.append(value(logits))
    pixels = [np.concatenate(x) for x in (before, exact, *rough)]
    return [
        _row(name, form, pixels[0], pixels[1], mine)
        for form, mine in zip(FORMS, pixels[2:], strict=True)
    ]


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    lines = [
        "| model | form | factors | interventions | outcome changed | to settle | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        form = "difference" if row.form.difference else "plain"
        lines.append(
            f"| {row.model} | {form} | {row.form.factors} | {row.interventions:,} | "
            f"{100 * row.changed:.2f} % | {100 * row.settled:.2f} % | {row.wrong} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 where a decision that was not settled is wrong."""
    config = tyro.cli(Config, args=arguments, prog="python -m benchmarks.precision")
    check(config)
    rows = []
    for name in config.models:
        bundle = load_model(REFERENCE if name == "reference" else name)
        rows += rows_of(name, bundle, _images(name, bundle), config.interventions, 0)
        print(f"{name} done", file=sys.stderr)
    print(table(rows))
    if config.json is not None:
        config.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    return int(any(row.wrong for row in rows))


def _row(name: str, form: Form, before: Any, exact: Any, mine: Any) -> Row:
    """Of decisions [N, pixels]."""
    error, change = np.abs(mine - exact), np.abs(mine - before)
    # What float32 rounds, too, in which nothing can be decided.
    least = _FLOAT32 * np.abs(before).max(1, keepdims=True)
    size = change + change.max(1, keepdims=True) if form.difference else np.ones_like(change)
    learns = np.arange(len(mine)) // _AT_ONCE % 2 == 0
    beyond = np.maximum(error - least, 0) / np.maximum(size, 1e-12)
    margin = _SAFETY * beyond[learns].max() * size + least
    settled = (np.abs(mine) <= margin).any(1)
    changed = ((mine > 0) != (exact > 0)).any(1)
    return Row(
        model=name,
        form=form,
        interventions=len(mine),
        changed=float(changed.mean()),
        settled=float(settled[~learns].mean()),
        wrong=int((changed & ~settled)[~learns].sum()),
        error=float(error.max()),
    )


def _decision(logits: Array, class_index: int, box: tuple[slice, ...]) -> np.ndarray:
    """[P, pixels of the box]: above 0 where the class is chosen."""
    inside = np.asarray(logits)[:, *box]
    others = np.delete(inside, class_index, axis=-1).max(-1)
    return (inside[..., class_index] - others).reshape(len(inside), -1)


def _box(rng: np.random.Generator, logits: np.ndarray, class_index: int) -> tuple[slice, ...]:
    """A box around a pixel of the class, or anywhere."""
    chosen = np.argwhere(logits.argmax(-1) == class_index)
    middle = rng.choice(chosen) if len(chosen) else np.array(logits.shape[:-1]) // 2
    limits = np.array(logits.shape[:-1]) - _BOX
    corner = np.clip(middle - _BOX // 2, 0, np.maximum(limits, 0))
    return tuple(slice(first, first + _BOX) for first in corner)


def _replaced(rng: np.random.Generator, image: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[P, *S, C]: each with a block replaced by what another image holds somewhere."""
    changed = np.stack([image] * _AT_ONCE)
    for one in changed:
        to, source = (
            tuple(slice(c, c + _BLOCK) for c in rng.integers(np.array(image.shape[:-1]) - _BLOCK))
            for _ in range(2)
        )
        one[to] = others[rng.integers(len(others))][source]
    return changed


def _images(name: str, bundle: Bundle) -> np.ndarray:
    channels = bundle.segmenter.input.channels
    if name.startswith("brain"):
        source = open_dataset("brain", "test")
    else:
        source = open_dataset("triangle", size=128 if name == "reference" else 64)
    images = np.stack([source[i].image for i in range(_IMAGES)])
    return images if images.shape[-1] == channels else images.mean(-1, keepdims=True)


if __name__ == "__main__":
    sys.exit(main())
