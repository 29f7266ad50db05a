"""A judgement keeps its scores: what is there is not computed again, however a run ended."""

import json

import pytest

from jaxseg_xai.judging import judge
from jaxseg_xai.judging.scored import ScoreFile
from tests.judging.made_up import COUNT, METRIC_SETTINGS, judged, store_of


@pytest.fixture
def scored(monkeypatch):
    """Which metrics are asked, in order."""
    asked = []

    def score_all(metrics, *arguments, **options):
        asked.append(sorted(metrics))
        return real(metrics, *arguments, **options)

    from jaxseg_xai.judging import scoring

    real = scoring.score_all
    monkeypatch.setattr(scoring, "score_all", score_all)
    return asked


def test_a_judgement_that_was_killed_goes_on(tmp_path, scored, monkeypatch):
    store = store_of(labels=("right", "noise"))
    real, calls = ScoreFile.add, []

    def killed(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(ScoreFile, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        judged(store, tmp_path)
    monkeypatch.setattr(ScoreFile, "add", real)
    # Cut off within a line, too.
    file = tmp_path / judge.SCORES
    kept = file.read_text()
    file.write_text(kept[:-30])
    scored.clear()
    found = judged(store, tmp_path)
    # There are 2 batches of 2 methods. The first was there, but for a line that was cut off, which
    # went with the second.
    assert scored == 3 * [["deletion", "energy_inside"]]
    assert len(file.read_text().splitlines()) == 2 * (COUNT - 1 + COUNT) + 1
    whole = judged(store, tmp_path / "whole")
    assert [row | {"seconds": 0} for row in found.scores] == [
        row | {"seconds": 0} for row in whole.scores
    ]
    scored.clear()
    again = judged(store, tmp_path)
    assert not scored
    assert str(again) == str(found)


def test_only_what_is_new_is_scored(tmp_path, scored):
    store = store_of(labels=("right", "noise"))
    judged(store, tmp_path, ["energy_inside"])
    scored.clear()
    judged(store, tmp_path)
    assert scored == 4 * [["deletion"]]
    scored.clear()
    judged(store, tmp_path, {"metric": "deletion", "num_steps": 2, "block_size": 4})
    assert scored == 4 * [["deletion"]]  # other settings
    # Explanations that were made anew.
    store = store_of(run="later", labels=("right", "noise"))
    scored.clear()
    judged(store, tmp_path, ["energy_inside"])
    assert scored


def test_curves_are_kept_per_image(tmp_path):
    judged(store_of(labels=("right",)), tmp_path, METRIC_SETTINGS[:1])
    lines = [json.loads(line) for line in (tmp_path / judge.SCORES).read_text().splitlines()]
    assert len(lines) == COUNT - 1
    curve = lines[0]["curves"]["curve"]
    assert (len(curve), curve[0]) == (5, 1.0)
