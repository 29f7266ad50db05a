"""How time and memory go with devices, lanes, image size and number of blocks; the roofline."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.agree.ate import Ates
from benchmarks.agree.kind import Ours
from benchmarks.agree.verdict import Bound, judge
from benchmarks.arrays import Inputs
from benchmarks.harness.cost import bytes_of, flops_of
from benchmarks.harness.machine import device_memory, peak_memory, program_bytes
from benchmarks.harness.record import Measurement, Row, Timing
from benchmarks.harness.settings import Defaults, Settings
from benchmarks.harness.timing import compile_apart, interleave
from benchmarks.methods.ate import drawn, even, outside
from benchmarks.methods.base import Case, pace
from benchmarks.methods.inputs import BOX_SIDE, channels_of, choose_images, inputs_of, open_model
from benchmarks.methods.misure import jobs_of, masked_model, step_flops
from jaxseg_xai.devices.mesh import AXIS, device_mesh, replicate, shard_examples
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.models import Bundle

_BLOCKS, _QUICK_BLOCKS = (8, 32, 128), (2, 8)
#: One device and many do the same operations, in batches of other sizes.
_TOLERANCE = 1e-4
_MISURE = MisurePaper(num_iterations=1, max_dilations=8)


class _Program(NamedTuple):
    """A function of (shared, batch of lanes), which is mapped over the batch."""

    name: str
    function: Any
    shared: Any
    batch: Any

    def first(self, count: int) -> "_Program":
        """The same on the first lanes."""
        return self._replace(batch=jax.tree.map(lambda leaf: leaf[:count], self.batch))


class _Point(NamedTuple):
    """A program at one batch and mesh; `run` runs it."""

    run: Callable[[], Any]
    compiled: Any
    compile_seconds: float
    timing: Timing
    result: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingCase(Case):
    """Points along each of the four axes; "ours" is the forward pass on all devices.

    Its repetitions are spread over the whole case: what the machine does meanwhile is noise.
    """

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        bundle = open_model(settings)
        images, classes = choose_images(bundle, settings, settings.lanes)
        inputs, model = inputs_of(bundle, images, classes, _MISURE), bundle.segmenter
        forward = _Program("forward", model, bundle.variables, images)
        step = _misure_step(bundle, inputs)
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
                more = dataclasses.replace(pace(settings), repetitions=missing)
                seconds += interleave({"ours": ours.run}, more)[0]["ours"].seconds
        ours = ours._replace(timing=Timing.of(seconds))
        masks: dict[int, _Point] = found["devices"]
        lanes = {program.name: found[program.name] for program in (forward, step)}
        worst = max(
            float(np.max(np.abs(point.result - points[1].result)))
            for points in (forwards, masks)
            for point in points.values()
        )
        labels = [np.asarray(model.output.prediction(point.result)) for point in forwards.values()]
        changed = sum((label != labels[0]).sum() for label in labels)
        flops = flops_of(model, bundle.variables, images[:1])
        of_step = step_flops(_MISURE, bundle, inputs)
        roofline = [
            _roofline(forward.name, ours, flops, settings.lanes, mesh),
            _roofline(step.name, masks[mesh.size], of_step, settings.lanes, mesh),
        ]
        series = {
            "devices": [
                _row(name, point, settings.lanes, devices=count)
                # Strong scaling: time on one device over k times that on k.
                | {"efficiency": points[1].timing.median / (count * point.timing.median)}
                for name, points in ((forward.name, forwards), (step.name, masks))
                for count, point in points.items()
            ],
            "lanes": [row for rows in lanes.values() for row in rows],
            "size": found["size"],
            "blocks": found["blocks"],
            "memory": [_memory_end(name, rows, mesh) for name, rows in lanes.items()],
            "roofline": [row for row in roofline if row is not None],
        }
        return Measurement(
            compile_seconds=ours.compile_seconds,
            timings={"ours": ours.timing},
            work={"forwards": float(settings.lanes)},
            flops=None if flops is None else flops * settings.lanes,
            flops_of="forward passes",
            memory=peak_memory(ours.compiled, mesh),
            validation=judge(
                Bound("logits, mask", worst, _TOLERANCE),
                why="logits, and masks after a step of MiSuRe, on many devices against one",
                measured={"pixels that change their label": float(changed)},
            ),
            series=series,
        )


def _measure(program: _Program, mesh: Mesh, settings: Settings) -> _Point:
    function = jax.jit(shard_examples(program.function, mesh))
    shared = replicate(program.shared, mesh)
    batch = jax.device_put(program.batch, NamedSharding(mesh, PartitionSpec(AXIS)))
    compiled, seconds = compile_apart(function, shared, batch)

    def run() -> Any:
        return compiled(shared, batch)

    timings, results = interleave({"ours": run}, pace(settings))
    return _Point(run, compiled, seconds, timings["ours"], jax.device_get(results["ours"]))


def _misure_step(bundle: Bundle, inputs: Inputs) -> _Program:
    """One iteration of every image, all together: the new masks."""
    jobs = jobs_of(inputs)
    states = jax.jit(jax.vmap(_MISURE.start))(jobs)

    def step(variables: Any, batch: tuple) -> jax.Array:
        def one(job: Any, state: Any) -> jax.Array:
            return _MISURE.step(masked_model(bundle, variables, job), job, state).mask

        return jax.vmap(one)(*batch)

    return _Program("MiSuRe step", step, bundle.variables, (jobs, states))


def _over_devices(settings: Settings, program: _Program, mesh: Mesh) -> dict[int, _Point]:
    """The same lanes on 1, 2, 4, ... and all devices."""
    return {
        count: _measure(program, device_mesh(list(mesh.devices.flat[:count])), settings)
        for count in _doubling(mesh.size)
        if settings.lanes % count == 0
    }


def _over_lanes(settings: Settings, program: _Program, mesh: Mesh) -> list[Row]:
    points = {
        count * mesh.size: _measure(program.first(count * mesh.size), mesh, settings)
        for count in _doubling(settings.lanes // mesh.size)
    }
    return [
        _row(program.name, point, count, size=settings.size, **_rate(point, count))
        for count, point in points.items()
    ]


def _over_sizes(settings: Settings, bundle: Bundle, mesh: Mesh) -> list[Row]:
    """One lane a device, at a half to twice the size."""
    rows, stride = [], bundle.segmenter.input.multiple_of
    for size in (settings.size // 2, settings.size, 2 * settings.size):
        size = max(stride, size // stride * stride)
        shape = (mesh.size, size, size, channels_of(bundle))
        images = np.random.default_rng(0).random(shape, np.float32)
        program = _Program("forward", bundle.segmenter, bundle.variables, images)
        point = _measure(program, mesh, settings)
        rows.append(_row(program.name, point, mesh.size, size=size, **_rate(point, mesh.size)))
    return rows


def _row(name: str, point: _Point, lanes: int, **more: Any) -> Row:
    timing = point.timing
    times = {"seconds": timing.median, "spread": timing.spread}
    return {"program": name, "lanes": lanes} | more | times


def _rate(point: _Point, lanes: int) -> dict[str, Any]:
    needed = program_bytes(point.compiled)
    return {"per_second": lanes / point.timing.median, "program_bytes": needed}


def _over_blocks(
    settings: Settings, bundle: Bundle, images: np.ndarray, classes: np.ndarray, mesh: Mesh
) -> list[Row]:
    """The ATE of more and more blocks of one image: one program, as the blocks are data."""
    ate = Ate(region_side=BOX_SIDE)
    inputs = drawn(settings, bundle, inputs_of(bundle, images, classes, ate), ate)
    ours = Ours(Ates(), ate, bundle, inputs, mesh)
    chosen, masks = outside(ours)[0], {}
    # All of them would take many minutes where every block passes; the case `ate` does that.
    counts = [c for c in (_QUICK_BLOCKS if settings.quick else _BLOCKS) if c <= chosen.sum()]
    for count in reversed(counts):  # the fewer are some of the more
        chosen = even(chosen, count)
        masks[count] = chosen[None]
    timings, results = interleave(
        {
            f"ours {count}": lambda blocks=blocks: ours.compiled(*ours.arguments[:-1], blocks)
            for count, blocks in masks.items()
        },
        pace(settings),
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
    memory, end = device_memory(mesh), None
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


def _doubling(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return [2**k for k in range(most.bit_length()) if 2**k < most] + [most]


SCALING = ScalingCase(
    name="scaling",
    about="devices, lanes, image size, number of blocks; memory; roofline",
    defaults=Defaults(model="reference", size=128, lanes=16),
    quick=Defaults(model="random", size=64, lanes=4, width=8),
    has_peers=False,
)
