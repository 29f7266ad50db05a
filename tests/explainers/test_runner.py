"""What the runner keeps apart."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.fields import setting
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Explainer, Meta, Parts, runner
from tests.support import batch_of, problem_of


def plain(variables, images):
    del variables
    return jnp.concatenate([0 * images, images], axis=-1)


def method_of(number):
    """A class of its own for every number, with the same settings."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Constant(Explainer):
        name: ClassVar[str] = "constant"
        meta: ClassVar[Meta] = Meta(unit="1", signed=False)
        outcome: str = setting("summed_logits", static=True)

        def explain_one(self, problem, example):
            return Parts(attribution=jnp.full(example.image.shape[:-1], float(number)))

    return Constant()


def test_methods_with_the_same_settings_are_not_taken_for_one_another():
    """The structures of such pytrees compare equal in JAX, whatever their classes."""
    problem = problem_of(plain)
    batch = batch_of(problem, np.ones((1, 2, 2, 1), np.float32))
    mesh = device_mesh(jax.devices()[:1])
    methods = [method_of(number) for number in range(24)]
    found = [runner.explain(method, problem, batch, mesh=mesh) for method in methods]
    assert [float(one.attribution[0, 0, 0]) for one in found] == list(range(24))
