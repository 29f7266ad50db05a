"""What low precision changes of interventions: the emulation and the counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.precision import __main__ as counts
from benchmarks.precision import forms
from jaxseg_xai.models import load_model
from jaxseg_xai.program.trace import trace


@pytest.fixture(scope="module", params=["causes-marker", "brain-segformer"])
def traced(request):
    bundle = load_model(request.param)
    shape = (2, 32, 32, bundle.segmenter.input.channels)
    rng = np.random.default_rng(0)
    image, change = rng.random(shape[1:], np.float32), np.zeros(shape, np.float32)
    change[:, 8:16, 16:24] = rng.normal(size=change[:, 8:16, 16:24].shape)
    program = trace(bundle.segmenter.logits, bundle.variables, shape, np.float32)
    values = program.run(bundle.variables, jnp.broadcast_to(image, shape))
    exact = bundle.segmenter.logits(bundle.variables, image + change)
    return program, values, image, change, np.asarray(exact)


def test_unrounded_both_forms_are_the_model(traced, monkeypatch):
    monkeypatch.setitem(forms.BITS, "exact", 23)
    program, values, image, change, exact = traced
    scale = np.abs(exact).max()
    found = jax.jit(lambda x: forms.plain(program, values, x, "exact"))(image + change)
    np.testing.assert_allclose(found, exact, atol=1e-5 * scale)
    moved = jax.jit(lambda x: forms.difference(program, values, x, "exact"))(change)
    np.testing.assert_allclose(values[program.logits] + moved, exact, atol=1e-5 * scale)


def test_errors_fall_with_the_bits_and_are_those_of_the_change(traced):
    program, values, image, change, exact = traced
    before = values[program.logits]

    def of(form, changed):
        if form.difference:
            return before + forms.difference(program, values, changed - image, form.factors)
        return forms.plain(program, values, changed, form.factors)

    found = jax.jit(lambda x: [of(form, x) for form in forms.FORMS])(image + change)
    errors = {
        (form.difference, form.factors): np.abs(found[i] - exact).max()
        for i, form in enumerate(forms.FORMS)
    }
    for way in (False, True):
        one, ten, three = (errors[way, factors] for factors in forms.BITS)
        assert one > 3 * ten > 9 * three > 0
    assert errors[False, "bfloat16"] > errors[True, "bfloat16"]


def test_rounding():
    x = np.float32([1 + 2**-7, 1 + 2**-8, 1 + 2**-10, -1e30])
    found = forms.rounded(x, "bfloat16")
    assert found[:3].tolist() == [1 + 2**-7, 1, 1]
    assert forms.rounded(x, "tensorfloat32")[:3].tolist() == x[:3].tolist()
    np.testing.assert_allclose(found[3], x[3], rtol=2**-8)


def test_what_is_settled_and_what_is_wrong():
    number = 4 * counts._AT_ONCE
    exact = np.ones((number, 3), np.float32)
    mine = exact + 0.01  # the largest error of those that give the margin
    second = slice(counts._AT_ONCE, None)
    mine[second][0, 1] = 0.012  # within it
    mine[second][1, 2], exact[second][1, 2] = 0.5, -0.1  # beyond it, and another class
    form = forms.Form(difference=False, factors="bfloat16")
    row = counts._row("a", form, np.zeros_like(exact), exact, mine)
    assert (row.interventions, row.wrong) == (number, 1)
    assert row.changed == 1 / number
    assert row.settled == 1 / (number / 2)
    assert "| a | plain | bfloat16 | 64 | 1.56 % | 3.12 % | 1 |" in counts.table([row])


def test_the_command(capsys):
    assert counts.main(["--models", "causes-marker", "--interventions", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(forms.FORMS)
