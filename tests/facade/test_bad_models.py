"""Models and samples that cannot be used: what is said of them."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.core.errors import DataError, ModelError

PICTURES = np.random.default_rng(1).random((1, 16, 16, 1)).astype(np.float32)


def test_integers_have_no_gradient_and_say_so():
    for name, steps in (
        ("int32", lambda x: (20 * x).astype(int) - 10),
        ("bool", lambda x: x > 0.5),
    ):
        model = jaxseg_xai.as_model(steps, class_names=["dark", "bright"], channels=1)
        with pytest.raises(ModelError, match=f"its output is {name}.*; use a method that only"):
            jaxseg_xai.explain(model, PICTURES, "bright", "integrated_gradients")
    found = jaxseg_xai.explain(model, PICTURES, "bright", "confidence")
    assert found.status_name == "OK"


def test_a_model_of_complex_numbers():
    model = jaxseg_xai.as_model(
        lambda x: x.astype(complex), class_names=["dark", "bright"], channels=1
    )
    with pytest.raises(ModelError, match="not complex64; give real numbers"):
        jaxseg_xai.explain(model, PICTURES, "bright", "confidence")


def test_a_model_that_gives_nan_says_why_there_is_no_map():
    model = jaxseg_xai.as_model(lambda x: x * jnp.nan, class_names=["dark", "bright"], channels=1)
    found = jaxseg_xai.explain(model, PICTURES, "bright", "confidence")
    assert found.status_name == "NON_FINITE"
    assert "the model's output or the result held NaN" in found.reason
    assert found.reason in repr(found)


@pytest.mark.parametrize("name", [None, 2**70, "", "a\nb"])
def test_ids_are_a_line_of_text(name):
    with pytest.raises(DataError, match=r"a sample's id is .*; give one line of text"):
        jaxseg_xai.Sample(id=name, image=PICTURES[0])
