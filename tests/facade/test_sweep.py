"""`jaxseg_xai.sweep`: Python objects into a store that continues."""

import numpy as np
import pytest

import jaxseg_xai
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients


class Noise:
    """A data set of one's own."""

    class_names = ()
    ids = ("a", "b", "c")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        pixels = np.random.default_rng(index).random((8, 8, 1)).astype(np.float32)
        return Sample(id=self.ids[index], image=pixels, labels=(pixels[..., 0] > 0.4).astype(int))


@pytest.fixture(scope="module")
def model():
    return jaxseg_xai.as_model(
        lambda x: 20 * (x - 0.5), class_names=["dark", "bright"], channels=1, name="pixels"
    )


def sweep(model, out, **options):
    explain = ["confidence", ("ig2", IntegratedGradients(num_nodes=2)), IntegratedGradients()]
    return jaxseg_xai.sweep(
        model=model, data=Noise(), explain=explain, out=out, progress=False, **options
    )


def test_an_own_model_data_set_and_explainer(model, tmp_path):
    out = tmp_path / "s.zarr"
    result = sweep(model, out)
    labels = ("confidence", "ig2", "integrated_gradients")
    assert result.counts == {label: {"OK": 3} for label in labels}
    found = jaxseg_xai.open_store(out)
    assert [one.image_id for one in found] == [*"abc"] * 3
    np.testing.assert_allclose(found[3].attribution, found[6].attribution, atol=1e-4)
    again = sweep(model, out)
    assert again.times.computed == dict.fromkeys(labels, 0)
    with pytest.raises(ConfigError, match="holds another sweep: seed was 0, is 1"):
        sweep(model, out, seed=1)
    assert sweep(model, out, seed=1, overwrite=True).num_failed == 0


def test_another_model_does_not_continue_it(model, tmp_path):
    out = tmp_path / "s.zarr"
    sweep(model, out)
    other = jaxseg_xai.as_model(
        lambda x: 20 * (x - 0.5),
        class_names=["dark", "bright"],
        channels=1,
        name="pixels",
        mean=[0.1],
    )
    with pytest.raises(ConfigError, match=r"holds another sweep: input\.mean"):
        sweep(other, out)
