"""Ours and the peers' on the same inputs: what all kinds of methods have in common."""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.differences import FLIP_MARGINS, relative_l2, shaken
from benchmarks.agree.verdict import Validation, explained
from benchmarks.arrays import Arrays, Inputs, ids_of, some
from benchmarks.harness.timing import timed
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.devices.mesh import pad_batch, replicate
from jaxseg_xai.explainers import Batch, Problem
from jaxseg_xai.explainers.runner import explain, lower
from jaxseg_xai.models import Bundle
from jaxseg_xai.ops.random import make_key

#: Images float32 [N, H, W, C] -> logits float32 [N, H, W, K], K >= 2.
Logits = Callable[[np.ndarray], np.ndarray]


def logits_of(bundle: Bundle) -> Logits:
    """The model as a function of NumPy arrays."""
    run = jax.jit(bundle.segmenter)
    return lambda images: np.asarray(run(bundle.variables, images))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What two results are of.

    Attributes:
      explainer: the method and its settings.
      inputs: of N images.
      logits: of the model in float32.
      dtype: what ours computed in.
      moved: float [N], how far rounding moves our maps, where the comparison asks for it.
      logits_off: how far the logits of the other's network were seen to be from these.
    """

    explainer: Any
    inputs: Inputs
    logits: Logits
    dtype: Dtype = "float32"
    moved: np.ndarray | None = None
    logits_off: float = 0.0

    @property
    def margin(self) -> float:
        """How near to 0.5 a probability must be for its pixel to fall on either side.

        Of logits a probability moves by a quarter; elsewhere they may be twice as far off.
        """
        return max(FLIP_MARGINS[self.dtype], self.logits_off / 2)

    def some(self, which: slice) -> "Subject":
        """The same of some images."""
        moved = None if self.moved is None else self.moved[which]
        return dataclasses.replace(self, inputs=self.inputs.some(which), moved=moved)


class Kind:
    """A kind of methods: how ours is run on `Inputs`, and how two results are compared.

    Attributes:
      peer: module of `benchmarks.peers` that does the same.
      moves: whether the comparison asks how far rounding moves our maps.
    """

    peer: ClassVar[str]
    moves: ClassVar[bool] = False

    def module(self) -> Any:
        """The peer's module; PyTorch is imported only here."""
        return importlib.import_module(f"benchmarks.peers.{self.peer}")

    def arguments(self, explainer: Any, bundle: Bundle, inputs: Inputs, mesh: Mesh) -> tuple:
        """What the program is called with: weights on the devices, the batch filled up."""
        model = {"segmenter": bundle.segmenter, "variables": bundle.variables}
        problem = Problem(**model, key=make_key(0), pool=inputs.pool)
        count = len(inputs.images)
        batch = Batch(
            images=inputs.images,
            targets=inputs.targets,
            image_ids=ids_of(count),
            valid=np.ones(count, bool),
            others=inputs.others,
        )
        filled = pad_batch(batch, mesh.size)
        # Copies are no work: a method may leave them out.
        filled = dataclasses.replace(filled, valid=np.arange(len(filled.valid)) < count)
        return explainer, replicate(problem, mesh), filled

    def program(self, arguments: tuple, mesh: Mesh) -> Any:
        """Ours, compiled for such arguments."""
        if not arguments[0].traceable:
            return lambda *arguments: explain(*arguments, mesh=mesh)
        return lower(*arguments, mesh=mesh).compile()

    def arrays(self, ours: "Ours", found: Explanation) -> Arrays:
        """Our explanation in the peers' form."""
        raise NotImplementedError

    def compare(self, found: Arrays, expected: Arrays, subject: Subject) -> Validation:
        """The verdict on our result, given another's."""
        raise NotImplementedError


class Ours:
    """One of our methods with a model and inputs, compiled for these in some `seconds`."""

    def __init__(
        self, kind: Kind, explainer: Any, bundle: Bundle, inputs: Inputs, mesh: Mesh
    ) -> None:
        self.kind, self.explainer, self.bundle = kind, explainer, bundle
        self.inputs, self.mesh = inputs, mesh
        self.arguments = self.placed(inputs)
        self.compiled, self.seconds = timed(kind.program, self.arguments, mesh)

    def __call__(self) -> Explanation:
        """Explain the inputs."""
        return self.compiled(*self.arguments)

    def placed(self, inputs: Inputs) -> tuple:
        """The program's arguments for other inputs of the same shapes."""
        return self.kind.arguments(self.explainer, self.bundle, inputs, self.mesh)

    def arrays(self, found: Explanation) -> Arrays:
        """In the peers' form."""
        return self.kind.arrays(self, some(found, slice(len(self.inputs.images))))

    def subject(self, exact: Bundle, dtype: Dtype, *, moves: bool = True) -> Subject:
        """What its results are of; `exact` is the model in float32.

        How far rounding moves our maps takes some runs, and is asked only where `moves`.
        """

        def maps(images: np.ndarray) -> np.ndarray:
            found = self.compiled(*self.placed(self.inputs.replace(images=images)))
            return self.arrays(found)["attribution"]

        moved, images = None, self.inputs.images
        if moves and self.kind.moves:
            still = maps(images)
            moved = np.max([relative_l2(maps(other), still) for other in shaken(images)], axis=0)
        return Subject(
            explainer=self.explainer,
            inputs=self.inputs,
            logits=logits_of(exact),
            dtype=dtype,
            moved=moved,
        )


def check(
    ours: Ours, found: Explanation, expected: dict[str, Arrays], subject: Subject
) -> dict[str, Validation]:
    """Verdicts on our explanation: that all images have one, and against others' results.

    `expected` has the others' results by name, each of the first images, as many as it holds.
    """
    verdicts = {"status": explained(some(found, slice(len(ours.inputs.images))))}
    mine = ours.arrays(found)
    for name, other in expected.items():
        first = slice(len(next(iter(other.values()))))
        verdicts[name] = ours.kind.compare(some(mine, first), other, subject.some(first))
    return verdicts
