"""What is not wanted is not computed."""

import jax
import jax.numpy as jnp

from jaxseg_xai.ops.control import only_if


def test_what_is_not_wanted_is_not_computed():
    asked = []

    def compute():
        jax.debug.callback(lambda: asked.append(1))
        return {"map": jnp.ones((2, 3)), "status": jnp.int32(7)}

    run = jax.jit(lambda wanted: only_if(wanted, compute))
    found, nothing = run(True), run(False)
    jax.effects_barrier()
    assert asked == [1]
    assert found["status"] == 7
    assert not nothing["map"].any()
    assert nothing["map"].shape == (2, 3)
