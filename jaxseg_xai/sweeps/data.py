"""Which images a sweep explains, as a person names them."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import Source
from jaxseg_xai.data import SOURCES, name_of_source, open_dataset, options_of
from jaxseg_xai.data.degraded import Degradation, DegradedDataset
from jaxseg_xai.data.files import name_of
from jaxseg_xai.data.grouped import GroupedDataset
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.nifti import Plane
from jaxseg_xai.sweeps.sizes import Sizes

#: Options of data sets that are settings of their own here.
OPTIONS = ("root", "labels", "window", "plane", "size", "num")
#: Options of data sets that the model or other settings say.
TOLD = ("class_names", "read_labels", "label_values", "rank", "raw")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images.

    Attributes:
      source: a data set (see `jaxseg-xai sources`), a folder of images, or one image file (its
        siblings in the folder then give the patches that some methods draw).
      root: folder of your copy of the data set, where source is its name.
      options: further options of the data set, as `jaxseg-xai sources NAME` lists them.
      split: train, validation or test, where the data set has splits; some have others.
      items: names of the only images to explain; all where empty.
      limit: at most so many images, evenly spaced; 0 means all.
      labels: folder of label maps, for a folder of images.
      window: two intensities that become 0 and 1, for a folder of images.
      group: regular expression; what it finds in an image's name (in its parentheses, if it has
        any) says which images belong together, "patient[0-9]+" for example. They give each other no
        patches. Empty: what the data set knows, the slices of a volume for one; ".*": none do.
      plane: of the slices of volumes, where the model takes images; None: axial.
      sizes: what to do with images of many sizes, for each of which every method compiles a
        program: "native" (nothing), "bucket" (pad them to at most four common sizes), "tile"
        (explain each target on a part of the image, as small as holds all that it sees), or a size
        such as 256 256, to which all are resized and from which maps are brought back.
      max_pixels: images of more pixels go through the model tile by tile, and are explained on
        tiles, whatever `sizes` says; None: 2**22, as far as the model does not cut them up itself.
      size: side of the generated images; 0 means the usual one (synthetic data sets).
      num: how many images are generated; 0 means the usual number (synthetic data sets).
      degrade: make every image worse, see `jaxseg_xai.data.degraded`: by noise, blur, loss of
        contrast, or one of them per image (mixed).
      severity: how much worse, 1 to 5; mixed draws from 0 to this for each image.
    """

    source: str = ""
    root: Path | None = None
    options: Mapping[str, int | float | bool | str] = dataclasses.field(default_factory=dict)
    split: str = "test"
    items: tuple[str, ...] = ()
    limit: int = setting(0, at_least=0)
    labels: Path | None = None
    window: tuple[float, float] | None = None
    group: str = ""
    plane: Plane | None = None
    sizes: Sizes = setting("native", at_least=1)
    max_pixels: int | None = setting(None, at_least=1)
    size: int = setting(0, at_least=0)
    num: int = setting(0, at_least=0)
    degrade: Degradation | Literal["none"] = "none"
    severity: int = 3

    def open(
        self,
        output: OutputSpec | None,
        taken: InputSpec | None = None,
        *,
        read_labels: bool = True,
        label_values: LabelValues | None = None,
    ) -> tuple[Source, list[int]]:
        """The data set for a model, and which of its items to use.

        Args:
          output: of the model; its classes are those of the label maps in a folder. None: any.
          taken: what the model takes: slices or volumes, scaled or with the numbers of their files;
            None: what the data set usually gives.
          read_labels: whether label maps are read where they are files.
          label_values: what their values mean; None: classes.

        Raises:
          ConfigError: no such data set, item or option.
          DataError: the folder cannot be used.
        """
        # A label map of classes that may overlap still has a background.
        background = ("background",) if output is not None and output.overlapping else ()
        names = () if output is None else (*background, *output.class_names)
        labels: dict[str, Any] = {}
        if label_values not in (None, LabelValues()):
            labels = {"label_values": label_values}
        source, chosen = self._open(names, taken, read_labels=read_labels, **labels)
        if self.group and not any(re.search(self.group, name) for name in source.ids):
            raise ConfigError(
                f"data.group {self.group!r} is found in no name ({', '.join(source.ids[:3])}, ...);"
                " write what the names of one patient have in common"
            )
        return source, chosen

    def open_pool(self, source: str, taken: InputSpec | None = None) -> Source:
        """Another data set that only gives patches, its images read as these are."""
        if source in SOURCES:
            return self._changed(open_dataset(source, self.split))
        unset = {"labels": None, "items": (), "limit": 0, "size": 0, "num": 0}
        unset |= {"root": None, "options": {}}
        return dataclasses.replace(self, source=source, **unset)._open(
            (), taken, read_labels=False
        )[0]

    def _open(
        self,
        class_names: tuple[str, ...],
        taken: InputSpec | None,
        *,
        read_labels: bool,
        **options: Any,
    ) -> tuple[Source, list[int]]:
        if not self.source:
            raise ConfigError(
                f"data.source is empty: name a data set ({', '.join(SOURCES.names())}), a folder "
                "of images or an image file"
            )
        source, items = Path(self.source).expanduser(), self.items
        if source.is_file():
            source, items = source.parent, (*items, name_of(source))
            if source.name == "images":  # its label maps are in labels/ beside it
                source = source.parent
        set_here = {name: getattr(self, name) for name in OPTIONS}
        options |= {**self.options, **{name: value for name, value in set_here.items() if value}}
        if source.is_dir() and self.source not in SOURCES:
            if self.root is not None:
                raise ConfigError(
                    f"data.root goes with the name of a data set, and {self.source} is a folder; "
                    "leave it out"
                )
            source = source.absolute()  # a Path forgets the "./" of "./brain"
        told: dict[str, Any] = {"class_names": class_names, "read_labels": read_labels}
        if taken is not None:
            told |= {"rank": taken.rank, "raw": taken.raw}
        name = name_of_source(source)
        known = options_of(name)
        if "label_values" in options and "label_values" not in known:
            raise ConfigError(
                f"labels: {name} itself knows what the values of label maps mean; leave them out"
            )
        options |= {option: value for option, value in told.items() if option in known}
        found = self._changed(open_dataset(str(source), self.split, **options))
        return found, self._select(found, items)

    def _changed(self, source: Source) -> Source:
        """The data set with what is asked for beside its own options."""
        if self.group:
            source = GroupedDataset(source, self.group)
        if self.degrade == "none":
            return source
        return DegradedDataset(source, self.degrade, self.severity)

    def _select(self, source: Source, items: tuple[str, ...]) -> list[int]:
        chosen = list(range(len(source)))
        if items:
            known = {name: index for index, name in enumerate(source.ids)}
            # A volume's slices are named volume#017: its name alone means all of them.
            families = {
                item: [i for n, i in known.items() if n.rpartition("#")[0] == item]
                for item in items
            }
            unknown = [item for item in items if item not in known and not families[item]]
            if unknown:
                raise ConfigError(
                    f"no item {', '.join(unknown)} in {self.source}; it has "
                    f"{', '.join(source.ids[:3])}, ... ({len(source)} items)"
                )
            found = [known[i] if i in known else families[i] for i in items]
            flat = [n for item in found for n in (item if isinstance(item, list) else [item])]
            chosen = list(dict.fromkeys(flat))
        if 0 < self.limit < len(chosen):
            step = len(chosen) / self.limit
            chosen = [chosen[int((i + 0.5) * step)] for i in range(self.limit)]
        return chosen
