"""What the tests of the command line share: a tiny model, images, and what a refusal looks like."""

import pytest

from jaxseg_xai.cli import main as cli
from tests import tiny

GOOD = [f"i{k}" for k in range(3)]


@pytest.fixture(autouse=True)
def no_user_cache(monkeypatch):
    """`main` leaves the cache alone where the user has chosen one."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "chosen")


def sweep(model, source, out, *flags, explain=("misure", "ate")):
    flags = ["--model", model, "--data.source", source, "--out", out, *flags]
    flags += [*tiny.flags(explain), "--explain", *explain]
    return cli.main(["sweep", *map(str, flags), "--classes", "bright"])


def refused(capsys, arguments, *words):
    """Exit code 2 and one line on standard error that has all the words."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxseg-xai: ")
    assert len(error.splitlines()) == 1, error
    for word in words:
        assert str(word) in error
    return error
