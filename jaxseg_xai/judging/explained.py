"""The store of a sweep with the model and the images that it explained."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.core.types import Source
from jaxseg_xai.explainers import EXPLAINERS, Explainer
from jaxseg_xai.models import Bundle, load_model
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.store import Entry, Store
from jaxseg_xai.sweeps.config import SweepSettings
from jaxseg_xai.sweeps.sizes import size_to_resize_to
from jaxseg_xai.sweeps.stored import model_identity
from jaxseg_xai.sweeps.work import Work


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explained:
    """What a sweep explained, ready to be looked at again.

    Attributes:
      name: of the model, in tables.
      store: of the sweep.
      work: the model and the images, `chosen` in the order of the store; no methods.
      settings: of the sweep.
      missing: names of images that the data set does not have any more.
    """

    name: str
    store: Store
    work: Work
    settings: SweepSettings
    missing: frozenset[str]

    @functools.cached_property
    def others(self) -> Source | None:
        """The data set that gave patches and other images; None: the images themselves did.

        Raises:
          JaxsegError: it is gone.
        """
        name, taken = self.settings.others_source, self.work.bundle.segmenter.input
        return self.settings.data.open_pool(name, taken) if name else None

    def pool(self, side: int) -> PatchPool:
        """Patches of a side, as the sweep drew them from these images.

        Raises:
          JaxsegError: what they are cut from is gone.
        """
        rest = {"num_patches": self.settings.num_patches, "patches": self.settings.patches}
        return dataclasses.replace(self.work, others=self.others, **rest).make_pool(side)


def open_explained(
    name: str, store: Store, *, bundle: Bundle | None = None, source: Source | None = None
) -> Explained:
    """The model and the images of a store, as its sweep named them.

    Args:
      name: of the model, in tables.
      store: of the sweep.
      bundle: the model; None loads the one that the sweep names.
      source: the images; None opens the data set that the sweep names.

    Raises:
      JaxsegError: the model or the images are gone, or another model has its place.
    """
    config: Mapping[str, Any] = store.attrs["config"]
    names = {field.name for field in dataclasses.fields(SweepSettings)}
    settings = from_table(SweepSettings, {key: config[key] for key in config if key in names})
    bundle = load_model(settings.model) if bundle is None else bundle
    changes: dict[str, Any] = {
        "pad": settings.pad,
        "grey": settings.channels,
        "fixed_size": size_to_resize_to(settings.data.sizes),
        "dtype": settings.dtype,
        "pad_to": tuple(tuple(size) for size in config.get("input", {}).get("pad_to", ())),
    }
    segmenter = bundle.segmenter.replace(**{k: v for k, v in changes.items() if v})
    bundle = dataclasses.replace(bundle, segmenter=segmenter)
    if source is None:
        source, _ = settings.data.open(
            segmenter.output, segmenter.input, read_labels=False, label_values=settings.labels
        )
    places = {image_id: index for index, image_id in enumerate(source.ids)}
    ids = {row.image_index: row.image_id for row in store.rows()}
    work = Work(
        bundle=bundle,
        source=source,
        chosen=tuple(places.get(ids.get(n, ""), 0) for n in range(max(ids, default=-1) + 1)),
        jobs=(),
        classes=(),
        batch_size=settings.batch_size,
        seed=settings.seed,
        tile=settings.data.sizes == "tile",
        max_pixels=settings.data.max_pixels,
    )
    _check_same(name, work, config)
    missing = frozenset(name for name in ids.values() if name not in places)
    return Explained(name=name, store=store, work=work, settings=settings, missing=missing)


def explainer_of(entry: Entry) -> Explainer | None:
    """The method of an entry with its settings; None where it is not installed any more."""
    if entry.method not in EXPLAINERS:
        return None
    try:
        return from_table(EXPLAINERS.get(entry.method), entry.settings)
    except ConfigError:  # of another version
        return None


def _check_same(name: str, work: Work, config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a model that is not the one that was explained."""
    for key, value in model_identity(work).items():
        if key in config and config[key] != value:
            raise ConfigError(
                f"{name}: the model differs from the one that was explained ({key}); name that "
                "one, or sweep again"
            )
