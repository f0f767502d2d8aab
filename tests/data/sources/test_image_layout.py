import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import read_samples
from rcdp_hpc.errors import InputError

Image = pytest.importorskip("PIL.Image")
LEVELS = {"cat": 10, "dog": 200}


def write(folder, count=4, classes=("cat", "dog"), suffix=".png", first=0):
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            Image.new("L", (6, 6), LEVELS.get(name.lower(), 0) + number).save(folder / name / f"{number}{suffix}")
    return folder


def counts(source, part="train"):
    return dict(zip(source.classes, np.bincount(getattr(source, part).y).tolist(), strict=True))


def test_hidden_files_are_left_out_and_counted(tmp_path):
    write(tmp_path)
    write(tmp_path / "cat", 2, [".ipynb_checkpoints", "__MACOSX", ".cache"])
    write(tmp_path, 1, ["__MACOSX"])
    for name in ("._0.png", ".DS_Store", "Thumbs.db", ".hidden.png", "x.heic", "notes.txt"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    (tmp_path / "loose.png").write_bytes(b"x")
    (tmp_path / "cat/gone.png").symlink_to(tmp_path / "nowhere.png")
    source = opened("image_folder", tmp_path)
    assert counts(source) == {"cat": 4, "dog": 4}
    left = {what.split(":")[0]: count for what, count in source.findings.left_out.items()}
    assert left == {
        ".ipynb_checkpoints folders of Jupyter": 1,
        "folders of the operating system": 2,
        "hidden folders": 1,
        "._ files of macOS": 1,
        "files of the operating system": 2,
        "hidden files": 1,
        "images in a format that is not read (.heic)": 1,
        "files that are not images (.txt)": 1,
        "images that are in no class folder": 1,
        "broken links": 1,
    }


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tif", ".TIFF", ".gif", ".pgm", ".ppm", ".jfif", ".JPE"])
def test_formats(tmp_path, suffix):
    source = opened("image_folder", write(tmp_path, suffix=suffix))
    assert counts(source) == {"cat": 4, "dog": 4}
    np.testing.assert_allclose(everything(source.train)[:, 3, 3, 0].astype(int)[[0, 7]], [10, 203], atol=6)


def test_links_are_followed_and_loops_end(tmp_path):
    elsewhere = write(tmp_path / "elsewhere")
    top = tmp_path / "top"
    top.mkdir()
    for name in LEVELS:
        (top / name).symlink_to(elsewhere / name)
    (elsewhere / "cat/loop").symlink_to(elsewhere / "cat")
    source = opened("image_folder", top)
    assert counts(source) == {"cat": 4, "dog": 4}
    assert source.findings.left_out["links to a folder that contains them"] == 1


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("TRAINING", "testing"),
        ("train", "valid"),
        ("seg_train", "seg_test"),
        ("Training Set", "Val"),
    ],
)
@pytest.mark.parametrize("above", ["", "archive/inner"])
def test_names_of_the_parts(tmp_path, train, test, above):
    write(tmp_path / above / train)
    write(tmp_path / above / test, 2, first=20)
    source = opened("image_folder", tmp_path)
    assert (counts(source), counts(source, "test")) == ({"cat": 4, "dog": 4}, {"cat": 2, "dog": 2})
    assert source.train.ids[0] == "cat/0.png"


def test_a_validation_folder_next_to_a_test_folder_is_named(tmp_path):
    for place, part in enumerate(("train", "valid", "test")):
        write(tmp_path / part, 3, first=10 * place)
    source = opened("image_folder", tmp_path)
    assert len(source.test) == 6
    assert source.findings.left_out["images of valid/"] == 6
    assert any("valid is not read" in sentence for sentence in source.findings.warnings)


def test_parts_without_classes_are_refused(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / part / "cat.0.png")
    with pytest.raises(InputError, match="no training folder with one folder for each class"):
        opened("image_folder", tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    assert opened("image_folder", write(tmp_path, classes=("bus", "train"))).classes == ["bus", "train"]


def test_a_test_folder_next_to_the_classes(tmp_path):
    write(tmp_path)
    write(tmp_path / "test", 2, first=20)
    source = opened("image_folder", tmp_path)
    assert (source.classes, len(source.test)) == (["cat", "dog"], 4)


def test_classes_of_the_test_may_differ_by_case(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test", 2, ("Cat", "DOG"), first=20)
    assert counts(opened("image_folder", tmp_path), "test") == {"cat": 2, "dog": 2}


def test_numbers_as_classes_come_in_their_order(tmp_path):
    assert opened("image_folder", write(tmp_path, classes=("10", "9", "1"))).classes == ["1", "9", "10"]


def test_the_same_image_in_training_and_test(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test", 2, first=3)
    source = opened("image_folder", tmp_path)
    assert any(sentence.startswith("2 test images have the same pixels") for sentence in source.findings.warnings)


def test_prediction_names_its_images(tmp_path):
    for name, level in (("10.png", 10), ("9.png", 9), ("b.bmp", 30), ("sub/c.jpg", 40)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (9, 9), level).save(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"")
    new = read_samples(tmp_path, DataSection(corrupt_images="skip"), sample_shape=(5, 5, 1))
    assert (list(new.ids), new.id_name) == (["10.png", "9.png", "b.bmp", "sub/c.jpg"], "file")
    np.testing.assert_allclose(new.x[:][:, 2, 2, 0].astype(int), [10, 9, 30, 40], atol=2)
    assert sum(new.findings.left_out.values()) == 1
    with pytest.raises(InputError, match=r"a\.png: corrupt image"):
        read_samples(tmp_path, DataSection(), sample_shape=(5, 5, 1)).x[:]


def test_prediction_of_one_image(tmp_path):
    Image.new("L", (9, 9), 77).save(tmp_path / "Cat.BMP")
    new = read_samples(tmp_path / "Cat.BMP", sample_shape=(3, 4, 3))
    assert (list(new.ids), new.x.shape) == (["Cat.BMP"], (1, 3, 4, 3))
    assert (new.x[:] == 77).all()
