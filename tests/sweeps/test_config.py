import dataclasses
import json

import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.sweeps.config import SweepConfig, SweepSettings, make_job, read_config
from jaxseg_xai.sweeps.data import DataConfig
from tests import tiny

NAMES = [f"i{k}" for k in range(10)]


def test_no_method_takes_the_name_of_a_table_of_settings():
    fields = dataclasses.fields(SweepSettings)
    tables = {field.name for field in fields if dataclasses.is_dataclass(field.type)}
    assert tables == set(EXPLAINERS.reserved)


@pytest.fixture
def images(tmp_path):
    return tiny.write_images(tmp_path / "images", NAMES, size=(24, 24))


def chosen(source, **options):
    dataset, indices = DataConfig(source=str(source), **options).open(tiny.OUTPUT)
    return [dataset.ids[index] for index in indices]


def test_items_in_the_order_given_and_limit_evenly(images):
    assert chosen(images) == NAMES
    assert chosen(images, limit=2) == ["i2", "i7"]
    assert chosen(images, limit=99) == NAMES
    assert chosen(images, items=("i4", "i1", "i4")) == ["i4", "i1"]
    assert chosen(images / "images" / "i3.png") == ["i3"]


def test_a_folder_named_as_a_built_in_data_set_is_not_in_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_images(tmp_path / "triangle", ["i0"])
    assert chosen("triangle", limit=1, size=32)[0].startswith("triangle-test")
    assert chosen("./triangle") == ["i0"]
    pool = DataConfig(source="./triangle", window=(0.0, 9.0)).open_pool("triangle")
    assert pool.ids[0].startswith("triangle-test")


def config(**options):
    options = {"explain": ("misure", "ate")} | options
    jobs = tuple(map(make_job, options.pop("explain")))
    return SweepConfig(model="m", data=DataConfig(source="triangle"), explain=jobs, **options)


def read(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text)
    return read_config(path)


def test_defaults_are_valid():
    check(config())


def test_identity_is_json_and_leaves_out_what_changes_nothing():
    identity = config().identity()
    assert json.loads(json.dumps(identity)) == identity
    same = config(
        batch_size=3, overwrite=True, explain=(Misure(lanes=3, windows=()), Ate(batch_size=2))
    )
    assert same.identity() == identity
    for other in (
        config(explain=("misure", Ate(num_patches=2))),
        config(explain=("misure", ("ate2", Ate()))),
        config(explain=("misure", {"method": "ate", "region": "box 9"})),
        config(explain=("misure", {"method": "ate", "target": "truth"})),
        config(seed=1),
    ):
        assert other.identity() != identity


def test_every_kind_of_value(tmp_path):
    found = read(
        tmp_path,
        'out = "a/b"\nclasses = ["x", "y"]\noverwrite = true\nseed = 2\npad = "edge"\n'
        '[data]\nlabels = "l"\nwindow = [0, 1.5]\n[roi]\ncorner = [1, 2]\n'
        '[[explain]]\nmethod = "misure"\ntau = 1\n[[explain]]\nmethod = "ate"\n',
    )
    assert (str(found.out), found.classes, found.overwrite) == ("a/b", ("x", "y"), True)
    assert (found.seed, found.pad, found.roi.corner) == (2, "edge", (1, 2))
    assert (str(found.data.labels), found.data.window) == ("l", (0.0, 1.5))
    misure, ate = (job.explainer for job in found.explain)
    assert isinstance(misure.tau, float)
    assert ate == Ate()


def test_one_method_twice_and_a_region_of_its_own(tmp_path):
    found = read(
        tmp_path,
        '[[explain]]\nmethod = "ate"\n'
        '[[explain]]\nmethod = "ate"\nlabel = "ate16"\nblock_size = 16\n'
        'region = "component 2"\ntarget = "false_positives"\n',
    )
    first, second = found.explain
    assert (first.label, first.explainer, first.region) == ("ate", Ate(), None)
    assert (second.label, second.explainer.block_size) == ("ate16", 16)
    assert (second.region.name, second.target) == ("component 2", "false_positives")


def test_jobs_in_python():
    ate = Ate(block_size=4)
    assert make_job(ate).label == "ate"
    assert make_job(("small", ate)).label == "small"
    assert make_job("ate16=ate").label == "ate16"
    assert make_job(make_job("ate")).explainer == Ate()
    for bad in (3, ("a", 3), None):
        with pytest.raises(ConfigError, match="explain holds"):
            make_job(bad)
    with pytest.raises(ConfigError, match="two entries are labelled 'ate'"):
        check(config(explain=("ate", "ate")))
    with pytest.raises(ConfigError, match="no method to explain with; name one or more of misure"):
        check(config(explain=()))
    with pytest.raises(ConfigError, match=r"ate4.block_size is 0; it must be at least 1"):
        check(config(explain=(("ate4", Ate(block_size=0)),)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('explainers = ["misure", "ate"]', '[[explain]] method = "misure" [[explain]] method ='),
        ("[ate]\nblock_size = 16", 'write [[explain]] with method = "ate", block_size = 16'),
        ('pool_source = "x"', "pool_source is now others_source"),
        ("pool_patches = 3", "pool_patches is now num_patches"),
        ("[[explain]]\nblock_size = 3", "an [[explain]] table has no method"),
        ('[[explain]]\nmethod = "lime"', "unknown explainer 'lime'; there is misure"),
        ('[[explain]]\nmethod = "ate"\nblock = 1', "ate: unknown key block; the keys are"),
        ('[[explain]]\nmethod = "ate"\nregion = "circle"', "region is 'circle'; use image"),
        ('[[explain]]\nmethod = "ate"\ntarget = "x"', "target is 'x'; use prediction, truth"),
        ("explain = 3", "write [[explain]] tables"),
    ],
)
def test_old_spellings_and_bad_entries_are_one_line(text, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["seed = true", "[roi]\nside = 1.5", "[roi]\ncorner = 1"])
def test_values_of_a_neighbouring_type_are_not_taken(text, tmp_path):
    with pytest.raises(ConfigError, match=r"valid integer|valid array"):
        read(tmp_path, text)
