"""The experiment: order of its parts, resume, refusals, and its document."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from rcdp_hpc.cli import main
from rcdp_hpc.comparison.paper import experiment
from rcdp_hpc.comparison.paper.effect import EffectRun
from rcdp_hpc.comparison.paper.experiment import Part, compare_paper
from rcdp_hpc.comparison.paper.scale import FULL, QUICK
from rcdp_hpc.comparison.paper.settings import (
    TITLES,
    DataFolders,
    comparison_settings,
    effect_settings,
    fold_settings,
    table2_settings,
)
from rcdp_hpc.errors import EXIT_INPUT, InputError, StageFailedError
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.runtime.digests import write_sealed


@pytest.fixture
def folders(tmp_path: Path) -> DataFolders:
    """Folders of data sets that nothing reads."""
    for name in TITLES:
        (tmp_path / name).mkdir()
    return DataFolders(tmp_path / "mnist", tmp_path / "cifar10")


def run(folders: DataFolders, out: Path, **changes: object) -> Path:
    """Run the experiment on one rank."""
    return compare_paper(out, folders.mnist, folders.cifar10, **{"scale": QUICK, "seeds": (1,), **changes})


def test_parts_run_in_order_and_the_document_has_what_is_finished(
    folders: DataFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def table5(of: experiment.Experiment) -> None:
        seen.append("table5")
        runs = [EffectRun("mnist", True, "epochs", 1, 0.875, 0.5, 4, 1.0, 0.5).as_json()]
        write_sealed(of.folder / "table5" / "results.json", {"runs": runs})

    parts = (Part("first", lambda of: seen.append("first")), Part("Table 5", table5))
    monkeypatch.setattr(experiment, "PARTS", parts)

    document = run(folders, tmp_path / "out")

    assert seen == ["first", "table5"]
    text = document.with_suffix(".md").read_text()
    assert "87.50 %" in document.read_text()
    assert "| MNIST | with | - | 87.50 % |" in text
    assert text.count("Not finished") == 5


def test_a_failed_cell_ends_the_experiment_after_all_parts(
    folders: DataFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fail(of: experiment.Experiment) -> None:
        raise agreed(StageFailedError("1 of 3 cells failed"))

    monkeypatch.setattr(experiment, "PARTS", (Part("Table 3", fail), Part("last", lambda of: seen.append("last"))))

    with pytest.raises(StageFailedError, match="Table 3: 1 of 3 cells failed"):
        run(folders, tmp_path / "out")

    assert seen == ["last"]
    assert (tmp_path / "out" / "paper.md").exists()


def test_seeds_may_be_added_and_other_settings_are_refused(
    folders: DataFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "PARTS", ())
    run(folders, tmp_path / "out")
    run(folders, tmp_path / "out")

    with pytest.raises(InputError, match="has an experiment with name = quick, not full"):
        run(folders, tmp_path / "out", seeds=(1, 2), scale=FULL)
    run(folders, tmp_path / "out")  # what was refused has changed nothing
    run(folders, tmp_path / "out", seeds=(1, 2))
    for seeds in ((1,), (2, 1, 3)):
        with pytest.raises(InputError, match=r"has an experiment with seeds = \[1, 2\], not"):
            run(folders, tmp_path / "out", seeds=seeds)
    with pytest.raises(InputError, match="has an experiment with name = quick, not full"):
        run(folders, tmp_path / "out", scale=FULL)


def test_a_missing_folder_is_named_before_anything_runs(folders: DataFolders, tmp_path: Path) -> None:
    folders.mnist.rmdir()

    with pytest.raises(InputError, match="mnist: no such folder; --mnist takes the folder"):
        run(folders, tmp_path / "out")

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scale", [QUICK, FULL], ids=lambda scale: scale.name)
def test_settings_are_accepted(folders: DataFolders, scale: SimpleNamespace) -> None:
    for data in TITLES:
        compared = comparison_settings(data, folders, scale, [1, 2])
        assert (compared.search.population, compared.search.generations) == (scale.population, scale.generations)
        assert compared.compare.arms == ["rows", "extractor"]
        assert table2_settings(data, folders, scale, 1).search.generations == 0
        assert effect_settings(data, folders, scale, 1, False).reservoir.kind == "none"
        assert effect_settings(data, folders, scale, 1, True).reservoir.nodes == 1000
    assert fold_settings(folders, scale, 1).compare.folds == 5


def test_the_full_scale_is_that_of_the_paper() -> None:
    assert (FULL.population, FULL.generations, FULL.epochs) == (50, 100, 250)
    assert [size / 2**30 for size in FULL.image_bytes] == [2, 4, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mnist", "m"], "--cifar10 is missing"),
        (["--mnist", "m", "--cifar10", "c", "--set", "reservoir.nodes=5"], "only compare.seeds can be set"),
        (["--mnist", "m", "--cifar10", "c", "--set", "compare.seeds=1,1"], "expected different numbers"),
        (["--mnist", "m", "--cifar10", "c", "--cell", "2"], "--cell does not go with rcdp compare paper"),
        (["--mnist", "m", "--cifar10", "c"], "no such folder"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["compare", "paper", "--out", str(tmp_path / "out"), *arguments])

    assert code == EXIT_INPUT
    assert message in capsys.readouterr().err


def test_folders_of_data_sets_are_for_the_paper_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["compare", "digits", "--out", str(tmp_path / "out"), "--mnist", "m"])

    assert code == EXIT_INPUT
    assert "--mnist belongs to rcdp compare paper" in capsys.readouterr().err
