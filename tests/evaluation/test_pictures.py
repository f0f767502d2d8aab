"""Pictures with any class names and any number of classes; a failed picture does not fail the stage."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from rcdp_hpc.cli.commands import main
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.evaluation import drawing, fonts, pictures
from rcdp_hpc.evaluation.pictures import draw_class_counts, draw_confusion, draw_training
from rcdp_hpc.runtime import logs
from rcdp_hpc.runtime.digests import write_sealed_lines
from rcdp_hpc.runtime.rundir import RunDirectory

STRANGE = [
    "$", "$$", "$$$", "$x^2", "a_b^c\\frac{1}", "\\", "line\nbreak", "", "   ", "\t", "x" * 500, "кошка", "قطة", "γάτα",
    "猫", "猫 cat", "👩\u200d🔬", "e\u0301", "\u200b", "\udc80",
]  # fmt: skip


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The saved figures, which are also drawn."""
    figures: list[Figure] = []
    save = pictures.save_figure

    def keep(figure: Figure, path: Path) -> None:
        save(figure, path)
        figures.append(figure)

    monkeypatch.setattr(pictures, "save_figure", keep)
    return figures


@pytest.fixture(autouse=True)
def _fonts_forget():
    fonts._families.cache_clear()
    logs._logged_once.discard((fonts.log.name, "fonts"))
    yield
    fonts._families.cache_clear()


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def confusion(classes: int) -> np.ndarray:
    return np.random.default_rng(classes).integers(0, 9, (classes, classes)) + np.diag(np.full(classes, 50))


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_any_name_is_drawn_as_it_is_without_a_flood_of_warnings(tmp_path, drawn, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        draw_confusion(confusion(len(STRANGE)), STRANGE, tmp_path / "confusion.png")
        draw_class_counts(STRANGE, {"before": [3] * len(STRANGE), "after": [5] * len(STRANGE)}, tmp_path / "counts.png")
    assert is_picture(tmp_path / "confusion.png")
    assert is_picture(tmp_path / "counts.png")
    shown = labels(drawn[0].axes[0].yaxis)
    assert shown[:9] == ["$", "$$", "$$$", "$x^2", "a_b^c\\frac{1}", "\\", "line\\nbreak", "''", "'   '"]
    assert shown[9] == "\\t"
    assert shown[10].startswith("xxx")
    assert len(shown[10]) == 24
    assert shown[11:14] == ["кошка", "قطة", "γάτα"]
    assert labels(drawn[1].axes[0].xaxis) == shown
    assert len([record for record in caplog.records if "no installed font" in record.message]) <= 1


def test_names_that_no_font_has_are_shown_by_number_and_reported_once(tmp_path, drawn, monkeypatch, caplog):
    monkeypatch.setattr(fonts, "_others", list)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            draw_confusion(confusion(4), ["cat", "猫", "猫 cat", "cat\U000e0061"], tmp_path / "confusion.png")
    assert labels(drawn[0].axes[0].xaxis) == ["cat", "class 1", "2: ? cat", r"cat\U000e0061"]
    (record,) = caplog.records
    assert "no installed font has 1 of the characters in class names (猫)" in record.message


def test_a_font_that_has_the_characters_is_found_and_used(tmp_path, drawn, monkeypatch, caplog):
    fonttools = pytest.importorskip("fontTools.fontBuilder")
    pen_of = pytest.importorskip("fontTools.pens.ttGlyphPen").TTGlyphPen
    pen = pen_of(None)
    for place, move in enumerate([(0, 0), (0, 500), (500, 500), (500, 0)]):
        (pen.moveTo if not place else pen.lineTo)(move)
    pen.closePath()
    square = pen.glyph()
    builder = fonttools.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({".notdef": square, "cat": square})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "cat": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Cats Only", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(tmp_path / "cats.ttf")
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", list(manager.ttflist))
    manager.addfont(tmp_path / "cats.ttf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(confusion(2), ["猫", "$猫"], tmp_path / "confusion.png")
    assert labels(drawn[0].axes[0].xaxis) == ["猫", "$猫"]
    assert fonts.labels_of(["猫"]).families == ["DejaVu Sans", "Cats Only"]
    assert not caplog.records


def test_of_many_classes_the_worst_confusions_are_named_and_no_cell_has_a_number(tmp_path, drawn):
    names = [f"$name_{number}" for number in range(1000)]
    matrix = confusion(1000)
    matrix[17, 4] = 77
    draw_confusion(matrix, names, tmp_path / "confusion.png")
    cells, bars = drawn[0].axes
    assert len(cells.texts) == 0
    assert len(labels(cells.xaxis)) < 30
    assert labels(bars.yaxis)[0] == "$name_17 → $name_4"
    assert len(labels(bars.yaxis)) == 20
    assert bars.patches[0].get_width() == 77


def test_counts_are_in_the_cells_that_have_room(tmp_path, drawn):
    draw_confusion(np.array([[3, 123_456_789_012], [0, 5]]), ["a", "b"], tmp_path / "few.png")
    assert sorted(text.get_text() for text in drawn[0].axes[0].texts) == ["123456789012", "3", "5"]
    draw_confusion(confusion(30) * 10**9, [str(number) for number in range(30)], tmp_path / "many.png")
    assert not drawn[1].axes[0].texts


@pytest.mark.parametrize("classes", [1, 2, 30, 31, 1000])
def test_class_counts_of_any_number_of_classes(tmp_path, drawn, classes):
    names = [f"$name_{number}" for number in range(classes)]
    before = (np.arange(classes) + 1).tolist()
    draw_class_counts(names, {"before": before, "after": [classes] * classes}, tmp_path / "counts.png")
    named = labels(drawn[0].axes[-1].yaxis if classes > 30 else drawn[0].axes[0].xaxis)
    assert named == (names if classes <= 30 else [*names[:-11:-1], *names[9::-1]])
    assert is_picture(tmp_path / "counts.png")


def metrics(path: Path, losses: list[float]) -> Path:
    lines = [
        {
            "epoch": epoch,
            "train_loss": loss,
            "validation_loss": loss,
            "train_accuracy": 0.5,
            "validation_accuracy": 0.75,
        }
        for epoch, loss in enumerate(losses)
    ]
    write_sealed_lines(path, lines)
    return path


@pytest.mark.parametrize("losses", [[0.9], [3.0, 0.4, 0.5], [2.0, 1.0, 0.0], [5.0, 2.0, -1.0, -0.5], [1e3, 1e-3]])
def test_the_best_epoch_is_marked_and_ticks_are_integers(tmp_path, drawn, losses):
    draw_training(metrics(tmp_path / "metrics.jsonl", losses), tmp_path / "training.png")
    loss, accuracy = drawn[0].axes
    best = int(np.argmin(losses)) + 1
    for axes, value in ((loss, min(losses)), (accuracy, 75.0)):
        (star,) = [line for line in axes.lines if line.get_marker() == "*"]
        assert star.get_xydata().tolist() == [[best, value]]
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert (loss.get_yscale() == "log") == (min(losses) > 0)
    (legend,) = drawn[0].legends
    assert f"best model, epoch {best}" in [text.get_text() for text in legend.get_texts()]
    for axes in drawn[0].axes:
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_the_users_matplotlibrc_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setitem(pictures.matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setitem(pictures.matplotlib.rcParams, "font.family", ["No Such Font"])
    draw_confusion(confusion(3), ["$", "_", "%"], tmp_path / "confusion.png")
    assert is_picture(tmp_path / "confusion.png")


def test_a_failed_picture_is_one_warning_and_its_earlier_file_is_removed(tmp_path, monkeypatch, caplog):
    run = RunDirectory(tmp_path)
    for folder in (run.report, run.train):
        folder.mkdir()
    metrics(run.train / "metrics.jsonl", [2.0, 1.0])
    (run.report / "confusion.png").write_bytes(b"of an earlier evaluation")

    def fail(*_) -> None:
        raise ValueError("unknown thing\nand a long story")

    monkeypatch.setattr(pictures, "draw_confusion", fail)
    with caplog.at_level(logging.INFO):
        drawing.draw_report(run, confusion(3), ["a", "b", "c"])
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.message == f"{run.report / 'confusion.png'} could not be drawn: ValueError: unknown thing"
    assert not (run.report / "confusion.png").exists()
    assert is_picture(run.report / "training.png")
    (run.train / "metrics.jsonl").write_text('{"epoch": 0}\n')
    drawing.draw_report(run, confusion(3), ["a", "b", "c"])
    assert not (run.report / "training.png").exists()


def test_a_picture_that_was_asked_for_is_an_error_if_it_fails(tmp_path, monkeypatch):
    table = [{"class": "$", "before": 2, "after": 3}]
    drawing.draw_class_table(table, tmp_path / "counts.png")
    assert is_picture(tmp_path / "counts.png")
    drawing.draw_class_table(table, tmp_path / "counts.pdf")
    assert (tmp_path / "counts.pdf").read_bytes().startswith(b"%PDF")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        drawing.draw_class_table(table, tmp_path / "folder.png")
    monkeypatch.setattr(pictures, "_few_counts", lambda *_: 1 / 0)
    with pytest.raises(StageFailedError, match=r"counts\.png: the picture could not be drawn \(ZeroDivisionError"):
        drawing.draw_class_table(table, tmp_path / "counts.png")


def test_classes_of_dollars_are_evaluated(tmp_path, monkeypatch):
    """Classes "$", "$$" and "$$$" from raw file to report, and a class without test samples."""
    generator = np.random.default_rng(0)
    counts = {"$": 20, "$$": 20, "$$$": 20, "rare_^": 2}
    y = np.repeat(list(counts), list(counts.values()))
    x = generator.normal(size=(len(y), 6)) + 3 * np.repeat(np.arange(4.0), list(counts.values()))[:, None]
    np.savez(tmp_path / "t.npz", x=x.astype(np.float32), y=y)
    settings = {
        "data.source": "npz", "data.path": tmp_path / "t.npz", "data.class_keep_fractions": "[]", "data.shards": 1,
        "training.epochs": 2, "data.balance": "random_over", "search.generations": 0, "reservoir.nodes": 20,
        "reservoir.states": 1, "reservoir.sequence": "rows", "reservoir.kernel": "dense-fp32", "training.batch": 8,
        "training.threads": 1,
    }  # fmt: skip
    out = tmp_path / "run"
    assert main(["run", "digits", "--quiet", "--out", str(out), *(f"--set={k}={v}" for k, v in settings.items())]) == 0
    summary = json.loads((out / "report/summary.json").read_text())
    assert summary["test"]["absent"] == ["rare_^"]
    assert summary["test"]["recall"][summary["classes"].index("rare_^")] is None
    assert is_picture(out / "report/confusion.png")
    assert is_picture(out / "report/training.png")
    assert main(["inspect", str(out), "--picture", str(tmp_path / "classes.png")]) == 0
    assert is_picture(tmp_path / "classes.png")
