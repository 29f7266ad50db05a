"""Where the time of a sweep went."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(kw_only=True)
class Times:
    """Where the time of a run went.

    Attributes:
      compile_seconds: spent compiling.
      compute_seconds: label -> seconds spent computing, reading and writing apart.
      computed: label -> explanations computed.
      num_images: images explained.
      num_programs: of methods that it took, those that were compiled before included.
    """

    compile_seconds: float = 0.0
    compute_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    computed: dict[str, int] = dataclasses.field(default_factory=dict)
    num_images: int = 0
    num_programs: int = 0


def sum_of(times: Sequence[Times]) -> Times:
    """What several processes took together."""
    found = Times()
    for one in times:
        found.compile_seconds += one.compile_seconds
        found.num_images += one.num_images
        found.num_programs = max(found.num_programs, one.num_programs)
        for name in ("compute_seconds", "computed"):
            ours, theirs = getattr(found, name), getattr(one, name)
            ours.update({label: ours.get(label, 0) + n for label, n in theirs.items()})
    return found
