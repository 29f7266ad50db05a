"""Two workers against one process."""

import pytest

from benchmarks import workers


@pytest.mark.slow
def test_it_prints_the_ratio(capsys):
    assert workers.main(["--rows", "4", "--repetitions", "1"]) == 0
    text = capsys.readouterr().out
    assert "speed of 2 workers over one process, 4 explanations: " in text
    assert "largest difference of the maps: 0 " in text
