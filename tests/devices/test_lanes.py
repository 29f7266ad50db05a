import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.devices.lanes import run_lanes
from jaxseg_xai.program.memory import forward_bytes, images_that_fit, lanes_that_fit
from jaxseg_xai.program.trace import trace


def countdown(lengths, wanted, num_lanes):
    """Jobs that take `lengths` steps and give (number, steps, sum of 1 / step)."""
    lengths = jnp.asarray(lengths)

    def start(number):
        return number, jnp.int32(0), jnp.float32(0)

    def step(state):
        number, count, total = state
        return number, count + 1, total + 1 / (count + 1.0) + number

    return jax.jit(
        lambda wanted: run_lanes(
            start,
            step,
            lambda state: state[1] == lengths[state[0]],
            lambda state: {"state": state},
            wanted,
            num_lanes=num_lanes,
        )
    )(jnp.asarray(wanted))


@pytest.mark.parametrize("num_lanes", [1, 2, 3, 7, 20])
def test_every_job_runs_to_its_own_end(num_lanes):
    lengths = [3, 1, 7, 1, 1, 4, 12]
    (number, count, _), use = unpack(countdown(lengths, np.ones(7, bool), num_lanes))
    np.testing.assert_array_equal(number, np.arange(7))
    np.testing.assert_array_equal(count, lengths)
    assert use.useful == sum(lengths)
    assert use.total >= use.useful
    if num_lanes == 1:
        assert use.total == use.useful


def unpack(found):
    results, use = found
    return results["state"], use


def test_a_lane_that_is_done_takes_the_next_job_and_no_other_waits():
    # The long job takes one lane from the beginning; the other does all short ones meanwhile.
    _, use = unpack(countdown([20, *[4] * 5], np.ones(6, bool), num_lanes=2))
    assert use.useful == use.total == 40


def test_jobs_that_are_not_wanted_take_no_step_and_give_zeros():
    wanted = np.array([False, True, False, True, False])
    (number, count, total), use = unpack(countdown([9, 2, 9, 3, 9], wanted, num_lanes=2))
    np.testing.assert_array_equal(number, [0, 1, 0, 3, 0])
    np.testing.assert_array_equal(count, [0, 2, 0, 3, 0])
    assert not total[~wanted].any()
    assert use.useful == 5


def test_without_jobs_there_is_no_step():
    (_, count, _), use = unpack(countdown([2, 2], np.zeros(2, bool), num_lanes=2))
    assert not count.any()
    assert use.total == 0


def test_the_neighbours_change_no_bit():
    lengths, wanted = np.arange(1, 12), np.ones(11, bool)
    (_, _, together), _ = unpack(countdown(lengths, wanted, num_lanes=4))
    for job in (0, 5, 10):
        (_, _, alone), _ = unpack(countdown(lengths, np.arange(11) == job, num_lanes=4))
        assert alone[job] == together[job]


class Device:
    def __init__(self, platform, limit=None):
        self.platform, self._limit = platform, limit

    def memory_stats(self):
        return None if self._limit is None else {"bytes_limit": self._limit}


def test_lanes_fill_half_of_an_accelerators_memory():
    assert lanes_that_fit(Device("gpu", 80 << 30), lambda: 1 << 30) == 40
    assert lanes_that_fit(Device("gpu", 80 << 30), lambda: 1 << 20) == 256
    assert lanes_that_fit(Device("gpu", 1 << 20), lambda: 1 << 30) == 1
    assert lanes_that_fit(Device("tpu"), lambda: 1 << 30) == 4  # its memory is not known


def two_layers(variables, images):
    return jnp.tanh(images * jnp.ones(8)) * variables


def test_images_at_a_time_fill_half_of_an_accelerators_memory():
    shape = (16, 16, 1)
    need = forward_bytes(trace(two_layers, jnp.float32(1), (1, *shape), jnp.float32))
    assert need == 4 * 16 * 16 * (1 + 3 * 8)
    gpu = Device("gpu", 10 * need)
    assert images_that_fit(gpu, two_layers, jnp.float32(1), shape) == 5
    assert images_that_fit(Device("cpu"), two_layers, jnp.float32(1), shape) == 1
