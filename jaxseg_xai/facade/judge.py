"""`jaxseg_xai.judge`: which method of a sweep to believe."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.data import as_source
from jaxseg_xai.facade.explain import open_model
from jaxseg_xai.judging import Judgement, judge_stores
from jaxseg_xai.store import Store


def judge(
    stores: str | os.PathLike[str] | Store | Sequence[str | os.PathLike[str] | Store],
    *,
    out: str | os.PathLike[str],
    metrics: Any = (),
    model: Any = None,
    data: Any = None,
    num_resamples: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> Judgement:
    """Score the explanations of sweeps, and compare their methods.

        jaxseg_xai.sweep(model="brain", data="brain", explain=["misure", "grad_cam"], out="a.zarr")
        print(jaxseg_xai.judge("a.zarr", metrics=["deletion"], out="runs/judge"))

    Args:
      stores: of sweeps, one a model, open or by their paths.
      out: folder in which the scores are kept; what it has is not computed again.
      metrics: a metric or several of them: names, metrics, pairs (label, metric), or tables with
        "metric" and its settings. Left out, all that do not explain again.
      model: the model of the sweeps, where it has no name by which to load it again; as for
        `jaxseg_xai.explain`.
      data: their images, as for `jaxseg_xai.explain`, where they are no data set by name; `model`
        says how they are read.
      num_resamples: of the bootstrap.
      seed: of the bootstrap.
      progress: show a bar.

    Returns:
      Tables of means with their intervals, and of paired tests; it prints, and `save(folder)`
      writes it.

    Raises:
      JaxsegError: a store, a metric or the folder cannot be used; no store can be judged.
    """
    if num_resamples < 1:
        raise ConfigError(f"num_resamples is {num_resamples}; it must be at least 1")
    if data is not None and model is None:
        raise ConfigError("data= goes with model=, which says how images are read; give both")
    bundle = source = None
    if model is not None:
        bundle = open_model(model)
    if bundle is not None and data is not None:
        spec = bundle.segmenter.input
        source = as_source(data, rank=spec.rank, raw=spec.raw)
    one = isinstance(stores, str | os.PathLike | Store)
    return judge_stores(
        [stores] if one else stores,
        Path(out),
        metrics=metrics,
        bundle=bundle,
        source=source,
        num_resamples=num_resamples,
        seed=seed,
        progress=progress,
    )
