"""What several searches keep, as the command of stability makes it of their regions."""

import numpy as np

from benchmarks.agree.stability import _together


class Counted:
    """A model that finds a share of the object that is the share of its four pixels shown."""

    def dices(self, regions):
        """[runs, N]."""
        return regions.sum((2, 3)) / 4


def test_what_many_searches_keep_is_made_larger_until_it_is_sufficient():
    kept = np.zeros((3, 2, 1, 1, 5), bool)  # three starts, two runs
    kept[:, 0, 0, 0, :4] = True  # all keep the same, and it is enough
    for start, pixel in enumerate((2, 3, 4)):  # only together they are
        kept[start, 1, 0, 0, [0, 1, pixel]] = True
    found = _together(Counted(), kept, 2)[:, 0, 0]
    assert found.astype(int).tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    kept[:, 1, 0, 0, 2:] = False
    kept[2, 1, 0, 0, 1] = False  # none is enough: the smallest region
    assert _together(Counted(), kept, 2)[1, 0, 0].astype(int).tolist() == [1, 0, 0, 0, 0]
