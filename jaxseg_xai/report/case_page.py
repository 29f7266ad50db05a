"""All that a gallery shows of one case: pictures, maps, outlines, curves, numbers; JSON values."""

import base64
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.report.cases import Case, rounded
from jaxseg_xai.report.codes import encode, packed, shrink
from jaxseg_xai.report.outlines import Outline, outlines_of_case, outlines_of_method
from jaxseg_xai.report.record import Record, meta_of
from jaxseg_xai.report.scales import Scale, scale_of, scale_of_map
from jaxseg_xai.report.slices import Place, picture_at, place_of, shape_of
from jaxseg_xai.report.upright import upright
from jaxseg_xai.report.volume_page import spacing_of, tiled, volume_json
from jaxseg_xai.store import Row, Store

#: Bytes of a picture up to which nothing of it is lost.
_LOSSLESS = 65_536
#: Voxels along an axis of a volume, so that a WebP picture holds all of it.
_LONGEST_AXIS = 4096
#: Maps of half the width of an interval, and of a standard error; the first that is there is said
#: beside the value.
_INTERVALS = {"half_width": "interval", "standard_error": "standard error"}


@dataclasses.dataclass(frozen=True)
class Limits:
    """How large what a page is told may be; what is larger is reduced by whole factors.

    Attributes:
      longest: side of a picture in pixels.
      voxels: of a volume.
    """

    longest: int
    voxels: int

    def factors(self, shape: tuple[int, ...], spacing: Sequence[float]) -> list[int]:
        """By how much each axis is reduced; of a volume the one with the closest voxels first."""
        if len(shape) == 2:
            return [-(-max(shape) // self.longest)] * 2
        factors = [-(-n // _LONGEST_AXIS) for n in shape]
        while math.prod(-(-n // f) for n, f in zip(shape, factors, strict=True)) > self.voxels:
            apart = [
                f * step if n > f else math.inf
                for n, f, step in zip(shape, factors, spacing, strict=True)
            ]
            factors[int(np.argmin(apart))] += 1
        return factors


def case_json(
    store: Store, case: Case, *, limits: Limits, figure: Callable[[Row], str]
) -> dict[str, Any]:
    """One case as the page reads it.

    Args:
      store: an open store.
      case: one of its cases.
      limits: of what is told.
      figure: row -> address of the figure of its method.

    Returns:
      `place`, the picture and what is said of the image alone (None where nothing can be read), and
      `explanations`. One that cannot be read has an `error`.
    """
    found = [_read(store, row) for row in case.rows]
    # Methods are compared in one place: where the first that has a map explains something.
    records = [one for one in found if isinstance(one, Record)]
    with_map = [one for one in records if one.has_result and one.stored.attribution is not None]
    first = next(iter([*with_map, *records]), None)
    place = place_of(first) if first else None
    explanations = []
    for row, one in zip(case.rows, found, strict=True):
        known: dict[str, Any] = {
            "label": row.label,
            "region": row.region_name,
            "status": "" if row.status is None else row.status.name,
            "run": f"{row.run} {row.version}".strip(),
            "scores": {name: rounded(value) for name, value in sorted(row.scores.items())},
        }
        if isinstance(one, str):
            known["error"] = one
        else:
            known |= _words(one) | {"curves": _curves(one), "figure": figure(row)}
            if place and first and shape_of(one) == shape_of(first):
                known["place"] = _maps_json(one, place, limits)
        explanations.append(known)
    return {
        "image": case.image_id,
        "class": case.class_name,
        "place": _place_json(first, place, limits) if first and place else None,
        "explanations": explanations,
    }


def _read(store: Store, row: Row) -> Record | str:
    """The record of a row, or what is wrong with it."""
    try:
        entry = store.entry(row.label)
        return upright(
            Record(
                stored=store.read(row),
                image=store.read_image(row),
                class_names=store.class_names,
                entry=entry,
                meta=meta_of(entry),
            )
        )
    except JaxsegError as error:
        return str(error)


def _words(record: Record) -> dict[str, Any]:
    return {
        "warning": record.warning,
        "caption": record.caption,
        "title": record.title("attribution", "").replace("\n", ", "),
        "unit": record.unit,
    }


def _place_json(record: Record, place: Place, limits: Limits) -> dict[str, Any]:
    """What is the same for all methods: the image, its classes, and the truth."""
    picture = picture_at(record, place)
    factors = limits.factors(picture.attribution.shape, spacing_of(record))
    image = shrink(picture.image, factors)
    volume = volume_json(record, image.shape[:3]) if picture.rank == 3 else None
    return {
        "name": picture.name,
        "shape": list(image.shape[:-1]),
        "origin": place.origin,
        "factors": factors,
        "picture": data_url(tiled(image, volume["columns"]) if volume else image),
        "outlines": _outlines(outlines_of_case(picture, record, place), factors),
        "volume": volume,
    }


def _maps_json(record: Record, place: Place, limits: Limits) -> dict[str, Any]:
    """The maps of a method in one place, and what it outlines there."""
    picture = picture_at(record, place)
    factors = limits.factors(picture.attribution.shape, spacing_of(record))
    maps: dict[str, Any] = {}
    if not record.has_result:
        return {"maps": maps, "interval": None, "outlines": []}
    if record.stored.attribution is not None:
        maps["attribution"] = _map_json(picture.attribution, scale_of(record), factors)
    for name, values in record.stored.maps.items():
        if values.dtype.kind == "f":
            kind = scale_of(record) if record.meta.figure == "uncertainty" else scale_of_map(values)
            title = record.title(name, name.replace("_", " "))
            maps[name] = _map_json(picture.maps[name], kind, factors) | {"title": title}
    interval = next((name for name in _INTERVALS if name in maps), None)
    return {
        "maps": maps,
        "interval": interval and {"map": interval, "words": _interval_words(record, interval)},
        "outlines": _outlines(outlines_of_method(picture, record), factors),
    }


def _interval_words(record: Record, name: str) -> str:
    confidence = record.stored.row.settings.get("confidence")
    known = name == "half_width" and isinstance(confidence, float)
    return f"{confidence:.0%} {_INTERVALS[name]}" if known else _INTERVALS[name]


def _map_json(values: np.ndarray, scale: Scale, factors: Sequence[int]) -> dict[str, Any]:
    ends = {"low": rounded(scale.low), "high": rounded(scale.high), "open": scale.open}
    ends |= {"colours": scale.colours, "signed": scale.signed}
    return encode(shrink(values.astype(np.float32), factors)).as_json() | ends


def _outlines(found: "list[Outline]", factors: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "name": outline.name,
            "kind": outline.kind,
            "colour": outline.colour,
            "dashed": outline.dashed,
            "mask": packed(shrink(outline.mask, factors)),
        }
        for outline in found
    ]


def _curves(record: Record) -> Mapping[str, list[float | None]]:
    """Numbers of the explanation that follow each other; those of parts and bins are in figures."""
    if record.meta.figure == "parts":
        return {}
    curves = {}
    for name, values in record.stored.traces.items():
        finite = np.flatnonzero(np.isfinite(values))
        if finite.size > 1 and name != "histogram":
            curves[name] = [rounded(float(value)) for value in values[: finite[-1] + 1]]
    return curves


def data_url(picture: np.ndarray) -> str:
    """A picture uint8 [H, W, 3] for a page; exact where that is small."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "webp", lossless=True)
    if buffer.tell() > _LOSSLESS:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "webp", quality=90)
    return webp_url(buffer.getvalue())


def webp_url(data: bytes) -> str:
    """The address of a picture within a page."""
    return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
