"""Weights as people keep them, read without PyTorch; here it only writes them."""

import argparse
import io
import logging
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.weights import read_weights
from jaxseg_xai.models.weights.stored import Storage, Tensor

torch = pytest.importorskip("torch", reason="only it writes its files")

STATE = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "conv.bias": torch.ones(2)}


class Settings:
    """Stands for a configuration library's class."""

    def __init__(self):
        self.content = {"lr": 1e-3, "more": [argparse.Namespace(seed=1)]}

    def __setstate__(self, state):
        raise AssertionError("code of the class was run")


class Attack:
    """Runs a command wherever it is unpickled for real."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def saved(tmp_path, content, name="net.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


def check(path):
    found = read_weights(path)
    assert set(found) == set(STATE)
    for name, value in STATE.items():
        np.testing.assert_array_equal(found[name], value.numpy())


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "last.ckpt", "best.pth.tar", "model.bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_ending_in_both_formats(tmp_path, name, zipped):
    check(saved(tmp_path, STATE, name, _use_new_zipfile_serialization=zipped))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_plain_pickle_of_numpy_arrays(tmp_path, protocol):
    (tmp_path / "net.pkl").write_bytes(
        pickle.dumps({k: v.numpy() for k, v in STATE.items()}, protocol=protocol)
    )
    check(tmp_path / "net.pkl")


@pytest.mark.parametrize(
    "wrapped",
    [
        {"state_dict": STATE},
        {"model_state_dict": STATE, "loss": torch.tensor(0.3)},
        {"model": {"state_dict": STATE, "name": "unet"}},
        {"model": "unet", "network_weights": STATE},
        {"model": {"name": "unet"}, "state_dict": STATE, "optimizer": {"state": {0: STATE}}},
        STATE | {"epoch": 3, "note": "best", "none": None, "size": torch.Size([2, 3])},
    ],
)
def test_wrappers_and_what_is_no_tensor(tmp_path, wrapped):
    check(saved(tmp_path, wrapped))


def test_numpy_and_containers_are_data_and_unknown_classes_inert(tmp_path, caplog):
    content = {
        "state_dict": STATE | {"settings": Settings()},
        "hyper_parameters": argparse.Namespace(path=tmp_path, options={"a"}),
        "dice": np.float64(0.9),
        "history": np.arange(3),
        "names": np.array(["liver", None], object),
        "config": Settings(),
        "dtype": torch.float16,
    }
    with caplog.at_level(logging.INFO):
        check(saved(tmp_path, content, "last.ckpt"))
    assert "objects of 3 unknown classes were not made" in caplog.text
    assert "argparse.Namespace" in caplog.text


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_that_a_file_names_is_run_or_imported(tmp_path, zipped):
    marker = tmp_path / "was_run"
    attack = Attack(marker)
    content = {"a": attack, "state_dict": STATE | {"b": attack, "c": [attack, {"d": attack}]}}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    check(path)
    torch.load(path, weights_only=False)
    assert marker.exists()  # so the attack works where it can


@pytest.mark.parametrize(
    "call",
    [
        b"cnobody_imports_this\nThing\n)R",
        b"cbuiltins\nexec\nX\x13\x00\x00\x00raise SystemExit(3)\x85R",
        b"cbuiltins\ngetattr\ncos\nsystem\nX\x08\x00\x00\x00__call__\x86R)R",
        b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))t R".replace(b" ", b""),
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nabort\nN)NtR",
    ],
)
def test_calls_by_hand_are_inert(tmp_path, call):
    path = tmp_path / "net.pkl"
    path.write_bytes(b"\x80\x02}X\x01\x00\x00\x00a" + call + b"s.")
    with pytest.raises(ModelError, match="not a state dict but a dictionary of 'a'"):
        read_weights(path)
    assert "nobody_imports_this" not in sys.modules


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: {"epoch": 3, "model": net}])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_in_a_pickled_module_are_refused(tmp_path, wrap, zipped):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))
    path = saved(tmp_path, wrap(net), _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError) as error:
        read_weights(path)
    assert str(error.value) == (
        f"{path}: holds a whole Python object (torch.nn.modules.container.Sequential): save "
        "model.state_dict()"
    )


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"epoch": 3, "best": 0.5}, "not a state dict but a dictionary of 'epoch', 'best'; save"),
        ([1, 2], "not a state dict but a list; save"),
        (argparse.Namespace(), "not a state dict but a argparse.Namespace"),
    ],
)
def test_files_without_weights_say_what_they_hold(tmp_path, content, match):
    with pytest.raises(ModelError, match=match):
        read_weights(saved(tmp_path, content))


def test_names_in_a_message_have_no_terminal_codes(tmp_path):
    name = "\x1b[31mThing\n"
    encoded = b"X" + len(name).to_bytes(4, "little") + name.encode()
    pickled = b"\x80\x04" + encoded + encoded + b"\x93)\x81."
    (tmp_path / "net.pkl").write_bytes(pickled)
    with pytest.raises(ModelError, match="not a state dict") as error:
        read_weights(tmp_path / "net.pkl")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["net/data.pkl", "net/constants.pkl"], "holds a TorchScript program: save"),
        (["word/document.xml"], r"a zip archive that torch\.save did not write"),
    ],
)
def test_other_archives_are_not_called_damaged(tmp_path, names, match):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with pytest.raises(ModelError, match=match):
        read_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files_are_one_line(tmp_path, zipped):
    path = saved(tmp_path, STATE, _use_new_zipfile_serialization=zipped)
    raw = path.read_bytes()
    for length in (0, 3, 40, len(raw) // 2, len(raw) - 5):
        path.write_bytes(raw[:length])
        with pytest.raises(ModelError, match=r"net\.pth: damaged weight file") as error:
            read_weights(path)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400


def test_every_kind_of_tensor(tmp_path):
    base = torch.arange(12.0)
    state = {
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "double": base.double(),
        "long": torch.arange(3),
        "bool": torch.tensor([True, False]),
        "view": base.reshape(3, 4).T[1:],
        "broadcast": torch.ones(1).expand(5),
        "scalar": torch.tensor(2.0),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
        "moved": torch.nn.Buffer(base[::2]),
    }
    for zipped in (True, False):
        found = read_weights(saved(tmp_path, state, _use_new_zipfile_serialization=zipped))
        assert list(found) == list(state)
        for name, value in state.items():
            expected = value.detach().float().numpy()
            assert found[name].shape == expected.shape
            np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (3, 1)), (-1, (1,), (1,)), (0, (2,), (-1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(offset, size, stride):
    storage = Storage(dtype=np.dtype(np.float32), length=4)
    storage.fill(np.zeros(4, np.float32).tobytes(), "<")
    with pytest.raises(ValueError, match="tensor"):
        Tensor(storage=storage, offset=offset, size=size, stride=stride).array()


def test_big_endian_files(tmp_path):
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    with (
        zipfile.ZipFile(buffer) as old,
        zipfile.ZipFile(tmp_path / "net.pth", "w") as new,
    ):
        for name in old.namelist():
            raw = old.read(name)
            if name.endswith("byteorder"):
                raw = b"big"
            elif "/data/" in name:
                raw = np.frombuffer(raw, np.float32).byteswap().tobytes()
            new.writestr(name, raw)
    check(tmp_path / "net.pth")


def test_arrays_of_objects_in_npz_are_refused(tmp_path):
    np.savez(tmp_path / "net.npz", state=np.array([{"a": 1}], object))
    with pytest.raises(ModelError, match="holds Python objects, not arrays") as error:
        read_weights(tmp_path / "net.npz")
    assert "allow_pickle" not in str(error.value)
