"""What `inspect` and `--dry-run` say and draw of images, before any work."""

import re

import nibabel
import numpy as np
import pytest
from PIL import Image

import jaxseg_xai
from jaxseg_xai.cli import main as cli
from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.orientation import orientation_of
from jaxseg_xai.core.types import Sample
from jaxseg_xai.report.sheet import Tile, sheet_figure
from jaxseg_xai.sweeps.look import look, shares_of, sizes_of
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def images(tmp_path):
    folder = tiny.write_images(tmp_path / "data", ["i0", "i1"])
    tiny.write_images(tmp_path / "data", ["i2"], size=(48, 40))
    Image.new("RGB", (32, 32)).save(folder / "images" / "black.png")
    return folder


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    return code, capsys.readouterr()


def test_what_a_model_will_see(model, images, tmp_path, capsys):
    out = tmp_path / "new" / "sheet.png"
    code, printed = run(capsys, "inspect", images, "--model", model, "--out", out)
    assert code == 0
    lines = printed.out.splitlines()
    disc = 100 * tiny.picture(0)[1].mean()
    assert "4 of 4 items: black, i0, i1, ..." in lines
    assert "classes of the labels: background, bright, never" in lines
    (row,) = [line for line in lines if line.startswith("i0 ")]
    assert row.split()[:3] == ["i0", "32x32", "3"]
    assert row.endswith(f"background {100 - disc:.3g} %, bright {disc:.3g} %")
    assert "sizes, each compiled once a method: 2: 32x32 (2), 48x40 (1)" in lines
    assert any(line.startswith("empty: ") and "black.png" in line for line in lines)
    with Image.open(out) as sheet:
        assert sheet.width > 400


def test_what_is_left_out_is_said(images, tmp_path, capsys, caplog):
    (images / "images" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    run(capsys, "inspect", images, "--out", tmp_path / "sheet.png")
    assert "left out are broken links (1): gone.png" in caplog.text


def test_what_cannot_be_used_is_said_with_its_reason(model, images, tmp_path, capsys):
    tiny.write_images(images, ["i31"], size=31)
    (images / "images" / "text.png").write_text("no image")
    flags = ("--model", model, "--out", tmp_path / "sheet.png", "--num", "0")
    code, printed = run(capsys, "inspect", images, *flags)
    assert code == 1
    assert "cannot be used: i31: 31x31 is not a multiple" in printed.out
    assert "text.png: corrupt" in printed.out
    _, printed = run(capsys, "inspect", images, *flags, "--pad", "edge")
    (row,) = [line for line in printed.out.splitlines() if line.startswith("i31 ")]
    assert "31x31" in row
    assert "32x32" in row


def test_labels_that_mean_something_else_are_said(model, tmp_path, capsys):
    flags = ("--data.num", "2", "--data.size", "32", "--out", tmp_path / "sheet.png")
    code, printed = run(capsys, "inspect", "shapes", "--model", model, *flags)
    assert code == 0
    assert "the images are labelled background, triangle, but" in printed.out


def test_volumes_without_a_model(tmp_path, capsys):
    rng = np.random.default_rng(0)
    image = nibabel.Nifti1Image(rng.random((6, 8, 5), np.float32), np.diag([-2.0, -3.0, 4.0, 1]))
    nibabel.save(image, tmp_path / "scan.nii.gz")
    flags = ("--data.plane", "coronal", "--num", "2", "--out", tmp_path / "sheet.png")
    code, printed = run(capsys, "inspect", tmp_path, *flags)
    assert code == 0
    assert "2 read, evenly spaced:" in printed.out
    (row,) = [line for line in printed.out.splitlines() if line.startswith("scan#002")]
    assert row.split()[:2] == ["scan#002", "5x6"]
    assert "4x2" in row
    assert "I L" in row


@pytest.mark.parametrize("command", ["sweep", "explain", "components"])
def test_a_dry_run_does_nothing(command, model, images, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--model", model, "--data.source", images, "--out", out, "--dry-run"]
    flags += ["--explain", "confidence"] if command != "components" else []
    code, printed = run(capsys, command, *flags, "--warm-up", "0")
    assert code == 0
    name = "components" if command == "components" else "confidence"
    assert f"{name}: 8 explanations, 4 images x 2 classes" in printed.out
    assert f"nothing was stored; without dry_run it goes to {out}" in printed.out
    assert not out.exists()


def test_a_dry_run_measures(model, images, tmp_path, capsys):
    flags = ["--model", model, "--data.source", images, "--out", tmp_path / "s", "--dry-run"]
    code, printed = run(capsys, "sweep", *flags, "--explain", "confidence", "--batch-size", "4")
    assert code == 0
    lines = printed.out.splitlines()
    rows = [line for line in lines if re.match(r"confidence +\d+x\d+ ", line)]
    assert [row.split()[1] for row in rows] == ["32x32", "48x40"]
    for row in rows:
        assert re.fullmatch(r"\S+ +\S+ +1 +[\d.]+ s +\S+ s +\d+ % +\S+ (kB|bytes)", row)
    said = r"in all about \S+ s on these devices: \S+ s compiling 2 programs, \S+ s explaining, .*"
    assert any(re.fullmatch(said, line) for line in lines)
    assert any(re.match(r"\S+ kB on disk; memory so far: \S+ [MG]B of this pro", x) for x in lines)
    assert not (tmp_path / "s").exists()


def test_a_dry_run_refuses_what_the_run_would(model, images, tmp_path, capsys):
    flags = ["--model", model, "--data.source", images, "--classes", "liver", "--dry-run"]
    code, printed = run(capsys, "sweep", *flags, "--explain", "confidence")
    assert code == 2
    assert "unknown class liver" in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "data.source is empty"),
        (["nowhere"], "data set 'nowhere': neither one of"),
        (["shapes", "--data.source", "shapes"], "the images are named twice"),
        (["shapes", "--num", "-1"], "num is -1; it must be at least 0"),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys):
    code, printed = run(capsys, "inspect", *arguments)
    assert code == 2
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_labels_and_directions_in_words():
    planes = np.zeros((4, 4, 2), bool)
    planes[:2, :, 1] = True
    sample = Sample(id="a", image=np.zeros((4, 4, 1), np.float32), labels=planes)
    assert shares_of(sample, ("whole", "core")) == {"whole": 0.0, "core": 0.5}
    assert shares_of(tiny.sample("b", sample.image, None), ()) == {}
    numbers = tiny.sample("c", sample.image, planes[..., 1].astype(np.int32) * 7)
    assert shares_of(numbers, ("background",)) == {"background": 0.5, "7": 0.5}
    assert orientation_of(None, 3) == ""
    assert orientation_of(np.diag([2.0, -3.0, 4.0, 1.0]), 3) == "R P S"
    oblique = np.array([[1, 9, 0, 0], [9, 1, 0, 0], [0, 0, -4, 0], [0, 0, 0, 1.0]])
    assert orientation_of(oblique, 2) == "A R"


def test_a_look_keeps_why(tmp_path):
    images = [np.zeros((4, 4, 1), np.float32), np.eye(4, dtype=np.float32)[..., None]]

    class Source:
        class_names, ids = (), ("black", "eye", "gone")

        def __getitem__(self, index):
            return tiny.sample(self.ids[index], images[index], None)

    looks = look(Source(), range(3), None)
    assert [bool(one.problem) for one in looks] == [False, False, True]
    assert "gone: cannot be read: IndexError" in looks[2].problem
    assert sizes_of(looks) == {(4, 4): 2}


def test_an_image_whose_labels_cannot_be_used_is_looked_at_all_the_same():
    image = np.eye(4, dtype=np.float32)[..., None]

    class Source:
        class_names, ids = (), ("eye",)

        def __getitem__(self, index):
            return Sample(id="eye", image=image, labels_error=DataError("eye: fractions"))

    for segmenter in (None, jaxseg_xai.as_model(lambda x: x, class_names=["a", "b"], channels=1)):
        [one] = look(Source(), [0], segmenter and segmenter.segmenter)
        assert (one.problem, one.labels_problem) == ("", "eye: fractions")
        assert sizes_of([one]) == {(4, 4): 1}


def test_columns_of_the_sheet():
    image = np.zeros((5, 6, 1), np.uint8)
    labels = np.eye(5, 6, dtype=np.int32)
    tiles = [Tile(name="a", image=image), Tile(name="b", image=image, labels=labels)]
    axes = sheet_figure(tiles).axes
    assert [axis.get_title() for axis in axes] == ["a", "", "b", "Labels"]
    painted = axes[3].images[0].get_array()
    assert (painted[0, 0] == (115, 80, 0)).all()
    assert (painted[0, 1] == 0).all()
    image[:], labels[0, :2] = 200, (0, -1)
    unknown = sheet_figure([Tile(name="d", image=image, labels=labels)]).axes[1]
    assert unknown.get_title() == "Labels (dark: not known)"
    assert (unknown.images[0].get_array()[0, :3] == [[200] * 3, [60] * 3, [200] * 3]).all()
    planes = Tile(name="c", image=image, seen=image, labels=labels[..., None] > 0)
    assert len(sheet_figure([planes]).axes) == 3
