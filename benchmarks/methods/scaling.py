"""How time and memory go with devices, lanes, image size and number of blocks; the roofline."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.agree.frozen import KINDS
from benchmarks.agree.kind import Ours
from benchmarks.agree.verdict import Bound, judge
from benchmarks.arrays import even
from benchmarks.harness.machine import bytes_of, device_memory, flops_of, peak_memory, program_bytes
from benchmarks.harness.record import Measurement, Row, Timing
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import compile_apart, interleave
from benchmarks.methods.ate import ATE, outside, pooled
from benchmarks.methods.base import Case, pace
from benchmarks.methods.inputs import choose_images, inputs_of, open_model
from benchmarks.methods.misure import jobs_of, masked_model, step_flops
from jaxseg_xai.devices.mesh import AXIS, device_mesh, replicate, shard_examples
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
    flops: float | None  # of a lane


class _Point(NamedTuple):
    """A program at one batch and mesh; `run` runs it."""

    run: Callable[[], Any]
    compiled: Any
    compile_seconds: float
    result: Any
    row: Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingCase(Case):
    """Points along each of the four axes; "ours" is the forward pass on all devices.

    Its repetitions are spread over the whole case: what the machine does meanwhile is noise.
    """

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        bundle = open_model(settings)
        images, classes = choose_images(bundle, settings, settings.lanes)
        flops = flops_of(bundle.segmenter, bundle.variables, images[:1])
        forward = _Program("forward", bundle.segmenter, bundle.variables, images, flops)
        step = _misure_step(bundle, images, classes)
        forwards = _over_devices(settings, forward, mesh)
        ours = forwards[-1]
        axes: dict[str, Callable[[], Any]] = {
            "devices": lambda: _over_devices(settings, step, mesh),
            "forward": lambda: _over_lanes(settings, forward, mesh),
            "step": lambda: _over_lanes(settings, step, mesh),
            "size": lambda: _over_sizes(settings, forward, mesh),
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
        timing, masks = Timing.of(seconds), found["devices"]
        off = [p.result - points[0].result for points in (forwards, masks) for p in points]
        labels = [np.asarray(bundle.segmenter.output.prediction(p.result)) for p in forwards]
        changed = sum(int((label != labels[0]).sum()) for label in labels)
        ours.row["seconds"] = timing.median
        roofs = [(forward, ours), (step, masks[-1])]
        return Measurement(
            compile_seconds=ours.compile_seconds,
            timings={"ours": timing},
            work={"forwards": float(settings.lanes)},
            flops=None if flops is None else flops * settings.lanes,
            flops_of="forward passes",
            memory=peak_memory(ours.compiled, mesh),
            validation=judge(
                Bound("logits, mask", max(float(np.max(np.abs(o))) for o in off), _TOLERANCE),
                why="logits, and masks after a step of MiSuRe, on many devices against one",
                measured={"pixels that change their label": float(changed)},
            ),
            series={
                "devices": [*_strong(forwards), *_strong(masks)],
                "lanes": [point.row for point in (*found["forward"], *found["step"])],
                "size": found["size"],
                "blocks": found["blocks"],
                "memory": [_memory_end(found[axis], mesh) for axis in ("forward", "step")],
                "roofline": [row for each in roofs for row in _roofline(*each)],
            },
        )


def _misure_step(bundle: Bundle, images: np.ndarray, classes: np.ndarray) -> _Program:
    """One iteration of every image, all together: the new masks."""
    inputs = inputs_of(bundle, images, classes, _MISURE)
    jobs = jobs_of(inputs)
    states = jax.jit(jax.vmap(_MISURE.start))(jobs)

    def step(variables: Any, batch: tuple) -> jax.Array:
        def one(job: Any, state: Any) -> jax.Array:
            return _MISURE.step(masked_model(bundle, variables, job), job, state).mask

        return jax.vmap(one)(*batch)

    batch, flops = (jobs, states), step_flops(_MISURE, bundle, inputs)
    return _Program("MiSuRe step", step, bundle.variables, batch, flops)


def _measure(program: _Program, lanes: int, mesh: Mesh, settings: Settings) -> _Point:
    """The first lanes of a program on the devices of a mesh."""
    function = jax.jit(shard_examples(program.function, mesh))
    shared = replicate(program.shared, mesh)
    batch = jax.tree.map(lambda leaf: leaf[:lanes], program.batch)
    size = jax.tree.leaves(batch)[0].shape[1]
    batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(AXIS)))
    compiled, seconds = compile_apart(function, shared, batch)

    def run() -> Any:
        return compiled(shared, batch)

    timings, results = interleave({"ours": run}, pace(settings))
    timing = timings["ours"]
    row: Row = {
        "program": program.name,
        "devices": mesh.size,
        "lanes": lanes,
        "size": size,
        "seconds": timing.median,
        "spread": timing.spread,
        "per_second": lanes / timing.median,
        "program_bytes": program_bytes(compiled),
    }
    return _Point(run, compiled, seconds, jax.device_get(results["ours"]), row)


def _over_devices(settings: Settings, program: _Program, mesh: Mesh) -> list[_Point]:
    """The same lanes on 1, 2, 4, ... and all devices."""
    counts = [count for count in _doubling(mesh.size) if settings.lanes % count == 0]
    meshes = [device_mesh(list(mesh.devices.flat[:count])) for count in counts]
    return [_measure(program, settings.lanes, some, settings) for some in meshes]


def _over_lanes(settings: Settings, program: _Program, mesh: Mesh) -> list[_Point]:
    counts = [count * mesh.size for count in _doubling(settings.lanes // mesh.size)]
    return [_measure(program, count, mesh, settings) for count in counts]


def _over_sizes(settings: Settings, program: _Program, mesh: Mesh) -> list[Row]:
    """One lane a device, at a half to twice the size."""
    rows, stride = [], program.function.input.multiple_of
    for size in (settings.size // 2, settings.size, 2 * settings.size):
        size = max(stride, size // stride * stride)
        shape = (mesh.size, size, size, program.batch.shape[-1])
        images = np.random.default_rng(0).random(shape, np.float32)
        rows.append(_measure(program._replace(batch=images), mesh.size, mesh, settings).row)
    return rows


def _over_blocks(
    settings: Settings, bundle: Bundle, images: np.ndarray, classes: np.ndarray, mesh: Mesh
) -> list[Row]:
    """The ATE of more and more blocks of one image: one program, as the blocks are data."""
    ate: Any = ATE.explainer
    inputs = pooled(settings, bundle, inputs_of(bundle, images, classes, ate), ate)
    ours = Ours(KINDS["ate"], ate, bundle, inputs, mesh)
    chosen, masks = outside(inputs, ate)[0], {}
    # All of them would take many minutes where every block passes; the case `ate` does that.
    counts = [c for c in (_QUICK_BLOCKS if settings.quick else _BLOCKS) if c <= chosen.sum()]
    for count in reversed(counts):  # the fewer are some of the more
        chosen = even(chosen, count)
        masks[f"ours {count}"] = chosen[None]
    contenders = {
        name: lambda blocks=blocks: ours.compiled(*ours.arguments[:-1], blocks)
        for name, blocks in masks.items()
    }
    timings, results = interleave(contenders, pace(settings))
    return [
        {
            "blocks": float(masks[name].sum()),
            "seconds": timings[name].median,
            "spread": timings[name].spread,
            "interventions": float(results[name].scores["num_interventions"][0]),
        }
        for name in reversed(masks)
    ]


def _strong(points: list[_Point]) -> list[Row]:
    """With the efficiency: time on one device over k times that on k."""
    rows: list[Any] = [point.row for point in points]
    one = rows[0]["seconds"]
    return [row | {"efficiency": one / (row["devices"] * row["seconds"])} for row in rows]


def _memory_end(points: list[_Point], mesh: Mesh) -> Row:
    """Lanes at which a program fills the memory, from a line through its bytes."""
    rows: list[Any] = [point.row for point in points]
    lanes = [row["lanes"] / mesh.size for row in rows]
    needed = [row["program_bytes"] or 0.0 for row in rows]
    memory, end = device_memory(mesh), None
    if memory is not None and len(rows) > 1 and max(needed) > min(needed):
        each, fixed = np.polyfit(lanes, needed, 1)
        end = float(mesh.size * int((memory - fixed) / each))
    name = rows[0]["program"]
    return {"program": name, "memory_bytes_per_device": memory, "predicted_lanes": end}


def _roofline(program: _Program, point: _Point) -> list[Row]:
    """Achieved FLOP/s at an arithmetic intensity: FLOPs over the bytes of the compiled program."""
    row: Any = point.row
    moved = bytes_of(point.compiled)  # of the program of one device
    if program.flops is None or moved is None:
        return []
    flops = program.flops * row["lanes"]
    intensity, achieved = flops / (moved * row["devices"]), flops / row["seconds"]
    return [{"program": program.name, "intensity": intensity, "flops_per_second": achieved}]


def _doubling(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return [2**k for k in range(most.bit_length()) if 2**k < most] + [most]


SCALING = ScalingCase(
    name="scaling",
    about="devices, lanes, image size, number of blocks; memory; roofline",
    defaults=Settings(model="reference", size=128, lanes=16),
    quick=Settings(model="random", size=64, lanes=4, width=8),
    has_peers=False,
)
