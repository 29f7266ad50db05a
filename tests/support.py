"""Models, problems and batches for tests, in one line each."""

import re

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import Batch, Problem
from jaxseg_xai.ops.random import make_key


def segmenter_of(apply, *, rank=2, channels=1, class_names=("background", "object"), **options):
    """A function (variables, inputs) -> logits as a `Segmenter`; options of both specs."""
    output = {name: options.pop(name) for name in ("activation", "threshold") if name in options}
    return Segmenter(
        apply=apply,
        input=InputSpec(rank=rank, channels=channels, **options),
        output=OutputSpec(class_names=class_names, **output),
    )


def problem_of(apply, variables=(), *, seed=0, pool=None, **options):
    """A problem of a function, or of a `Segmenter`."""
    segmenter = apply if isinstance(apply, Segmenter) else segmenter_of(apply, **options)
    return Problem(segmenter=segmenter, variables=variables, key=make_key(seed), pool=pool)


def target_of(problem, image, class_index=1, region=None):
    """One image's own prediction of a class, in a region (default: everywhere)."""
    logits = problem.segmenter.logits(problem.variables, image[None])[0]
    region = np.ones(image.shape[:-1], bool) if region is None else np.asarray(region)
    return SegmentTarget(
        class_index=np.int32(class_index),
        region=region,
        reference=np.asarray(problem.segmenter.output.segment_of(logits, class_index)),
    )


def batch_of(problem, images, *, class_index=1, region=None, reference=None, others=None):
    """Images [B, *S, C] with the model's own prediction as the target, unless one is given."""
    count = len(images)
    classes = np.broadcast_to(np.asarray(class_index, np.int32), (count,))
    regions = np.ones(images.shape[:-1], bool) if region is None else np.asarray(region)
    if reference is None:
        logits = problem.segmenter.logits(problem.variables, images)
        of_class = [
            problem.segmenter.output.segment_of(x, c) for x, c in zip(logits, classes, strict=True)
        ]
        reference = np.stack([np.asarray(plane) for plane in of_class])
    return Batch(
        images=images,
        targets=SegmentTarget(class_index=classes.copy(), region=regions, reference=reference),
        image_ids=np.stack([np.zeros(count), np.arange(count)], axis=1).astype(np.uint32),
        valid=np.ones(count, bool),
        others=others,
    )


def labels_fail(sample, words):
    """The image is there; its labels are not, and the sample says why in one line."""
    assert sample.labels is None
    assert isinstance(sample.labels_error, DataError)
    text = str(sample.labels_error)
    assert "\n" not in text
    assert re.search(words, text), text
