"""`jaxseg-xai inspect`: what a model will see of a data set, before the work."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tyro

from jaxseg_xai.cli.command import EXIT_OK, EXIT_SOME_FAILED, Command
from jaxseg_xai.core.display import to_display
from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.fields import check, setting
from jaxseg_xai.core.input_spec import Grey, Pad
from jaxseg_xai.core.orientation import orientation_of
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.models import Bundle, load_model
from jaxseg_xai.sweeps.data import DataConfig
from jaxseg_xai.sweeps.look import Look, look, shares_of, sizes_of
from jaxseg_xai.sweeps.sizes import size_to_resize_to, with_common_sizes
from jaxseg_xai.sweeps.tiles import MAX_PIXELS, is_too_large, largest_tile
from jaxseg_xai.sweeps.work import check_classes

_MOST_LETTERS = 40
_HEAD = ("item", "size", "channels", "range", "spacing mm", "axes to", "model gets", "labels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Read some images, and say and draw what a model will see of them.

    A line for each image: its size and channels; the range of its values; of volumes and their
    slices how large a pixel is and where its axes run to in the body (Left, Right, Anterior,
    Posterior, Superior, Inferior); the share of each label. With a model also the size and range
    that it gets. What cannot be used is said with its reason.

    Attributes:
      source: which images; the same as data.source.
      model: a bundled model or a folder with model.json; none where empty.
      data: which images, as for a sweep.
      num: read at most so many, evenly spaced; 0 means all.
      pad: what to do with sizes that the model does not take, as for a sweep.
      channels: what to do with grey images, as for a sweep.
      labels: what the values of label maps mean, as for a sweep.
      out: the sheet of pictures to write (PNG).
    """

    source: tyro.conf.Positional[str] = ""
    model: str = ""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    num: int = setting(8, at_least=0)
    pad: Pad | None = None
    channels: Grey | None = None
    labels: LabelValues = dataclasses.field(default_factory=LabelValues)
    out: Path = Path("runs/inspect.png")


def run(config: InspectConfig, command: str) -> int:
    """Print what there is and write the sheet."""
    del command
    check(config)
    if config.source and config.data.source:
        raise ConfigError("the images are named twice; leave out data.source")
    data = dataclasses.replace(config.data, source=config.source or config.data.source)
    size = size_to_resize_to(data.sizes)
    options = {"pad": config.pad, "grey": config.channels, "resize": size}
    bundle = load_model(config.model, **options) if config.model else None
    segmenter = None if bundle is None else bundle.segmenter
    source, chosen = data.open(
        None if segmenter is None else segmenter.output,
        None if segmenter is None else segmenter.input,
        label_values=config.labels,
    )
    if bundle is not None and data.sizes == "bucket":
        segmenter = with_common_sizes(bundle.segmenter, source, chosen)
        bundle = dataclasses.replace(bundle, segmenter=segmenter)
    looks = show_data(source, chosen, bundle, data, num=config.num)
    if any(one.sample for one in looks):
        _write_sheet(looks, config.out)
        print(f"sheet: {config.out}")
    failed = any(one.labels_problem or (one.problem and not one.is_empty) for one in looks)
    return EXIT_SOME_FAILED if failed or all(one.problem for one in looks) else EXIT_OK


def show_data(
    source: Source, chosen: list[int], bundle: Bundle | None, data: DataConfig, *, num: int
) -> list[Look]:
    """Read some of the chosen items and print a line for each, and what they mean for a sweep."""
    if not chosen:
        raise DataError("the data set has no image to look at")
    names = ", ".join(source.ids[index] for index in chosen[:3])
    print(f"{len(chosen)} of {len(source)} items: {names}{', ...' if len(chosen) > 3 else ''}")
    if source.class_names:
        print(f"classes of the labels: {', '.join(source.class_names)}")
    segmenter = None if bundle is None else bundle.segmenter
    if bundle is not None:
        print(f"model {bundle.name}: {describe_model(bundle.segmenter)}")
        try:
            check_classes(bundle, source, needed=True)
        except ConfigError as error:
            print(f"labels that the model does not know: {error}")
    step = max(len(chosen) / num, 1.0) if num else 1.0
    picked = [chosen[int((i + 0.5) * step)] for i in range(int(len(chosen) / step))]
    looks = look(source, picked, segmenter)
    print(f"{len(looks)} read{'' if len(looks) == len(chosen) else ', evenly spaced'}:")
    rows = [_cells(one, one.sample, source) for one in looks if one.sample and not one.problem]
    for line in as_table([_HEAD, *rows] if rows else []):
        print(line)
    for one in looks:
        if one.problem:
            print(f"{'empty' if one.is_empty else 'cannot be used'}: {one.problem}")
        if one.labels_problem:
            print(f"labels cannot be used: {one.labels_problem}")
    large = _too_large(looks, segmenter, data)
    sizes = sizes_of(one for one in looks if one.id not in large)
    told = ", ".join(f"{times(size)} ({n})" for size, n in sizes.most_common(6))
    more = f", and {len(sizes) - 6} more" if len(sizes) > 6 else ""
    print(f"sizes, each compiled once a method: {len(sizes)}: {told or 'none'}{more}")
    if segmenter is not None and large:
        tile = times(largest_tile(segmenter.input, data.max_pixels or MAX_PIXELS))
        print(f"{len(large)} are too large (data.max_pixels): explained on tiles of at most {tile}")
    return looks


def _too_large(looks: list[Look], segmenter: Segmenter | None, data: DataConfig) -> set[str]:
    """Names of those whose images go through the model tile by tile."""
    if segmenter is None:
        return set()
    sizes = [(one.id, one.prepared.grid.prepared) for one in looks if one.prepared is not None]
    return {name for name, size in sizes if is_too_large(segmenter, size, data.max_pixels)}


def describe_model(segmenter: Segmenter) -> str:
    """What a model takes and returns, in a line."""
    spec, output = segmenter.input, segmenter.output
    axes = "H, W" if spec.rank == 2 else "D, H, W"
    found = [f"[{axes}, {spec.channels}]"]
    if spec.fixed_size:
        found.append(f"resized to {times(spec.fixed_size)}")
    if spec.pad_to:
        found.append(f"padded to {', '.join(map(times, spec.pad_to))}")
    elif spec.multiple_of > 1:
        found.append(f"sides a multiple of {spec.multiple_of} (else: {spec.pad})")
    if spec.spacing:
        found.append(f"resampled to {' x '.join(map(str, spec.spacing))} mm")
    if spec.channel_order != "rgb":
        found.append(f"channels as {spec.channel_order}")
    if spec.raw:
        found.append("numbers of the file")
    return f"takes {', '.join(found)}; classes {', '.join(output.class_names)}"


def _cells(one: Look, sample: Sample, source: Source) -> tuple[str, ...]:
    """An item as a row of the table."""
    size, seen = sample.image.shape[:-1], one.prepared
    shares = shares_of(sample, source.class_names)
    return (
        one.id[:_MOST_LETTERS],
        times(size),
        str(sample.image.shape[-1]),
        _range(sample.image),
        "x".join(f"{n:.3g}" for n in sample.spacing or ()) or "-",
        orientation_of(sample.affine, len(size)) or "-",
        "-" if seen is None else f"{times(seen.image.shape[:-1])}, {_range(seen.image)}",
        ", ".join(f"{name} {100 * share:.3g} %" for name, share in shares.items()) or "none",
    )


def as_table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of text, their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(t.ljust(n) for t, n in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines]


def times(sides: Iterable[int]) -> str:
    """A size as people write it, "256x256"."""
    return "x".join(map(str, sides))


def _write_sheet(looks: list[Look], path: Path) -> None:
    """Draw the images that could be read into one PNG file."""
    from jaxseg_xai.report.panels import to_png
    from jaxseg_xai.report.sheet import Tile, sheet_figure

    tiles = []
    for one in looks:
        if one.sample is None:
            continue
        name = one.id[:_MOST_LETTERS] + (" (not used)" if one.problem else "")
        seen, labels, rank = one.prepared, one.sample.labels, one.sample.image.ndim - 1
        tile = Tile(
            name=name,
            image=_picture(to_display(one.sample.image), rank),
            seen=None if seen is None else _picture(to_display(seen.image), rank),
            labels=None if labels is None else _picture(labels, rank),
        )
        tiles.append(tile)
    png = to_png(sheet_figure(tiles))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    except OSError as error:
        raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error


def _picture(values: np.ndarray, rank: int) -> np.ndarray:
    """[*S, ...] of an image, or the slice in the middle of a volume's."""
    return values[len(values) // 2] if rank == 3 else values


def _range(values: np.ndarray) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"


COMMAND = Command(
    config=InspectConfig, run=run, example="jaxseg-xai inspect scans/ --model my_model"
)
