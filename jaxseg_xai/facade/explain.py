"""`jaxseg_xai.explain`: images, a class and a method to maps."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import jax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.input_spec import Grey, Pad
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.data import as_source
from jaxseg_xai.explainers import EXPLAINERS, Explainer
from jaxseg_xai.facade.result import Explanations
from jaxseg_xai.models import Bundle, as_model, load_model
from jaxseg_xai.sweeps.config import Job, RoiConfig
from jaxseg_xai.sweeps.regions import parse_region
from jaxseg_xai.sweeps.run import run_in_memory
from jaxseg_xai.sweeps.sizes import Sizes, size_to_resize_to, with_common_sizes
from jaxseg_xai.sweeps.targets import check_reference
from jaxseg_xai.sweeps.work import Work, class_indices


def explain(
    model: Any,
    images: Any,
    classes: str | int | Sequence[str | int],
    method: str | Explainer,
    *,
    labels: Any = None,
    region: Any = None,
    target: str | None = None,
    others: Any = None,
    seed: int = 0,
    pad: Pad | None = None,
    channels: Grey | None = None,
    sizes: Sizes = "native",
    max_pixels: int | None = None,
    dtype: Dtype | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    **settings: Any,
) -> Explanations:
    """Explain what a model segments.

        found = jaxseg_xai.explain("brain", "scan.png", "white matter", "misure")
        found.plot()

    Args:
      model: name of a bundled model ("brain"), a folder with model.json, or what
        `jaxseg_xai.as_model` returns for a Flax module or a JAX function of your own.
      images: one image [H, W, C] (or volume [D, H, W, C]), many of them [N, H, W, C], the path of
        a file or folder, a `Sample` (which may say its spacing), a list of these, or a `Source`.
      classes: what is explained: a class's name or number, or several.
      method: name of a method ("ate"), or an explainer with its settings (`jaxseg_xai.Ate()`).
      labels: ground truth for the images: label maps [H, W], or planes [H, W, K] of classes that
        may overlap.
      region: which output pixels it is about: "image", "box", "box 48", "component",
        "component 2", a point (y, x) inside a component, or a mask bool [H, W]. Left out, methods
        that explain a region take a box around the middle of the class (of a volume the class's
        largest component), the others the whole image.
      target: which pixels of the class: "prediction", "truth", "false_positives" or
        "false_negatives"; the last three need `labels`. Left out, it is the method's usual one.
      others: images like these, from which methods take what they put in the place of an image's
        own content; in the forms of `images`. Left out, the other images of `images` give it.
      seed: of everything that is drawn.
      pad: what to do with sizes that the model does not take: "refuse", "edge", "reflect" or
        "constant". Left out, what the model's description says.
      channels: "repeat" shows a grey image to a model of three channels, "refuse" does not. Left
        out, what the model's description says.
      sizes: what to do with images of many sizes, each of which needs compiling: "native", nothing;
        "bucket", pad them to at most four common sizes; "tile", explain each target on a part of
        the image, as small as holds all that it sees; or a size, (256, 256) for instance, to which
        all are resized. Maps come back on the images' own grid.
      max_pixels: larger images go through the model tile by tile and are explained on tiles,
        whatever `sizes` says; left out, 2**22, as far as the model does not cut them up itself.
      dtype: what the model computes in.
      batch_size: explanations at a time, over all devices.
      progress: show a bar.
      **settings: of the method, block_size=8 for instance.

    Returns:
      One explanation per image and class, in that order; maps on the images' own grid.

    Raises:
      JaxsegError: the model, an image, a class or a setting cannot be used; in one line, with the
        remedy. (Of several images, one that cannot be explained has status FAILED or EMPTY_IMAGE
        and a reason, as long as there are others.)
    """
    bundle = open_model(
        model, pad=pad, grey=channels, fixed_size=size_to_resize_to(sizes), dtype=dtype
    )
    spec, output = bundle.segmenter.input, bundle.segmenter.output
    source = as_source(images, labels, rank=spec.rank, raw=spec.raw)
    if batch_size is None:
        batch_size = max(8, jax.local_device_count())
    if sizes == "bucket":
        segmenter = with_common_sizes(
            bundle.segmenter, source, range(len(source)), batch_size=batch_size
        )
        bundle = dataclasses.replace(bundle, segmenter=segmenter)
    explainer = make_explainer(method, settings)
    if target is not None:
        check_reference(target)
    job = Job(
        label=explainer.name,
        explainer=explainer,
        region=None if region is None else parse_region(region),
        target=target,  # pyright: ignore[reportArgumentType]
        given=frozenset(settings) if isinstance(method, str) else None,
    ).for_rank(spec.rank)
    explainer = job.explainer
    work = Work(
        bundle=bundle,
        source=source,
        chosen=tuple(range(len(source))),
        jobs=(job,),
        classes=class_indices(classes, output, bundle.name),
        roi=RoiConfig().for_rank(spec.rank),
        others=None
        if others is None
        else as_source(others, rank=spec.rank, raw=spec.raw, name="other"),
        batch_size=batch_size,
        seed=seed,
        keep_labels=labels is not None,
        tile=sizes == "tile",
        max_pixels=max_pixels,
    )
    work.check()
    needs = explainer.needs & {"patches", "others"}
    if needs and others is None and len(source) < 2:
        zero = hasattr(explainer, "perturbation")
        remedy = ', or set perturbation="zero"' if zero else ""
        raise ConfigError(
            f"{explainer.name} puts parts of other images into one, and there is one image only; "
            f"give others= images like it{remedy}"
        )
    found = Explanations(run_in_memory(work, progress=progress))
    if all(one.status_name in ("FAILED", "EMPTY_IMAGE") for one in found):
        several = f"none of {len(source)} images can be explained: " if len(source) > 1 else ""
        raise ConfigError(f"{several}{found[0].reason}")
    return found


def open_model(model: Any, **options: Any) -> Bundle:
    """A model by name or folder, or described by `as_model`, with those options set that are there.

    Args:
      model: the model.
      **options: of `Segmenter.replace`; None leaves what the model says.
    """
    if options.get("grey") not in (None, *get_args(Grey)):
        raise ConfigError(f"channels is {options['grey']!r}; use {', '.join(get_args(Grey))}")
    bundle = load_model(model) if isinstance(model, str | Path) else as_model(model)
    changes = {name: value for name, value in options.items() if value is not None}
    return dataclasses.replace(bundle, segmenter=bundle.segmenter.replace(**changes))


def make_explainer(method: str | Explainer, settings: dict[str, Any]) -> Explainer:
    """A method by name with its settings, or an explainer, with some of its settings changed."""
    if isinstance(method, str):
        return from_table(EXPLAINERS.get(method), settings)
    if not isinstance(method, Explainer):
        raise ConfigError(
            f"method is {method!r}; give a name ({', '.join(EXPLAINERS.names())}) or an explainer"
        )
    known = {field.name for field in dataclasses.fields(method)}  # pyright: ignore[reportArgumentType]
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown key {name}; the keys are {', '.join(sorted(known))}")
    return dataclasses.replace(method, **settings)  # pyright: ignore[reportArgumentType]
