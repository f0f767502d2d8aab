"""Predicting the raw test file gives the labels of the evaluation, sample by sample, with the samples' names."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from deploy.conftest import trained_run
from launch import rcdp, run_ranks

from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import InputError

STAGES = ("prepare", "train", "evaluate")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path, rows, random, labelled=True):
    """Write rows of three classes that differ in scale and in a column of categories."""
    labels = np.arange(rows) % 3
    lines = [",".join(["weight", "length", "colour", *(["label"] if labelled else [])])]
    for label in labels:
        weight, length = random.normal(1000 + 40 * label, 30), random.normal(0.01 * label, 0.01)
        colour = ["red", "green", "blue"][int(random.integers(3))]
        lines.append(f"{weight:.3f},{length:.5f},{colour}" + (f",class {label}" if labelled else ""))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("table")
    random = np.random.default_rng(0)
    write_table(folder / "train.csv", 150, random)
    write_table(folder / "test.csv", 60, random)
    settings = ["data.source=csv", f"data.path={folder / 'train.csv'}", f"data.test_path={folder / 'test.csv'}",
                "data.category_columns=['colour']", "data.balance=none"]  # fmt: skip
    return trained_run(folder / "run", settings, STAGES), folder / "test.csv"


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    random = np.random.default_rng(0)
    header = "@problemName waves\n@univariate true\n@equalLength false\n@classLabel true slow fast\n@data\n"
    for part, count in (("TRAIN", 60), ("TEST", 30)):
        lines = []
        for number in range(count):
            steps = np.arange(int(random.integers(6, 15)))
            values = 50 + 9 * np.sin(steps * (0.4 + number % 2)) + random.normal(0, 1, len(steps))
            lines.append(",".join(f"{value:.4f}" for value in values) + (":slow" if number % 2 == 0 else ":fast"))
        (folder / f"w_{part}.ts").write_text(header + "\n".join(lines) + "\n")
    run = trained_run(folder / "run", ["data.source=ts", f"data.path={folder}"], STAGES)
    return run, folder / "w_TEST.ts"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    pillow = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 8)):
        for place, name in enumerate(("bright", "dark", "striped")):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 90, (12, 12, 3)) + (140 if place == 0 else 0)
                pixels[:: 2 if place == 2 else 99] += 60
                file = folder / part / name / f"{number}.{'png' if number % 2 else 'jpg'}"
                pillow.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    settings = ["data.source=image_folder", f"data.path={folder}", "data.image_size=[8,8]", "data.balance=none"]
    return trained_run(folder / "run", settings, STAGES), folder / "test"


@pytest.fixture(params=["table", "series", "images"])
def evaluated(request):
    return request.getfixturevalue(request.param)


def test_predictions_of_the_raw_test_file_are_those_of_evaluation(evaluated, tmp_path):
    run, test = evaluated
    counts = predict(run.model, test, tmp_path / "y.csv", run.config().data)
    found, expected = rows_of(tmp_path / "y.csv"), rows_of(run.report / "predictions.csv")
    assert len(found) == len(expected) > 20
    assert {row["part"] for row in expected} == {"test"}
    if "file" in found[0]:
        labels = {row["file"]: row["label"] for row in found}
        found = [{"label": labels[row["id"]]} for row in expected]
    assert [row["label"] for row in found] == [row["predicted"] for row in expected]
    confusion = np.array(json.loads((run.report / "summary.json").read_text())["test"]["confusion"])
    assert list(counts.values()) == confusion.sum(0).tolist()
    right = [row["class"] == row["predicted"] for row in expected]
    assert [row["correct"] == "yes" for row in expected] == right
    assert sum(right) == confusion.trace() > 0.5 * len(right)


def test_probabilities_are_those_of_evaluation(table, tmp_path):
    run, test = table
    predict(run.model, test, tmp_path / "y.csv", run.config().data)
    for found, expected in zip(rows_of(tmp_path / "y.csv"), rows_of(run.report / "predictions.csv"), strict=True):
        probability = next(value for name, value in found.items() if name.endswith(f"p_{found['label']}"))
        assert float(probability) == pytest.approx(float(expected["probability"]), abs=1e-4)


def test_the_model_file_alone_reads_the_same_way(evaluated, tmp_path):
    run, test = evaluated
    predict(run.model, test, tmp_path / "with.csv", run.config().data)
    predict(run.model, test, tmp_path / "alone.csv")
    assert (tmp_path / "with.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


def test_images_are_named_by_their_files(images, tmp_path):
    run, test = images
    predict(run.model, test, tmp_path / "y.csv")
    names = [row["file"] for row in rows_of(tmp_path / "y.csv")]
    assert len(names) == 24
    assert "bright/0.jpg" in names
    assert sorted(names) == sorted(str(file.relative_to(test)) for file in test.rglob("*.*"))
    predict(run.model, test / "dark/1.png", tmp_path / "one.CSV")
    (row,) = rows_of(tmp_path / "one.CSV")
    assert row["file"] == "1.png"


@pytest.mark.mpi
def test_two_ranks_write_the_same_predictions(table, images, tmp_path):
    for (run, test), name in ((table, "t"), (images, "i")):
        predict(run.model, test, tmp_path / f"{name}.csv", run.config().data)
        before = rows_of(run.report / "predictions.csv")
        done = run_ranks(2, rcdp("predict", str(run.path), str(test), "--to", str(tmp_path / f"{name}2.csv")))
        assert done.returncode == 0, done.stdout
        assert (tmp_path / f"{name}2.csv").read_bytes() == (tmp_path / f"{name}.csv").read_bytes()
        done = run_ranks(2, rcdp("evaluate", "--out", str(run.path), "--restart"))
        assert done.returncode == 0, done.stdout
        assert rows_of(run.report / "predictions.csv") == before


def test_single_samples_far_outside_are_counted_and_named(table, tmp_path, caplog):
    run, test = table
    lines = test.read_text().splitlines()
    for row in (3, 17):
        lines[1 + row] = "99000," + lines[1 + row].split(",", 1)[1]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    predict(run.model, tmp_path / "new.csv", tmp_path / "y.csv")
    assert "2 of 60 samples are far outside the training data" in caplog.text
    assert "sample 3, 17. Most often in column weight (2 of them)" in caplog.text


def test_a_column_in_another_unit_is_refused_by_its_name(table, tmp_path):
    run, test = table
    lines = test.read_text().splitlines()
    grams = [lines[0], *(f"{float(line.split(',')[0]) * 1000},{line.split(',', 1)[1]}" for line in lines[1:])]
    (tmp_path / "new.csv").write_text("\n".join(grams))
    with pytest.raises(InputError, match=r"column weight has .* here, .* in training"):
        predict(run.model, tmp_path / "new.csv", tmp_path / "y.csv")


@pytest.mark.parametrize(
    ("shape", "cause"),
    [
        ((60, 4), r"One column too many: remove the column of labels"),
        ((60, 2), "One column is missing"),
        ((3, 60), r"The axes may be swapped: save x\.T"),
        ((5, 3, 1), r"The number of values is the same: reshape the samples, x\.reshape\(-1, 3\)"),
    ],
)
def test_another_shape_is_explained(table, shape, cause, tmp_path):
    run, _ = table
    np.savez(tmp_path / "new.npz", x=np.ones(shape))
    with pytest.raises(InputError, match=r"this model takes \(3,\): the columns weight, length, colour\. " + cause):
        predict(run.model, tmp_path / "new.npz", tmp_path / "y.csv")


@pytest.mark.parametrize(
    ("shape", "cause"),
    [((2, 9, 9, 3), "Resize the images"), ((8, 8, 3), r"save x\[None\]")],
)
def test_another_shape_of_images_is_explained(images, shape, cause, tmp_path):
    run, _ = images
    np.save(tmp_path / "new.npy", np.full(shape, 9, np.uint8))
    with pytest.raises(InputError, match=cause):
        predict(run.model, tmp_path / "new.npy", tmp_path / "y.csv")
