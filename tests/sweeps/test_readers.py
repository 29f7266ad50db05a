"""Processes that read images ahead of a sweep."""

import dataclasses
import multiprocessing
import os
import time

import pytest

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.sweeps.items import read_ahead
from jaxseg_xai.sweeps.run import run_sweep, work_of
from tests import tiny


@pytest.fixture(scope="module")
def config(model, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "s.zarr"
    return tiny.sweep_config(out, model, images, explain=(Confidence(),))


@pytest.mark.slow
def test_processes_read_the_same(config, tmp_path):
    run_sweep(config, progress=False)
    with_readers = dataclasses.replace(config, out=tmp_path / "s.zarr", readers=2)
    run_sweep(with_readers, progress=False)
    tiny.assert_same_store(with_readers.out, config.out)
    assert not multiprocessing.active_children()


class Deadly:
    """A data set whose second item ends the process that reads it."""

    class_names = ()
    ids = ("a", "b", "c")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            os._exit(9)
        return tiny.Bytes()[0]


@pytest.mark.slow
def test_a_reader_that_dies_is_one_line(config):
    work = dataclasses.replace(work_of(config), source=Deadly(), chosen=(0, 1, 2), readers=1)
    with pytest.raises(JaxsegError, match="a process that reads images died, maybe out of memory"):
        list(read_ahead(work, [0, 1, 2], 1))
    time.sleep(0.1)
    assert not multiprocessing.active_children()


def test_a_data_set_that_stays_in_its_process(config):
    class Here(tiny.Bytes):
        pass

    work = dataclasses.replace(work_of(config), source=Here(), chosen=(0, 1), readers=2)
    with pytest.raises(ConfigError, match=r"readers: the data set cannot be given to other proc"):
        next(read_ahead(work, [0, 1], 1))
