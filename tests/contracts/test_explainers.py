"""What every explanation method keeps, in two ranks and on four devices.

A further method is an entry in `settings.METHODS`.
"""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxseg_xai.core import fields
from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import AXIS, device_mesh
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.explainers.runner import explain, lower
from jaxseg_xai.outcomes import OUTCOMES
from jaxseg_xai.sweeps.regions import parse_region
from jaxseg_xai.sweeps.targets import check_mistakes
from tests.contracts import nets
from tests.contracts.settings import METHODS

NAMES = EXPLAINERS.names()
NOT_OK = [Status.NON_FINITE, Status.EMPTY_TARGET, Status.EMPTY_REGION]
#: Where the examples of the first batch stand in the second, after those that are not OK.
MOVED = [5, 3, 0, 1, 2]
#: How XLA calls what devices exchange.
EXCHANGES = ["all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter"]


def cheap(name):
    return EXPLAINERS.get(name)(**METHODS[name].settings)


def run(explainer, problem, batch, devices=None):
    found = explain(explainer, problem, batch, mesh=device_mesh(devices))
    return jax.tree.map(np.asarray, found)


def example(found, i):
    return jax.tree.map(lambda leaf: leaf[i], found)


def exchanges(text):
    """(shapes, kind) of everything that devices exchange in a compiled program."""
    return re.findall(rf"= (.*?) ({'|'.join(EXCHANGES)})[-\w]*\(", text)


def pick(batch, chosen):
    return jax.tree.map(lambda leaf: leaf[np.asarray(chosen)].copy(), batch)


def assert_same(found, expected):
    assert found.status == expected.status
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        assert a.dtype == b.dtype
        scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
        np.testing.assert_allclose(
            a, b, rtol=1e-4, atol=1e-4 * scale, err_msg=jax.tree_util.keystr(path)
        )


@dataclasses.dataclass(frozen=True)
class Case:
    """A method on images or volumes, whose classes overlap, and what it found."""

    name: str
    rank: int

    @functools.cached_property
    def explainer(self):
        return cheap(self.name)

    @functools.cached_property
    def problem(self):
        return nets.problem_for(self.explainer, self.rank)

    @functools.cached_property
    def batch(self):
        return nets.batch_for(self.explainer, self.problem)

    @functools.cached_property
    def whole(self):
        """All examples, two on each of four devices."""
        return run(self.explainer, self.problem, self.batch)

    @functools.cached_property
    def mixed(self):
        """Some of them elsewhere, after three that cannot be explained; and how often it traced."""
        assert self.whole is not None  # has compiled what there is to compile
        batch = pick(self.batch, [0, 1, 2, *MOVED])
        batch.images[0, ..., 0].flat[0] = np.nan
        batch.targets.class_index[1], batch.targets.reference[1] = nets.NEVER, False
        batch.targets.region[2] = False
        before = nets.num_traced()
        return run(self.explainer, self.problem, batch), nets.num_traced() - before


@pytest.fixture(
    scope="module",
    params=[(name, rank) for name in NAMES for rank in nets.SIZES],
    ids=lambda case: f"{case[0]}-{case[1]}d",
)
def case(request):
    return Case(*request.param)


def test_a_batch_on_four_devices_is_as_one_by_one_on_one(case):
    assert (case.whole.status == Status.OK).all()
    if case.rank == 3:
        return  # compiling takes long, and devices know nothing of ranks
    for i in (0, 3):
        alone = pick(case.batch, [i])
        found = run(case.explainer, case.problem, alone, jax.devices()[:1])
        assert_same(example(found, 0), example(case.whole, i))


def test_devices_tell_each_other_outcomes_and_no_images(case):
    if case.rank == 3 or not case.explainer.traceable:
        return
    text = lower(case.explainer, case.problem, case.batch, mesh=device_mesh()).compile().as_text()
    found = exchanges(text)
    assert {kind for _, kind in found} <= {"all-reduce"}
    assert found or case.name not in ("ate", "rise")  # whose interventions devices share
    image = ",".join(map(str, nets.SIZES[case.rank]))
    assert not [shapes for shapes, _ in found if image in shapes]


def test_what_devices_exchange_is_seen():
    """Of one array, and of several together."""
    mesh = device_mesh()

    def share(x):
        sums = jax.lax.psum((x, x[..., 0]), AXIS)
        return jax.lax.all_gather(x, AXIS), sums

    sharded = PartitionSpec(AXIS)
    run = jax.shard_map(share, mesh=mesh, in_specs=sharded, out_specs=sharded, check_vma=False)
    text = jax.jit(run).lower(np.zeros((mesh.size, 8, 8), np.float32)).compile().as_text()
    found = exchanges(text)
    assert {kind for _, kind in found} == {"all-gather", "all-reduce"}
    assert all("8,8" in shapes for shapes, kind in found if kind == "all-gather")


def test_further_images_compile_nothing_and_their_company_does_not_matter(case):
    found, traced = case.mixed
    assert traced == 0
    for place, i in enumerate(MOVED, 3):
        assert_same(example(found, place), example(case.whole, i))


def test_double_precision_elsewhere_changes_no_type(case):
    """A researcher's `jax_enable_x64` is for other work; found by tracing, which is quick."""
    if case.rank == 3 or not case.explainer.traceable:
        return
    mesh = device_mesh(jax.devices()[:1])
    with jax.enable_x64(True):
        found = lower(case.explainer, case.problem, pick(case.batch, [0]), mesh=mesh).out_info
    types = jax.tree.map(lambda leaf: leaf.dtype, found)
    assert jax.tree.leaves(types) == [leaf.dtype for leaf in jax.tree.leaves(case.whole)]


def test_what_cannot_be_explained_has_a_status_and_maps_of_zeros(case):
    found, _ = case.mixed
    assert found.status.tolist() == [*NOT_OK, *[Status.OK] * len(MOVED)]
    maps = {name: values for name, values in found.maps.items() if name != "prediction"}
    for values in (*maps.values(), *jax.tree.leaves(found.attribution)):
        assert np.isfinite(values).all()
        assert not values[: len(NOT_OK)].any()
    for values in found.traces.values():
        assert np.isnan(values[: len(NOT_OK)]).all()
    for values in found.scores.values():  # or 0, of the work that was done
        assert (np.isnan(values) | (values == 0))[: len(NOT_OK)].all()


def test_shapes_and_types_are_those_of_the_contract(case):
    size = (nets.NUM_EXAMPLES, *nets.SIZES[case.rank])
    found = case.whole
    assert found.status.dtype == np.int32
    maps = dict(found.maps)
    prediction = maps.pop("prediction")
    overlapping = case.problem.segmenter.output.overlapping
    assert prediction.dtype == (bool if overlapping else np.int32)
    assert prediction.shape == ((*size, 3) if overlapping else size)
    for name, values in maps.items():
        planes = values.dtype == bool and values.shape == prediction.shape
        assert planes or values.shape == size, name
    if case.explainer.meta.figure == "parts":
        assert found.attribution is None
    else:
        assert found.attribution.shape == size
        assert found.attribution.dtype == np.float32
        assert found.attribution.any()
        assert case.explainer.meta.signed or found.attribution.min() >= 0
    for values in (*found.scores.values(), *found.traces.values()):
        assert values.dtype == np.float32


def test_a_seed_gives_one_result_and_only_random_methods_give_another_with_another(case):
    same, other = (
        run(case.explainer, nets.problem_for(case.explainer, case.rank, seed=seed), case.batch)
        for seed in (0, 1)
    )
    leaves = [jax.tree.leaves(found) for found in (case.whole, same, other)]
    equal = [np.array_equal(a, b, equal_nan=True) for a, b in zip(*leaves[:2], strict=True)]
    assert all(equal)
    equal = [np.array_equal(a, b, equal_nan=True) for a, b in zip(*leaves[::2], strict=True)]
    assert all(equal) != METHODS[case.name].random


def test_the_description_is_complete_and_true(case):
    meta, found = case.explainer.meta, case.whole
    assert set(found.scores) == set(meta.scores)
    assert all(meta.scores.values())
    assert set(meta.sureness) <= set(meta.scores)
    assert set(meta.sureness.values()) <= {1, -1}
    assert meta.unit
    assert meta.note
    assert meta.caption
    words = {"outcome": "Dice", "unit": "points"}
    scores = {name: float(values[0]) for name, values in found.scores.items()}
    for text in (meta.caption, meta.note, meta.unit):
        assert "nan" not in text.format(**{**words, **scores})


def test_a_class_is_explained_as_its_own_where_classes_overlap(case):
    if case.rank == 2:
        return  # its classes exclude each other
    # The same images, four times the smaller class and four times the larger one around it.
    inner, outer = (case.whole.maps["prediction"][:4, ..., c] for c in (1, 0))
    assert (inner & outer).any()
    assert (outer & ~inner).any()
    for values in jax.tree.leaves((case.whole.attribution, case.whole.traces)):
        same = np.array_equal(values[:4], values[4:], equal_nan=True)
        assert same != METHODS[case.name].knows_class


def half_of_the_prediction(explainer, problem):
    """Examples whose reference is a half of what is segmented in the region, as mistakes are."""
    batch = nets.batch_for(explainer, problem)
    half = np.arange(batch.targets.reference.shape[-1]) % 2 == 0
    targets = dataclasses.replace(batch.targets, reference=batch.targets.reference & half)
    return dataclasses.replace(batch, targets=targets)


@pytest.mark.parametrize("name", NAMES)
def test_whether_what_is_segmented_beside_the_reference_counts_is_declared(name):
    """What explains the reference alone finds the same in a region that holds nothing else."""
    explainer = cheap(name)
    problem = nets.problem_for(explainer, 2)
    batch = half_of_the_prediction(explainer, problem)
    alone = dataclasses.replace(batch.targets, region=batch.targets.segment)
    found, without = (
        run(explainer, problem, dataclasses.replace(batch, targets=targets))
        for targets in (batch.targets, alone)
    )
    assert np.isin(found.status, [Status.OK, Status.NOT_REACHED]).all()
    leaves = [(x.attribution, x.traces, x.scores) for x in (found, without)]
    same = [
        np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in zip(*map(jax.tree.leaves, leaves), strict=True)
    ]
    assert all(same) != explainer.counts_beside


@pytest.mark.parametrize("reference", ["false_positives", "false_negatives"])
@pytest.mark.parametrize("name", NAMES)
def test_mistakes_are_not_explained_by_what_counts_more_than_them(name, reference):
    explainer = cheap(name)
    chosen = [explainer]
    if hasattr(explainer, "outcome"):
        chosen = [dataclasses.replace(explainer, outcome=outcome) for outcome in OUTCOMES.names()]
        assert {one.counts_beside for one in chosen} == {True, False}
    for one in chosen:
        for words in ("component", "component 2", "point 3 4"):
            check_mistakes(name, one, parse_region(words), reference)
        for words in ("image", "box 4"):
            check_mistakes(name, one, parse_region(words), "truth")
            if not one.counts_beside:
                check_mistakes(name, one, parse_region(words), reference)
                continue
            with pytest.raises(ConfigError, match=f"{name} compares .* mean_probability or summed"):
                check_mistakes(name, one, parse_region(words), reference)


def out_of_bounds(field):
    """Values of a setting that must be refused."""
    steps = {"at_least": -1, "above": 0, "at_most": 1, "below": 0}
    found = [bound + steps[kind] for kind, bound in field.metadata.get("bounds", {}).items()]
    if field.metadata.get("odd"):
        found.append(2)
    if field.metadata.get("choices") is not None:
        found.append("nothing of the kind")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_settings_out_of_their_bounds_are_named(name):
    explainer = cheap(name)
    fields.check(explainer, name)
    for field in dataclasses.fields(explainer):
        for value in out_of_bounds(field):
            label = f"{name}.{field.name}"
            given = (value,) if "tuple" in str(field.type) else value
            with pytest.raises(ConfigError, match=f"^{label} is {value!r}; "):
                fields.check(dataclasses.replace(explainer, **{field.name: given}), name)


@pytest.mark.parametrize("output", ["channels first", "larger", "dict"])
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_model_is_told_the_same_by_every_method(name, output):
    explainer = cheap(name)
    batch = nets.batch_for(explainer, nets.network(2))
    problem = nets.problem_for(explainer, 2, output=output)
    with pytest.raises(ModelError) as expected:
        problem.segmenter.logits(problem.variables, batch.images[:1])
    with pytest.raises(ModelError) as found:
        run(explainer, problem, batch)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("name", NAMES)
def test_bad_targets_and_models_without_a_gradient_are_refused(name):
    explainer = cheap(name)
    problem = nets.problem_for(explainer, 2)
    batch = nets.batch_for(explainer, problem)
    flat = dataclasses.replace(batch.targets, region=batch.targets.region[:, 0])
    with pytest.raises(ConfigError, match=r"regions \(8, 8\) .* images \(8, 8, 8, 1\)"):
        run(explainer, problem, dataclasses.replace(batch, targets=flat))
    if "gradient" in explainer.needs:
        with pytest.raises(ModelError, match=f"{name} needs the model's gradient"):
            run(explainer, nets.problem_for(explainer, 2, output="without a gradient"), batch)
    for need, what in (("patches", {"pool": None}), ("others", {"others": None})):
        if need in explainer.needs:
            bare = [
                dataclasses.replace(one, **{k: v for k, v in what.items() if hasattr(one, k)})
                for one in (problem, batch)
            ]
            with pytest.raises(ConfigError, match=rf"{name} needs .*; give others="):
                run(explainer, *bare)
