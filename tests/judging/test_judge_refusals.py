"""What cannot be judged: bad input in one line, and the rest goes on."""

import pytest

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.judging import judge, judge_stores
from jaxseg_xai.metrics import METRICS
from tests.judging.made_up import COUNT, Pictures, judged, store_of


def test_bad_input(tmp_path):
    store = store_of(labels=("right",))
    with pytest.raises(ConfigError, match="unknown metric 'delete'; there is"):
        judged(store, tmp_path, ["delete"])
    with pytest.raises(ConfigError, match=r"deletion.num_steps is 0; it must be at least 1"):
        judged(store, tmp_path, METRICS.get("deletion")(num_steps=0))
    with pytest.raises(ConfigError, match="two metrics are labelled 'deletion'"):
        judged(store, tmp_path, ["deletion", "deletion"])
    with pytest.raises(ConfigError, match=r"\[\[metrics\]\] table has no metric"):
        judged(store, tmp_path, [{"num_steps": 3}])
    with pytest.raises(ConfigError, match=r"fine: unknown key steps"):
        judged(store, tmp_path, [{"metric": "deletion", "label": "fine", "steps": 3}])
    with pytest.raises(ConfigError, match="metrics holds 3"):
        judged(store, tmp_path, [3])
    with pytest.raises(ConfigError, match="no store to judge"):
        judged([], tmp_path)
    with pytest.raises(ConfigError, match="two stores are called pixels"):
        judged([store, store_of(labels=("right",))], tmp_path)
    with pytest.raises(ConfigError, match="data= goes with model="):
        judged(store, tmp_path, model=None)
    with pytest.raises(ConfigError, match="num_resamples is 0"):
        judged(store, tmp_path, num_resamples=0)


def test_a_store_whose_model_or_images_are_gone(tmp_path):
    with pytest.raises(JaxsegError, match="models/gone") as error:
        judge_stores([store_of(labels=("right",))], tmp_path)
    assert "\n" not in str(error.value)
    other = Pictures()
    other.ids = ("other", *Pictures.ids[1:])
    found = judged(store_of(labels=("noise",)), tmp_path, ["energy_inside"], data=other)
    assert found.notes == ("pixels: p0: the data set does not have this image any more",)
    assert found.table[0]["num_images"] == COUNT - 1


def test_methods_that_explain_different_things_are_named(tmp_path):
    store = store_of(labels=("right", "noise"))
    store.attrs["config"]["explain"] = {"right": {"target": "truth"}}
    found = judged(store, tmp_path, ["energy_inside"])
    assert "(right: truth, image; noise: prediction, image)" in found.notes[0]


def test_the_rest_goes_on_without_a_model(tmp_path, monkeypatch):
    real = judge.open_explained

    def one_is_gone(name, *arguments, **options):
        if name == "lost":
            raise ConfigError("no model lost; name a folder")
        return real(name, *arguments, **options)

    monkeypatch.setattr(judge, "open_explained", one_is_gone)
    stores = [store_of(model="lost", labels=("right",)), store_of(labels=("right",))]
    found = judged(stores, tmp_path, ["energy_inside"])
    assert found.notes == ("lost is left out: no model lost; name a folder",)
    assert found.models == ["pixels"]
    with pytest.raises(ConfigError, match="no store can be judged; lost is left out"):
        judge_stores([stores[0], store_of(labels=("right",))], tmp_path)


def test_another_model_than_the_one_explained(tmp_path):
    store = store_of(labels=("right",))
    store.attrs = store.attrs | {"config": store.attrs["config"] | {"class_names": ["a", "b"]}}
    with pytest.raises(ConfigError, match=r"differs from the one that was explained \(class_names"):
        judged(store, tmp_path)
