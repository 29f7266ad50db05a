"""Where the time of a sweep went."""

import dataclasses


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
