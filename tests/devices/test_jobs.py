import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxseg_xai.devices.jobs import equal_batches, map_jobs
from jaxseg_xai.devices.mesh import device_mesh


@pytest.mark.parametrize(
    ("count", "at_most", "size"), [(50, 12, 10), (260, 256, 130), (3, 256, 3), (8, 1, 1), (1, 9, 1)]
)
def test_equal_batches_leave_hardly_a_place_empty(count, at_most, size):
    assert equal_batches(count, at_most) == size


@pytest.mark.parametrize("count", [0, 1, 7, 24, 30])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_every_job_is_done_once_and_none_beyond_the_count(count, batch_size):
    mesh = device_mesh()

    @jax.jit
    def run(count):
        return jax.shard_map(
            lambda count: map_jobs(
                lambda jobs: jobs.astype(jnp.float32) ** 2 + 1,
                count,
                capacity=30,
                batch_size=batch_size,
                num_devices=mesh.size,
            ),
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(count)

    jobs = np.arange(30.0)
    expected = np.where(jobs < count, jobs**2 + 1, 0)
    np.testing.assert_array_equal(run(jnp.int32(count)), expected)
