"""Damaged files of every format: read, or refused in one line, in seconds and little memory."""

import numpy as np
import pytest

from tests.fuzz import command, faulty, mutations
from tests.fuzz.targets import TARGETS

#: Formats whose sound files are refused: stacks, and what contracts break of each layout.
REFUSED = {"tiff-stack", *(name for name, target in TARGETS.items() if target.is_layout)}


def test_some_files_of_every_format():
    cases = [f"{name}:{number}" for name in TARGETS for number in range(2)]
    answers = dict(command.run(cases, num_workers=1))
    wrong = [command.Finding(c, a["how"], a["wrong"]) for c, a in answers.items() if a["wrong"]]
    assert not wrong, "\n".join(map(str, wrong))
    sound = {name for name in TARGETS if not answers[f"{name}:0"]["said"]}
    assert sound == TARGETS.keys() - REFUSED
    refused = [case for case, answer in answers.items() if answer["said"]]
    assert 0.3 * len(cases) < len(refused) < 0.9 * len(cases)


@pytest.mark.slow
def test_ten_thousand_files():
    shares = {name: target.share for name, target in TARGETS.items()}
    wrong = command.findings(command.cases_of(shares, 10_000))
    assert not wrong, "\n".join(map(str, wrong))


def test_what_is_wrong_is_found(monkeypatch):
    monkeypatch.setattr(command, "SILENCE", 8)
    cases = [f"{name}:1" for name in faulty.READERS]
    answers = command.run(cases, num_workers=1, targets=faulty.__name__)
    for case, answer in answers:
        _, words = faulty.READERS[case.partition(":")[0]]
        assert words in answer["wrong"]
        assert bool(words) == bool(answer["wrong"])


def test_a_case_depends_on_its_name_alone():
    content = bytes(range(256)) * 4
    found = {
        mutations.mutate(content, [b"other"], np.random.default_rng([7, number]))
        for number in (1, 2, 1)
    }
    assert len(found) == 2
