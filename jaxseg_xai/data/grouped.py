"""Which images of a data set belong together, read off their names."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.stamps import files_of


class GroupedDataset:
    """A data set whose items belong to what a pattern finds in their ids.

    Attributes:
      class_names: of the data set.
      ids: of the data set.

    >>> from jaxseg_xai.data import open_dataset
    >>> GroupedDataset(open_dataset("shapes", num=12), r"(\\d+)\\d$")[11].group
    '0001'
    """

    def __init__(self, dataset: Source, pattern: str) -> None:
        """Group a data set.

        Args:
          dataset: any source.
          pattern: a regular expression; what its parentheses match (without any, all of it) names
            the group. An id in which it is not found is a group by itself, and ".*" makes every
            item one.

        Raises:
          ConfigError: no regular expression.
        """
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f"group {pattern!r} is no regular expression ({error}); write it like 'patient\\d+'"
            ) from None
        self._dataset = dataset
        self.class_names: tuple[str, ...] = dataset.class_names
        self.ids: Sequence[str] = dataset.ids

    def __len__(self) -> int:
        """Number of items."""
        return len(self._dataset)

    def files(self, index: int) -> Sequence[Path]:
        """The files that item `index` is read from."""
        return files_of(self._dataset, index)

    def __getitem__(self, index: int) -> Sample:
        """Item `index` with its group; as the data set underneath otherwise."""
        sample = self._dataset[index]
        found = self._pattern.search(sample.id)
        name = sample.id if found is None else found[1 if self._pattern.groups else 0] or sample.id
        return dataclasses.replace(sample, group=name)
