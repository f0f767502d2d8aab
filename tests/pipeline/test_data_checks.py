"""Settings that do not fit the data are refused before anything is balanced or written."""

import subprocess
import sys

import numpy as np
import pytest

from rcdp_hpc.config import parse_config
from rcdp_hpc.data import prepare
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline import stages as pipeline
from rcdp_hpc.pipeline.data_checks import SourceFacts, check_settings_fit

SPACE = {"density": {"low": 0.1, "high": 0.5}}
SHAPES = {"table": (5,), "series": (8, 3), "images": (12, 10), "colour": (16, 16, 3)}


def tree(sections):
    found = {"run": {"progress": False}, "search": {"generations": 0}, "reservoir": {"nodes": 20}}
    found["training"] = {"batch": 8}
    for key, value in sections.items():
        section, _, name = key.partition(".")
        found.setdefault(section, {}).update({name: value} if name else value)
    return found


def facts(kind, shortest=None):
    return SourceFacts("t.npz", SHAPES[kind], shortest, ["a", "b", "c"], [30, 20, 10], 90)


SAMPLES = [
    ("table", {"reservoir.states": 2}, r"reservoir\.states = 2 is more than the 1 steps .* set it to at most 1"),
    ("table", {"reservoir.sequence": "patches", "reservoir.piece_size": [2, 2]}, r"reservoir\.sequence = 'patches'"),
    ("table", {"reservoir.sequence": "channels"}, r"'channels' needs samples of shape \(height, width, channels\)"),
    ("table", {"reservoir.reduction": "all", "readout.kind": "lstm"}, "'lstm' reads several steps"),
    ("table", {"reservoir.kind": "none", "readout.kind": "gru"}, "'gru' reads several steps"),
    ("table", {"reservoir.warm_up": 1}, r"reservoir\.warm_up = 1"),
    ("table", {"reservoir.feature_scaling": [1.0, 2.0]}, r"feature_scaling has 2 factors, but a step has 5"),
    ("table", {"extractor": {"kind": "dictionary"}}, "'dictionary' needs images of at least 6 x 6"),
    ("table", {"extractor": {"kind": "convolution"}}, "needs images of at least 8 x 8"),
    ("table", {"extractor": {"kind": "wavelet_packets"}}, "lines of 5 values of samples of shape .* has 8 taps"),
    ("series", {"extractor": {"kind": "wavelet_packets"}}, "lines of 3 values .* set extractor.axis = 'steps'"),
    ("table", {"readout.kind": "ridge", "augment.shifts": 1}, r"augment\.shifts = 1 moves images"),
    ("series", {"reservoir.sequence": "both"}, "'both' needs samples as high as wide, these are 8 x 3"),
    ("series", {"reservoir.states": 9}, "more than the 8 steps of a sample: set it to at most 8"),
    ("series", {"reservoir.steps": [8]}, r"step 8 is not within the 8 steps .* choose steps from 0 to 7"),
    ("series", {"reservoir.steps": [-9]}, r"step -9 .* from -8 to -1"),
    ("series", {"reservoir.sequence": "windows", "reservoir.piece_size": [9]}, "9 steps are more than the 8"),
    ("series", {"reservoir.sequence": "windows", "reservoir.piece_size": [3], "reservoir.piece_stride": [2]}, "leaves"),
    ("series", {"reservoir.reduction": "mean", "reservoir.warm_up": 8}, "warm_up = 8 leaves nothing"),
    ("series", {"reservoir.window": 2, "reservoir.feature_scaling": [1.0] * 3}, "a step has 6 features"),
    ("images", {"reservoir.sequence": "patches", "reservoir.piece_size": [4, 13]}, "are more than the"),
    ("images", {"extractor": {"kind": "dictionary", "patch": 11}}, "needs images of at least 11 x 11"),
    ("images", {"extractor": {"kind": "dictionary", "patch": 9, "pool": 4}},
     "pool = 4 needs a map of at least 4 x 4 positions, but it has 4 x 2"),
    ("images", {"extractor": {"kind": "convolution", "channels": [4] * 4}}, "needs images of at least 16"),
    ("colour", {"extractor": {"kind": "convolution"}, "augment": {"crop": 16, "edges": "reflect"}},
     r"augment\.crop = 16 mirrors more pixels than an image of 16 x 16 .* at most 15"),
    ("colour", {"readout.kind": "ridge", "augment.shifts": 16}, r"augment\.shifts = 16"),
    ("table", {"readout.warm_start": True, "readout.outputs": 2}, r"readout\.outputs = 3 or more, not 2"),
    ("series", {"search.generations": 2, "search.space": {"states": {"low": 1, "high": 9}}},
     r"largest candidate of \[search\.space\]: reservoir\.states = 9 is more than the 8 steps .* "
     r"\(in a search: change search\.space\.states\)"),
    ("table", {"search.generations": 2, "search.evaluation": "train", "readout.warm_start": True,
               "search.space": {"hidden": {"choices": [5, 20]}}}, r"the smallest candidate .* not 5"),
    ("series", {"search.generations": 2, "search.evaluation": "train", "reservoir.states": 20,
                "search.space": {"states": {"low": 2, "high": 4}, "hidden": {"low": 4, "high": 8}},
                "search.train_rows": 2}, r"fewer than the 3 classes[^;]*$"),
    ("series", {"search.generations": 2, "search.evaluation": "train", "readout.warm_start": True,
                "search.space": {"nodes": {"low": 50, "high": 4000}, "states": {"choices": [1, 3]}}},
     r"the largest candidate .* 12000 features are too many"),
    ("table", {"search.generations": 2}, r"search\.space is empty"),
    ("table", {"search.generations": 2, "search.space": {"hidden": {"low": 8, "high": 16}}}, "trains no readout"),
    ("table", {"search.generations": 2, "search.space": SPACE, "search.train_rows": 2}, "fewer than the 3 classes"),
    ("table", {"search.generations": 2, "search.space": SPACE, "search.validation_rows": 2}, "than the 3 classes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "sections", "message"), SAMPLES)
def test_settings_that_do_not_fit_are_refused_before_the_balancing(tmp_path, monkeypatch, kind, sections, message):
    generator = np.random.default_rng(0)
    y = np.repeat(np.arange(3), (42, 28, 14))
    np.savez(tmp_path / "t.npz", x=generator.random((len(y), *SHAPES[kind])), y=y)

    def never(*args, **options):
        pytest.fail("balanced before the settings were checked")

    monkeypatch.setattr(prepare, "balanced_rows", never)
    settings = {"data.source": "npz", "data.path": str(tmp_path / "t.npz"), **sections}
    with pytest.raises(InputError, match=message):
        pipeline.prepare(parse_config(tree(settings), "test"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("shards*"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"reservoir.states": 5}, "reservoir.states = 5 is more than the 4 steps"),
        ({"reservoir.sequence": "columns"}, "unequal length"),
        ({"reservoir.kind": "none", "reservoir.sequence": "columns"}, "unequal length"),
        ({"reservoir.sequence": "windows", "reservoir.piece_size": [8]}, "are more than the"),
        ({"extractor": {"kind": "convolution", "channels": [4]}}, "these samples differ in length"),
        ({"extractor": {"kind": "wavelet_packets"}}, "these samples differ in length"),
        ({"readout.kind": "ridge", "augment.shifts": 1}, "different lengths"),
        ({"search.generations": 1, "search.space": SPACE, "search.candidates_at_once": 2}, "unequal length"),
    ],
)
def test_the_shortest_series_counts(sections, message):
    config = parse_config(tree(sections), "test")
    with pytest.raises(InputError, match=message):
        check_settings_fit(config, facts("series", shortest=4))


@pytest.mark.parametrize(
    ("sections", "ranks", "message"),
    [
        (
            {"training.batch": 91},
            1,
            "a batch of 91 rows is more than the 90 training rows: set training.batch = 90 or less",
        ),
        ({"training.batch": 46}, 2, "a batch of 92 rows over 2 ranks"),
        ({"training.global_batch": 91}, 4, "a batch of 91 rows over 4 ranks"),
        ({}, 91, "91 ranks for 90 training rows"),
        ({"schedule.warmup_epochs": 3.0, "training.epochs": 3}, 1, "the warm-up takes 36 steps and the training 36"),
        ({"partition.load_balance": "rank_speeds", "partition.rank_speeds": [1.0]}, 2, "1 numbers for 2 ranks"),
        ({"search.generations": 1, "search.space": SPACE, "search.group_ranks": 3}, 2, "group_ranks = 3 is more than"),
        (
            {
                "search.generations": 1,
                "search.evaluation": "train",
                "search.space": {"batch": {"choices": [8, 64]}},
            },
            2,
            r"largest candidate of \[search\.space\]: a batch of 128 rows over 2 ranks",
        ),
    ],
)
def test_settings_that_do_not_fit_the_ranks_are_refused(sections, ranks, message):
    config = parse_config(tree(sections), "test")
    with pytest.raises(InputError, match=message):
        check_settings_fit(config, facts("table"), ranks)


def test_a_batch_is_a_warning_if_the_training_is_another_command(caplog, monkeypatch):
    import logging

    monkeypatch.setattr(logging.getLogger("rcdp_hpc"), "propagate", True)
    check_settings_fit(parse_config(tree({"training.batch": 91}), "test"), facts("table"))
    assert "the training will be refused with these settings: a batch of 91 rows" in caplog.text


def test_one_message_names_all_problems():
    config = parse_config(tree({"reservoir.states": 2, "training.batch": 91}), "test")
    with pytest.raises(InputError, match=r"2 settings do not fit the data .* \(1\) reservoir.states.*; \(2\) a batch"):
        check_settings_fit(config, facts("table"), 1)


@pytest.mark.parametrize("given", ["missing", "shape"])
def test_matrices_are_read_before_the_preparation(tmp_path, given):
    path = tmp_path / "own.npz"
    if given == "shape":
        np.savez(path, recurrent=np.eye(20), input=np.ones((20, 4)))
    config = parse_config(tree({"reservoir.matrices": str(path)}), "test")
    with pytest.raises(InputError, match=r"reservoir\.matrices = .*own\.npz: (cannot be read|'input' has the shape)"):
        check_settings_fit(config, facts("table"))
    np.savez(tmp_path / "copy.npz", recurrent=np.eye(20), input=np.ones((20, 5)))
    if given == "missing":
        check_settings_fit(config, facts("table"), own_matrices=tmp_path / "copy.npz")


@pytest.mark.parametrize(
    ("kind", "sections"),
    [
        ("table", {}),
        ("table", {"reservoir.sequence": "pixels", "reservoir.states": 5, "readout.kind": "lstm"}),
        ("series", {"reservoir.states": 8, "readout.kind": "gru"}),
        ("images", {"extractor": {"kind": "dictionary", "patch": 5}, "reservoir.states": 4}),
        ("colour", {"extractor": {"kind": "convolution"}, "augment": {"crop": 2, "flip": True}}),
        ("table", {"search.generations": 2, "search.space": SPACE, "search.folds": 10}),
    ],
)
def test_settings_that_fit_are_accepted(kind, sections):
    check_settings_fit(parse_config(tree(sections), "test"), facts(kind), 1)


def test_an_extractor_of_the_users_own_is_not_imported_without_torch(monkeypatch):
    monkeypatch.setattr("rcdp_hpc.networks.extractors.user.find_spec", lambda name: None)
    config = parse_config(tree({"extractor": {"kind": "tests.nowhere:Own"}}), "test")
    check_settings_fit(config, facts("colour"), 1)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"module tests\.nowhere cannot be imported"):
        check_settings_fit(config, facts("colour"), 1)


def test_shards_that_are_there_are_checked_too(tmp_path):
    y = np.repeat(np.arange(2), (30, 20))
    np.savez(tmp_path / "t.npz", x=np.random.default_rng(0).random((50, 4)), y=y)
    settings = {"data.source": "npz", "data.path": str(tmp_path / "t.npz")}
    pipeline.prepare(parse_config(tree(settings), "test"), tmp_path / "run")
    changed = parse_config(tree({**settings, "reservoir.states": 3}), "test")
    with pytest.raises(InputError, match=r"reservoir\.states = 3 is more than the 1 steps"):
        pipeline.prepare(changed, tmp_path / "run")


def test_the_check_needs_no_torch():
    code = (
        "import sys, rcdp_hpc.pipeline.data_checks; sys.exit(bool({'torch', 'horovod', 'mpi4py'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_stages_import_statistics_only_when_they_use_it():
    """Importing SciPy's statistics and scikit-learn takes longer than training on a small data set."""
    stages = "rcdp_hpc.data.prepare, rcdp_hpc.search.driver, rcdp_hpc.training.stage, rcdp_hpc.evaluation.stage"
    code = (
        f"import sys, {stages}; "
        "print(sorted({'scipy.stats', 'sklearn', 'imblearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
    assert done.stdout == "[]\n"
