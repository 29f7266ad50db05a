"""Names to objects: ours, those of installed packages, and packages that are broken."""

import subprocess
import sys

import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.registry import Registry

#: What the programs below begin with: a registry with two lines of its own.
START = """
import sys
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.registry import Registry

OURS = {"one": "colorsys:rgb_to_hsv", "two": "wave:Error"}
THINGS = Registry("jaxseg_xai.test_things", "thing", OURS)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a program in a process that finds the packages of a folder."""

    def run(program):
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})"]
        command[-1] += START + program
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.fixture
def install(tmp_path):
    """Writes a package as an installer leaves it."""

    def install(name, source, lines):
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[jaxseg_xai.test_things]\n{lines}\n")

    return install


def test_nothing_is_imported_before_it_is_asked_for(run):
    printed = run("""
print(THINGS.names(), "one" in THINGS, "three" in THINGS, "colorsys" in sys.modules)
print(THINGS.get("one").__name__, "colorsys" in sys.modules, "wave" in sys.modules)
""")
    assert printed == ["('one', 'two') True False False", "rgb_to_hsv True False"]


def test_installed_packages_add_names_after_ours(run, install):
    install("zoo_b", "class B: pass", "four = zoo_b:B")
    install("zoo_a", "class A: pass", "three = zoo_a:A")
    printed = run("""
print(THINGS.names(), "zoo_a" in sys.modules)
print(THINGS.get("three").__name__, THINGS.problems())
print([name for name, _ in THINGS.usable()])
""")
    assert printed == [
        "('one', 'two', 'four', 'three') False",
        "A []",
        "['one', 'two', 'four', 'three']",
    ]


def test_a_package_that_cannot_be_imported_is_named_and_the_rest_works(run, install):
    install("broken", "raise ValueError('of the\\nworld')", "three = broken:A")
    install("absent", "import no_such_module", "four = absent:A")
    printed = run("""
try:
    THINGS.get("three")
except ConfigError as error:
    print(error)
print([name for name, _ in THINGS.usable()])
print(*THINGS.problems(), sep="\\n")
""")
    broken = (
        "thing 'three' (broken:A of broken) cannot be imported: ValueError: of the; repair or "
        "uninstall that package"
    )
    absent = (
        "thing 'four' (absent:A of absent) cannot be imported: ModuleNotFoundError: No module "
        "named 'no_such_module'; repair or uninstall that package"
    )
    assert printed == [broken, "['one', 'two']", absent, broken]


def test_two_packages_of_one_name(run, install):
    install("first", "class A: pass", "three = first:A")
    install("second", "class A: pass", "three = second:A\none = second:A")
    printed = run("""
for name in ("three", "one"):
    try:
        THINGS.get(name)
    except ConfigError as error:
        print(error)
print([name for name, _ in THINGS.usable()])
""")
    assert printed == [
        "two things are called 'three': first:A of first and second:A of second; uninstall one of "
        "the packages",
        "two things are called 'one': colorsys:rgb_to_hsv of jaxseg-xai and second:A of second; "
        "uninstall one of the packages",
        "['two']",
    ]


def test_unknown_names_are_answered_with_the_known_ones():
    things = Registry("jaxseg_xai.test_things", "thing", {"one": "colorsys:rgb_to_hsv"})
    with pytest.raises(ConfigError, match=r"^unknown thing 'won'; there is one$"):
        things.get("won")
    with pytest.raises(ConfigError, match=r"'two' .* of jaxseg-xai.* cannot be imported"):
        Registry("jaxseg_xai.test_things", "thing", {"two": "colorsys:nothing"}).get("two")
