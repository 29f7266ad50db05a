"""Known causes: what counts as found, what a model must have learnt, and the command."""

import json

import numpy as np
import pytest

from benchmarks.causes.__main__ import main
from benchmarks.causes.flips import Flips
from benchmarks.causes.found import BLOCK, judge
from benchmarks.causes.models import flags
from benchmarks.causes.score import judged_methods
from benchmarks.causes.sets import known_sets
from benchmarks.causes.tables import BEGIN, END
from jaxseg_xai.cli.train import parse_train
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.models.folder import bundled_models, load_model

SIDE = 5 * BLOCK
THING = np.zeros((SIDE, SIDE), bool)
THING[13:17, 13:17] = True
CUE = np.zeros((1, SIDE, SIDE), bool)
CUE[0, 1:3, 1:3] = True
TWO = np.concatenate([CUE, CUE[:, ::-1, ::-1]])
TRAINED = [one for one in known_sets() if one.trained_here and one.model in bundled_models()]


def block(row, column, value=1.0):
    found = np.zeros((SIDE, SIDE))
    found[BLOCK * row : BLOCK * (row + 1), BLOCK * column : BLOCK * (column + 1)] = value
    return found


@pytest.mark.parametrize(
    ("relevance", "found", "energy"),
    [
        (CUE[0].astype(float), 1, 1.0),
        (block(0, 0), 1, 4 / 36),  # the block of the cue is the top one
        (block(0, 1), 0, 0.0),
        (block(0, 0) + block(0, 1, 2.0), 0, 4 / 108),
        (CUE[0] + block(1, 1, 0.1), 1, 4 / 7.6),  # more than half of the energy
        (CUE[0] + 9.0 * THING, 1, 1.0),  # the object does not count
        (-CUE[0].astype(float), 0, 0.0),
        (np.zeros((SIDE, SIDE)), 0, 0.0),
    ],
)
def test_one_cue(relevance, found, energy):
    judged = judge(relevance, THING, CUE)
    assert judged["found"] == found
    assert judged["energy"] == pytest.approx(energy)
    assert judged["share"] == pytest.approx(4 / (SIDE**2 - 16))


def test_energy_in_a_cue_of_much_area_finds_nothing():
    """A map that is the same everywhere has no top block but the first, which is no cue here."""
    frame = np.ones((1, SIDE, SIDE), bool)
    frame[0, :BLOCK] = False
    judged = judge(np.ones((SIDE, SIDE)), THING, frame)
    assert judged["energy"] > 0.5
    assert judged["found"] == 0


@pytest.mark.parametrize(
    ("relevance", "found"),
    [
        (block(0, 0) + block(4, 4), 1),
        (block(0, 0) + block(4, 4) + block(2, 4, 0.5), 1),  # two blocks are asked for
        (block(0, 0) + block(4, 4, 0.5) + block(2, 4, 0.7), 0),
        (block(0, 0), 0),
    ],
)
def test_two_cues(relevance, found):
    assert judge(relevance, THING, TWO)["found"] == found


def test_two_cues_of_a_method_that_names_groups():
    def named(*groups):
        maps = dict(zip(("necessary", "sufficient"), groups, strict=True))
        return judge(block(2, 4), THING, TWO, maps)["found"]

    assert named(block(0, 0), block(4, 4)) == 1
    assert named(block(0, 0), block(0, 0)) == 0
    # Everything is no group.
    assert named(block(0, 0), np.ones((SIDE, SIDE))) == 0


def test_what_a_model_must_have_learnt():
    good = Flips(1.0, {"no cue": 0.95, "other ground": 0.05}, ("no cue",))
    assert good.passed
    assert not Flips(0.9, good.shares, good.must).passed
    assert not Flips(1.0, {"no cue": 0.94, "other ground": 0.0}, ("no cue",)).passed
    assert not Flips(1.0, {"no cue": 1.0, "other ground": 0.06}, ("no cue",)).passed
    assert not Flips(1.0, {"no cue": 1.0}, ()).passed, "a control that cares"
    assert known_sets(("either",))[0].must == ("no cue",)
    assert known_sets(("both",))[0].must == ("no cue", "first alone", "second alone")


@pytest.mark.parametrize("known", TRAINED, ids=lambda known: known.name)
def test_bundled_models_are_what_the_settings_train(known):
    path = bundled_models()[known.model]
    assert (path / "weights.safetensors").stat().st_size < 3e5
    about = load_model(known.model).card.about
    assert about["command"].split()[2:] == flags(known.name)
    assert about["data"] == known.data
    assert parse_train(None, flags(known.name), "train", "").data == known.data


def test_the_command(tmp_path, capsys):
    assert main(["check", "marker", "--num", "4"]) == 0
    assert "no cue 100 % (must)" in capsys.readouterr().out
    record, page = tmp_path / "causes.json", tmp_path / "page.md"
    score = ["score", "marker", "--num", "2", "--record", str(record)]
    assert main([*score, "--methods", "random", "input_x_gradient"]) == 0
    rows = json.loads(record.read_text())["rows"]
    assert [row["method"] for row in rows] == ["random", "input_x_gradient"]
    assert all(row["explained"] == 1 and 0 < row["share"] < 0.1 for row in rows)
    # What is in the record is not computed again.
    record.write_text(record.read_text().replace('"found": ', '"found": 7'))
    assert main([*score, "--methods", "random"]) == 0
    assert "70" in capsys.readouterr().out
    page.write_text(f"Before\n{BEGIN}\n{END}\nAfter\n")
    assert main(["page", str(page), "--record", str(record)]) == 0
    assert "| `input_x_gradient` | 7" in page.read_text()
    assert page.read_text().endswith(f"{END}\nAfter\n")
    page.write_text("No marks")
    assert main(["page", str(page), "--record", str(record)]) == 2
    record.write_text("{}")
    assert main(["page", str(page), "--record", str(record)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "page.md: put the lines <!-- table of known causes" in said[0]
    assert "causes.json: damaged ('rows'); write it again" in said[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nothing"], "unknown set 'nothing'; there is triangle-cue, marker, "),
        (["check", "marker", "--num", "0"], "num is 0; it must be at least 1"),
        (["score", "marker", "--methods", "magic"], "unknown method 'magic'; there is random, "),
        (["page", "README.md", "--record", "no.json"], "no.json: No such file or directory; "),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_which_methods_are_judged():
    assert {"random", "ate", "block_groups", "grad_cam"} <= set(judged_methods())
    assert not {"components", "confidence"} & set(judged_methods())
    with pytest.raises(ConfigError):
        known_sets(("marker", "no"))


@pytest.mark.slow
@pytest.mark.parametrize("known", TRAINED, ids=lambda known: known.name)
def test_bundled_models_have_learnt_their_cause(known):
    assert main(["check", known.name]) == 0
