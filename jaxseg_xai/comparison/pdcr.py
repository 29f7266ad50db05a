"""A comparison's maps as the files of PdCR's code."""

from pathlib import Path

from jaxseg_xai.comparison.maps import BlockMap, ModelMaps
from jaxseg_xai.comparison.result import Comparison
from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data.pdcr import RegionRow, Result, Statistics, write_regions, write_results


def write_pdcr(comparison: Comparison, folder: Path) -> list[Path]:
    """Write maps, statistics and a list of regions, for each class in a folder of its name.

    Args:
      comparison: of maps whose regions are squares of images.
      folder: made if it is missing; where there is one class, its files lie right in it.

    Returns:
      The folders.

    Raises:
      DataError: a region is no square.
      JaxsegError: the folder cannot be written.
    """
    found = []
    for name in comparison.class_names:
        place = folder / name.replace("/", "-") if len(comparison.class_names) > 1 else folder
        results = [
            _result(comparison, model, one)
            for model in comparison.models
            for one in model.maps
            if one.class_name == name
        ]
        rows = dict.fromkeys(RegionRow(one.image, one.top, one.left) for one in results)
        sides = f"p{results[0].side}_b{results[0].block_size}"
        write_results(place, results)
        write_regions(place / f"block_coords_{sides}.txt", rows)
        found.append(place)
    return found


def _result(comparison: Comparison, model: ModelMaps, one: BlockMap) -> Result:
    if one.box is None:
        raise DataError(
            f"{one.name}: PdCR's files are of square regions of images, and this is none; sweep "
            "with roi.kind box"
        )
    top, left, side = one.box
    effects = one.paint(one.effects, model.block_size, one.grid)
    return Result(
        model=model.name,
        image=one.image_id,
        top=top,
        left=left,
        side=side,
        block_size=model.block_size,
        effects=effects,
        statistics=Statistics.of_map(
            effects,
            base=one.base,
            region_size=side**2,
            block_size=model.block_size,
            threshold=comparison.threshold,
        ),
    )
