"""A method's, family's or data set's name stands in its own file and in its registry line only."""

import ast
from pathlib import Path

import jaxseg_xai
from jaxseg_xai.data import SOURCES
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.metrics import METRICS
from jaxseg_xai.models import MODELS

PACKAGE = Path(jaxseg_xai.__file__).parent
#: Where a name may stand beside its own file: the registries, and the demonstration.
EVERYWHERE = {
    "explainers/__init__.py",
    "models/registry.py",
    "metrics/__init__.py",
    "data/registry.py",
    "cli/demo.py",
}
#: Words that are also something else there.
OTHER_MEANINGS = {
    ("components", "cli/main.py"),  # the command
    ("components", "cli/components.py"),
    ("brain", "cli/plan.py"),  # the bundled model
    ("dicom", "data/dicom_files.py"),  # the extra
    ("tfds", "data/sources/tfds_builders.py"),  # the extra
    ("confidence", "report/case_page.py"),  # the setting
    ("confidence", "explainers/misure/stable.py"),  # how many searches keep a pixel
    ("ate", "explainers/parts/layout.py"),  # the effects themselves
    ("ate", "explainers/parts/table.py"),
    ("ate", "report/parts.py"),
}


def strings(path):
    """String constants of a file, docstrings left out."""
    tree = ast.parse(path.read_text())
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docs = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, documented)
    }
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)} - docs


def test_names_stand_in_one_place():
    found = []
    files = {path: strings(path) for path in PACKAGE.rglob("*.py")}
    for registry in (EXPLAINERS, MODELS, METRICS, SOURCES):
        for name, place in registry.built_in.items():
            own = place.partition(":")[0].removeprefix("jaxseg_xai.").replace(".", "/") + ".py"
            for path, constants in files.items():
                relative = path.relative_to(PACKAGE).as_posix()
                allowed = relative in EVERYWHERE or relative == own
                if name in constants and not allowed and (name, relative) not in OTHER_MEANINGS:
                    found.append((name, relative))
    assert not found
