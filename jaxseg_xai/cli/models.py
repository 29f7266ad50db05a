"""`jaxseg-xai models`: the bundled models and the architectures, and what they cost."""

import dataclasses
import re
from collections.abc import Iterator

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.cli.listings import print_registry
from jaxseg_xai.core.fields import check, setting
from jaxseg_xai.models import MODELS, bundled_models
from jaxseg_xai.models.bundle import Bundle
from jaxseg_xai.models.folder import load_model, read_card
from jaxseg_xai.models.summary import Summary, summarise, untrained

#: Volumes have this part of an image's side along every axis.
_OF_VOLUMES = 4
_WIDTHS = (28, 16, 10, 11, 7, 6, 9, 6)
_HEAD = ("model", "paper", "parameters", "size", "GFLOP", "stride", "field", "saving")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """What models there are; with `--size`, what they cost and see.

    The columns: GFLOP of a forward pass (convolutions and matrix products); stride, pixels of the
    image per pixel of the deepest layer; field, the pixels that can change one pixel of the output;
    saving, how many times fewer FLOPs an intervention on a block has in windows.

    Attributes:
      size: side of the images in pixels; volumes have a quarter of it. None: lists names only.
      only: names of bundled models and architectures; () means all.
      block_size: side of the blocks that are intervened on, in pixels.
      region_side: side of the box in the output that matters, in pixels.
    """

    size: int | None = setting(None, at_least=32)
    only: tuple[str, ...] = ()
    block_size: int = setting(8, at_least=1)
    region_side: int = setting(32, at_least=1)


def run(config: ModelsConfig, command: str) -> int:
    """Print the list or the table."""
    del command
    check(config)
    if config.size is None:
        _list()
        return EXIT_OK
    _print(_HEAD)
    for bundle in _bundles(config.only):
        side = config.size // (_OF_VOLUMES if bundle.segmenter.input.rank == 3 else 1)
        sides = {"block_size": config.block_size, "region_side": config.region_side}
        _print(_cells(bundle, summarise(bundle, side, **sides)))
    return EXIT_OK


def _bundles(only: tuple[str, ...]) -> Iterator[Bundle]:
    bundled = bundled_models()
    for name in only or (*bundled, *MODELS.names()):
        yield load_model(name) if name in bundled else untrained(name)


def _cells(bundle: Bundle, found: Summary) -> tuple[str, ...]:
    doc = MODELS.get(bundle.card.architecture).__doc__ or ""
    paper = re.search(r"arXiv [\d.]+\d", doc)
    return (
        bundle.name,
        paper[0] if paper else "",
        f"{found.num_parameters / 1e6:.2f} M",
        _times(found.size),
        f"{found.flops / 1e9:.2f}",
        str(found.output_stride or ""),
        "all" if found.receptive_field == found.size else _times(found.receptive_field),
        f"{found.saving:.1f}",
    )


def _times(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))


def _print(cells: tuple[str, ...]) -> None:
    line = "  ".join(text.ljust(n) for text, n in zip(cells, _WIDTHS, strict=True))
    print(line.rstrip(), flush=True)  # each takes seconds


def _list() -> None:
    for name, folder in bundled_models().items():
        card = read_card(folder)
        print(f"{name:20} {card.architecture}, classes {', '.join(card.class_names)}")
        told = {
            "trained on": card.about.get("data"),
            "held-out Dice": card.about.get("dice", {}).get("mean"),
            "licence": card.about.get("licence"),
        }
        known = [f"{what} {value}" for what, value in told.items() if value is not None]
        print(f"{'':20} {', '.join(known)}")
    print("architectures for a model.json of your own:")
    print_registry(MODELS)


COMMAND = Command(config=ModelsConfig, run=run, example="jaxseg-xai models --size 256")
