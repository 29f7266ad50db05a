"""Images of many sizes: what is compiled for them, and what that does to the model's output."""

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Source
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.store.layout import read_attrs

#: "native": every size as it is, a program for each; "bucket": padded to a few common sizes;
#: "tile": each target on a part of the image that holds what it sees, see `tiles`; or the size to
#: which all images are resized, one number per axis.
Sizes = Literal["native", "bucket", "tile"] | tuple[int, ...]

#: Most common sizes, and the pixels in vain, per pixel of the images, that a program less is worth.
_MOST, _WASTE = 4, 0.3
#: Images whose sizes are looked at; of how many the effect of padding is measured.
_LOOKED_AT, _COMPARED = 256, 8
#: Sizes are rounded up until so few different ones are left.
_DIFFERENT = 48


def size_to_resize_to(sizes: Sizes) -> tuple[int, ...] | None:
    """The size to which a policy resizes images; None where it does not.

    Raises:
      ConfigError: no policy.
    """
    if isinstance(sizes, str) and sizes in get_args(get_args(Sizes)[0]):
        return None
    numbers = () if isinstance(sizes, str) or not np.iterable(sizes) else tuple(sizes)
    if not numbers or not all(isinstance(n, int | np.integer) and n > 0 for n in numbers):
        raise ConfigError(
            f"sizes is {sizes!r}; use native, bucket, tile, or a size such as 256 256 to resize to"
        )
    return tuple(int(n) for n in numbers)


def with_common_sizes(
    segmenter: Segmenter,
    source: Source,
    chosen: Sequence[int],
    kept: Path | None = None,
    *,
    batch_size: int = 8,
) -> Segmenter:
    """The model with images padded to a few common sizes (`InputSpec.pad_to`).

    Args:
      segmenter: the model.
      source: the images.
      chosen: which of them; 256 are looked at.
      kept: a store; where a sweep with common sizes began in it, these are taken.
      batch_size: images at a time.

    Raises:
      ModelError: a model that takes one size only.
      ConfigError: no image can be read.
    """
    spec = segmenter.input
    if found := _stored(kept) if kept is not None else ():
        return segmenter.replace(pad_to=found)
    segmenter.replace(pad_to=((spec.multiple_of,) * spec.rank,))  # refused before images are read
    unpadded, sizes = _unpadded(segmenter), []
    for index in _evenly(chosen, _LOOKED_AT):
        try:
            sizes.append(prepare(read_item(source, index), unpadded.input).grid.prepared)
        except JaxsegError:  # its rows say why
            continue
    if not sizes:
        return unpadded
    batch = batch_size * len(sizes) / len(chosen)
    return segmenter.replace(pad_to=common_sizes(sizes, spec.multiple_of, batch))


def common_sizes(
    sizes: Sequence[tuple[int, ...]], multiple_of: int, batch: float = 1
) -> tuple[tuple[int, ...], ...]:
    """Few sizes that hold all given ones, each a multiple: the fewest that waste little.

    At most four; fewer as long as what is computed in vain is at most 0.3 of the images' own
    pixels: padding, and what fills up the last batch of a size, which is as large as any.

    Args:
      sizes: of the images.
      multiple_of: what the model takes.
      batch: images at a time; where `sizes` are those of a sample, in proportion fewer.

    >>> common_sizes([(64, 64), (72, 64), (80, 64), (256, 200)], 8)
    ((80, 64), (256, 200))
    """
    unit = multiple_of
    while True:
        counts = Counter(tuple(-(-n // unit) * unit for n in size) for size in sizes)
        if len(counts) <= _DIFFERENT:
            break
        unit *= 2
    own, groups = sum(math.prod(size) for size in sizes), dict(counts)
    while len(groups) > 1:
        pairs = [(a, b) for a in groups for b in groups if a < b]
        merged = min(
            (_merged(groups, *pair) for pair in pairs), key=lambda found: _pixels(found, batch)
        )
        worth = max(_pixels(groups, batch), (1 + _WASTE) * own)
        if len(groups) <= _MOST and _pixels(merged, batch) > worth:
            break
        groups = merged
    return tuple(sorted(groups, key=lambda size: (math.prod(size), size)))


def effect_of_padding(
    segmenter: Segmenter, variables: Any, source: Source, chosen: Sequence[int]
) -> dict[str, Any]:
    """What padding to common sizes changes in the model's output, on a sample of eight images.

    Returns:
      As JSON values: "padded_to", the common sizes; "images", names of the sample;
      "largest_logit_difference" from the image in its own size (padded no further than the model's
      stride asks), over all pixels and classes; and "share_of_pixels_changed", of the pixels whose
      class differs. 0 where nothing is padded.
    """
    unpadded = _unpadded(segmenter)
    names, largest, changed, pixels = [], 0.0, 0, 0
    for index in _evenly(chosen, _COMPARED):
        try:
            sample = read_item(source, index)
            logits, differs = _compare(segmenter, unpadded, variables, sample)
        except JaxsegError:  # its rows say why
            continue
        names.append(sample.id)
        largest = max(largest, logits)
        changed, pixels = changed + int(differs.sum()), pixels + differs.size
    return {
        "padded_to": [list(size) for size in segmenter.input.pad_to],
        "images": names,
        "largest_logit_difference": largest,
        "share_of_pixels_changed": changed / max(1, pixels),
    }


def say_effect(found: Mapping[str, Any]) -> str:
    """`effect_of_padding` in a line."""
    shapes = ", ".join("x".join(map(str, size)) for size in found["padded_to"])
    return (
        f"sizes: padded to {shapes}; on {len(found['images'])} images this changes logits by up to "
        f"{found['largest_logit_difference']:.3g}, and the class of "
        f"{100 * found['share_of_pixels_changed']:.3g} % of the pixels"
    )


def _compare(
    segmenter: Segmenter, unpadded: Segmenter, variables: Any, sample: Any
) -> tuple[float, np.ndarray]:
    """Largest difference of the logits of a sample, and where its class differs, bool [*S]."""
    found = []
    for model in (unpadded, segmenter):
        prepared = prepare(sample, model.input)
        own = tuple(slice(n) for n in prepared.grid.resized)
        with jax.enable_x64(False):
            output = jax.device_get(_look(unpadded, variables, prepared.image[None]))
        found.append([array[0][own] for array in output])
    (ours, is_ours), (theirs, is_theirs) = found
    differs = is_ours != is_theirs
    # Planes of classes that may overlap have one more axis.
    differs = np.any(differs.reshape(*differs.shape[: segmenter.input.rank], -1), axis=-1)
    return float(abs(ours - theirs).max()), differs


# A program for every size that runs once: compiling it is what counts.
@functools.partial(
    jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0}
)
def _look(segmenter: Segmenter, variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits and prediction."""
    logits = segmenter.logits(variables, images)
    return logits, segmenter.output.prediction(logits)


def _unpadded(segmenter: Segmenter) -> Segmenter:
    """The same model, padding no further than its stride asks."""
    pad = "edge" if segmenter.input.pad == "refuse" else segmenter.input.pad
    return segmenter.replace(pad_to=(), pad=pad)


def _merged(
    groups: dict[tuple[int, ...], int], a: tuple[int, ...], b: tuple[int, ...]
) -> dict[tuple[int, ...], int]:
    """The groups with two of them padded to one size."""
    found = {size: count for size, count in groups.items() if size not in (a, b)}
    both = tuple(map(max, a, b))
    found[both] = found.get(both, 0) + groups[a] + groups[b]
    return found


def _pixels(groups: dict[tuple[int, ...], int], batch: float) -> float:
    """How many are computed for all images, in whole batches."""
    return sum(math.prod(size) * math.ceil(n / batch) * batch for size, n in groups.items())


def _evenly(chosen: Sequence[int], count: int) -> list[int]:
    """At most `count` of them, evenly spaced."""
    step = max(1, len(chosen) / count)
    return [chosen[int(i * step)] for i in range(min(count, len(chosen)))]


def _stored(out: Path) -> tuple[tuple[int, ...], ...]:
    """The common sizes of the sweep in a store; () where there is none."""
    try:
        found = read_attrs(out)["config"].get("input", {}).get("pad_to", ())
    except JaxsegError:
        return ()
    return tuple(tuple(size) for size in found)
