"""How time and memory go with devices, lanes, image size and number of blocks; the roofline."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.cases import base
from benchmarks.cases.ate import even
from benchmarks.cases.misure import some_job, step_flops
from benchmarks.cost import bytes_of, flops_of
from benchmarks.inputs import ROI_SIDE, choose_images, make_batch, make_pool, open_model
from benchmarks.machine import device_memory, peak_memory, program_bytes
from benchmarks.record import Measurement, Row, Timing
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from benchmarks.validation import Validation
from jaxseg_xai.devices.mesh import AXIS, device_mesh, replicate, shard_examples
from jaxseg_xai.explainers import Ate, MisurePaper
from jaxseg_xai.explainers.misure.windows import WholeView
from jaxseg_xai.models.bundle import Bundle
from jaxseg_xai.ops.blocks import any_in_block

_BLOCKS, _QUICK_BLOCKS = (8, 32, 128), (2, 8)
#: One device and many do the same operations, in batches of other sizes.
_TOLERANCE = 1e-4
_MISURE = MisurePaper(num_iterations=1, max_dilations=8)


class _Program(NamedTuple):
    """A function of (shared, batch) that is mapped over the batch.

    Attributes:
      name: of it.
      function: what is compiled.
      shared: what all of the batch need.
      batch: pytree of arrays [lanes, ...].
    """

    name: str
    function: Any
    shared: Any
    batch: Any

    def first(self, count: int) -> "_Program":
        """The same on the first lanes."""
        return self._replace(batch=jax.tree.map(lambda leaf: leaf[:count], self.batch))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Point:
    """A program at one batch and mesh; `run` runs it."""

    run: Callable[[], Any]
    compiled: Any
    compile_seconds: float
    timing: Timing
    result: Any


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Points along each of the four axes; "ours" is the forward pass on all devices.

    Its repetitions are spread over the whole case: what the machine does meanwhile is noise.
    """
    bundle = open_model(settings)
    images, classes = choose_images(bundle, settings, settings.lanes)
    forward = _Program("forward", bundle.predict, bundle.variables, images)
    step = _misure_step(bundle, images, classes)
    forwards = _over_devices(settings, forward, mesh)
    ours = forwards[mesh.size]
    axes = {
        "devices": lambda: _over_devices(settings, step, mesh),
        forward.name: lambda: _over_lanes(settings, forward, mesh),
        step.name: lambda: _over_lanes(settings, step, mesh),
        "size": lambda: _over_sizes(settings, bundle, mesh),
        "blocks": lambda: _over_blocks(settings, bundle, images[:1], classes[:1], mesh),
    }
    found: dict[str, Any] = {}
    seconds: list[float] = []
    for number, (axis, measure) in enumerate(axes.items(), start=1):
        found[axis] = measure()
        missing = settings.repetitions * number // len(axes) - len(seconds)
        if missing:
            pace = dataclasses.replace(base.pace(settings), repetitions=missing)
            seconds += interleave({"ours": ours.run}, pace)[0]["ours"].seconds
    ours = dataclasses.replace(ours, timing=Timing.of(seconds))
    masks: dict[int, _Point] = found["devices"]
    lanes = {program.name: found[program.name] for program in (forward, step)}
    worst = max(_difference(points[k], points[1]) for points in (forwards, masks) for k in points)
    labels = [np.argmax(point.result, axis=-1) for point in forwards.values()]
    changed = sum((label != labels[0]).sum() for label in labels)
    flops = flops_of(bundle.predict, bundle.variables, images[:1])
    of_step = _step_flops(bundle, images, classes)
    roofline = [
        _roofline(forward.name, ours, flops, settings.lanes, mesh),
        _roofline(step.name, masks[mesh.size], of_step, settings.lanes, mesh),
    ]
    return Measurement(
        compile_seconds=ours.compile_seconds,
        timings={"ours": ours.timing},
        work={"forwards": float(settings.lanes)},
        flops=None if flops is None else flops * settings.lanes,
        flops_of="forward passes",
        memory=peak_memory(ours.compiled, mesh),
        validation=Validation(
            max_abs_diff=worst,
            tolerance=_TOLERANCE,
            unit="logits, mask",
            passed=worst <= _TOLERANCE,
            flips=[],
            why="logits and masks after a step of MiSuRe, on every number of devices against one",
            measured={"pixels that change their label": float(changed)},
        ),
        series={
            "devices": [
                *_efficiency(forward.name, forwards, settings),
                *_efficiency(step.name, masks, settings),
            ],
            "lanes": [row for rows in lanes.values() for row in rows],
            "size": found["size"],
            "blocks": found["blocks"],
            "memory": [_memory_end(name, rows, mesh) for name, rows in lanes.items()],
            "roofline": [row for row in roofline if row is not None],
        },
    )


def _measure(program: _Program, mesh: Mesh, settings: Settings) -> _Point:
    function = jax.jit(shard_examples(program.function, mesh))
    shared = replicate(program.shared, mesh)
    batch = jax.device_put(program.batch, NamedSharding(mesh, PartitionSpec(AXIS)))
    compiled, seconds = compile_apart(function, shared, batch)

    def run() -> Any:
        return compiled(shared, batch)

    timings, results = interleave({"ours": run}, base.pace(settings))
    return _Point(
        run=run,
        compiled=compiled,
        compile_seconds=seconds,
        timing=timings["ours"],
        result=jax.device_get(results["ours"]),
    )


def _misure_step(bundle: Bundle, images: np.ndarray, classes: np.ndarray) -> _Program:
    """One iteration of every image, all together: the new masks."""
    batch = make_batch(bundle, images, classes, explainer="misure_paper")
    states = jax.jit(jax.vmap(lambda *of: _MISURE.start(some_job(*of))))(
        batch.images, batch.targets
    )

    def step(variables: Any, batch: tuple) -> jax.Array:
        def one(image: Any, target: Any, state: Any) -> jax.Array:
            look = functools.partial(WholeView(bundle.predict, variables).logits, None, image)
            return _MISURE.step(look, some_job(image, target), state).mask

        return jax.vmap(one)(*batch)

    jobs = (batch.images, batch.targets, states)
    return _Program("MiSuRe step", step, bundle.variables, jobs)


def _over_devices(settings: Settings, program: _Program, mesh: Mesh) -> dict[int, _Point]:
    """The same lanes on 1, 2, 4, ... and all devices."""
    return {
        count: _measure(program, device_mesh(list(mesh.devices.flat[:count])), settings)
        for count in _doubling(mesh.size)
        if settings.lanes % count == 0
    }


def _efficiency(name: str, points: dict[int, _Point], settings: Settings) -> list[Row]:
    """Strong scaling: efficiency k is the time on one device over k times that on k."""
    alone = points[1].timing.median
    return [
        {
            "program": name,
            "devices": count,
            "lanes": settings.lanes,
            "seconds": point.timing.median,
            "spread": point.timing.spread,
            "efficiency": alone / (count * point.timing.median),
        }
        for count, point in points.items()
    ]


def _over_lanes(settings: Settings, program: _Program, mesh: Mesh) -> list[Row]:
    counts = [count * mesh.size for count in _doubling(settings.lanes // mesh.size)]
    return [
        _row(program, _measure(program.first(count), mesh, settings), count, settings.size)
        for count in counts
    ]


def _over_sizes(settings: Settings, bundle: Bundle, mesh: Mesh) -> list[Row]:
    """One lane a device, at a half to twice the size."""
    rows: list[Row] = []
    stride = bundle.predict.stride
    for size in (settings.size // 2, settings.size, 2 * settings.size):
        size = max(stride, size // stride * stride)
        channels = bundle.card.architecture_config().in_channels
        images = np.random.default_rng(0).random((mesh.size, size, size, channels), np.float32)
        program = _Program("forward", bundle.predict, bundle.variables, images)
        rows.append(_row(program, _measure(program, mesh, settings), mesh.size, size))
    return rows


def _row(program: _Program, point: _Point, lanes: int, size: int) -> Row:
    return {
        "program": program.name,
        "lanes": lanes,
        "size": size,
        "seconds": point.timing.median,
        "spread": point.timing.spread,
        "per_second": lanes / point.timing.median,
        "program_bytes": program_bytes(point.compiled),
    }


def _over_blocks(
    settings: Settings, bundle: Bundle, images: np.ndarray, classes: np.ndarray, mesh: Mesh
) -> list[Row]:
    """The ATE of more and more blocks of one image: one program, as the blocks are data."""
    ate = Ate(region_side=ROI_SIDE)
    pool = make_pool(bundle, settings, ate.block_size)
    batch = make_batch(bundle, images, classes, explainer="ate", pool=pool)
    explain = jax.jit(functools.partial(ate.explain, bundle.predict, mesh=mesh))
    arrays = replicate((bundle.variables, batch.images, batch.targets, ate.draw(batch)), mesh)
    outside = ~np.asarray(any_in_block(batch.targets.region[0], ate.block_size))
    # All of them would take many minutes where every block passes; the case `ate` does that.
    counts = [c for c in (_QUICK_BLOCKS if settings.quick else _BLOCKS) if c <= outside.sum()]
    masks: dict[int, np.ndarray] = {}
    chosen = outside
    for count in reversed(counts):  # the fewer are some of the more
        chosen = even(chosen, count)
        masks[count] = chosen[None]
    compiled, _ = compile_apart(explain, *arrays, blocks=outside[None])
    timings, results = interleave(
        {
            f"ours {count}": lambda blocks=blocks: compiled(*arrays, blocks=blocks)
            for count, blocks in masks.items()
        },
        base.pace(settings),
    )
    return [
        {
            "blocks": count,
            "seconds": timings[f"ours {count}"].median,
            "spread": timings[f"ours {count}"].spread,
            "interventions": float(results[f"ours {count}"].scores["num_interventions"][0]),
        }
        for count in counts
    ]


def _memory_end(name: str, rows: list[Row], mesh: Mesh) -> Row:
    """Lanes at which a program fills the memory, from a line through its bytes."""
    lanes = [float(row["lanes"] or 0) / mesh.size for row in rows]
    needed = [float(row["program_bytes"] or 0) for row in rows]
    memory = device_memory(mesh)
    end = None
    if memory is not None and len(rows) > 1 and max(needed) > min(needed):
        each, fixed = np.polyfit(lanes, needed, 1)
        end = float(mesh.size * int((memory - fixed) / each))
    return {"program": name, "memory_bytes_per_device": memory, "predicted_lanes": end}


def _roofline(name: str, point: _Point, flops: float | None, lanes: int, mesh: Mesh) -> Row | None:
    """Achieved FLOP/s at an arithmetic intensity: FLOPs over the bytes of the compiled program."""
    moved = bytes_of(point.compiled)  # of the program of one device
    if flops is None or moved is None:
        return None
    return {
        "program": name,
        "intensity": flops * lanes / (moved * mesh.size),
        "flops_per_second": flops * lanes / point.timing.median,
    }


def _step_flops(bundle: Bundle, images: np.ndarray, classes: np.ndarray) -> float | None:
    batch = make_batch(bundle, images[:1], classes[:1], explainer="misure_paper")
    image, target = jax.tree.map(lambda leaf: leaf[0], (batch.images, batch.targets))
    return step_flops(_MISURE, bundle, image, target)


def _difference(one: _Point, other: _Point) -> float:
    return float(np.max(np.abs(one.result - other.result)))


def _doubling(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return counts if most == 1 else [*counts, most]
