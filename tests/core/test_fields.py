"""Bounds of settings, told one at a time and with their names."""

import dataclasses
import math

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check, idle_fields, setting
from jaxseg_xai.core.registry import Registry

COLOURS = Registry("jaxseg_xai.test_colours", "colour", {"red": "m:Red", "green": "m:Green"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    share: float = setting(0.5, at_least=0, below=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    side: int = setting(8, static=True, at_least=1)
    tau: float = setting(0.9, above=0, at_most=1)
    size: int = setting(3, at_least=1, odd=True)
    widths: tuple[int, ...] = setting((1, 2), at_least=1)
    kind: str = setting("a", choices=("a", "b"))
    colour: str = setting("red", choices=COLOURS)
    chosen: str | None = setting(None, choices=("a", "b"))
    limit: int | None = setting(None, at_least=1)
    lanes: int = setting(4, idle=True, at_least=1)
    free: float = 0.0
    flag: bool = setting(False, at_least=1)
    inner: Inner = Inner()

    def check_together(self):
        if self.side < self.size:
            raise ConfigError("side is smaller than size")


def test_settings_within_their_bounds():
    check(Settings())
    check(Settings(tau=1, widths=(), limit=3, inner=Inner(share=0), kind="b", chosen="b"))
    check(Settings(side=np.int32(9)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 0}, "m.side is 0; it must be at least 1"),
        ({"tau": 0}, "m.tau is 0; it must be above 0 and at most 1"),
        ({"tau": 1.5}, "m.tau is 1.5; it must be above 0 and at most 1"),
        ({"tau": math.nan}, "m.tau is nan; it must be finite"),
        ({"free": math.inf}, "m.free is inf; it must be finite"),
        ({"size": 4}, "m.size is 4; it must be at least 1 and odd"),
        ({"widths": (1, 0)}, "m.widths is 0; it must be at least 1"),
        ({"kind": "c"}, "m.kind is 'c'; use a, b"),
        ({"colour": "blue"}, "m.colour is 'blue'; use red, green"),
        ({"chosen": ""}, "m.chosen is ''; use a, b"),
        ({"limit": 0}, "m.limit is 0; it must be at least 1"),
        ({"inner": Inner(share=1)}, "m.inner.share is 1; it must be at least 0 and below 1"),
        ({"side": 1}, "side is smaller than size"),
    ],
)
def test_values_out_of_bounds(changes, message):
    with pytest.raises(ConfigError) as error:
        check(Settings(**changes), "m")
    assert str(error.value) == message


def test_without_a_name_a_field_stands_alone():
    with pytest.raises(ConfigError, match=r"^side is 0;"):
        check(Settings(side=0))


def test_bounds_of_single_fields_come_before_those_of_several():
    with pytest.raises(ConfigError, match="widths"):
        check(Settings(side=1, widths=(0,)))


def test_fields_that_say_how_and_not_what():
    assert idle_fields(Settings()) == ("lanes",)


def test_a_setting_without_a_default_must_be_given():
    @dataclasses.dataclass(kw_only=True)
    class Needed:
        side: int = setting(at_least=1)

    with pytest.raises(TypeError, match="side"):
        Needed()
