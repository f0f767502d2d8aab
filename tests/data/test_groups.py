"""Groups (patients, sites) from columns, arrays and names: they stay on one side of every split, and in the shards."""

import logging

import h5py
import numpy as np
import pytest
from data.conftest import make_config
from data.shards.test_verify import change
from launch import rcdp, run_ranks

from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.inspect import describe_shards
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import check_shards, verify_shards
from rcdp_hpc.data.sources import LabelledArrays
from rcdp_hpc.errors import InputError

PATIENTS, EACH = 30, 8
PATIENT = np.repeat(np.arange(PATIENTS), EACH)


def samples(seed=0):
    """Return rows of 30 patients, of whom every third has only rows of the rare class."""
    y = np.where(PATIENT % 3, 0, 1)
    return np.random.default_rng(seed).normal(size=(len(y), 4)).astype(np.float32) + y[:, None], y


def prepared(folder, path="", arrays=None, **options):
    prepare_shards(make_config(path, **{"shards": 2, **options}), folder / "shards", arrays=arrays)
    return ShardReader(folder / "shards")


def groups_of(shards):
    """Return the names of the groups of each split; those of a row agree with the patient of its sample."""
    result = {}
    for split in ("train", "validation", "test"):
        rows = shards.read(split, 0, shards.rows(split))
        names = np.array(shards.index["groups"]["names"])[rows.group]
        np.testing.assert_array_equal(names, [f"p{patient}" for patient in PATIENT[rows.source_index]])
        result[split] = set(names.tolist())
    return result


def disjoint(groups):
    return sum(map(len, groups.values())) == len(set.union(*groups.values())) == PATIENTS


def csv_file(path, rows=range(PATIENTS * EACH), missing=-1):
    x, y = samples()
    lines = [
        f"{'' if row == missing else f'p{PATIENT[row]}'},{','.join(f'{value:.4f}' for value in x[row])},{'ab'[y[row]]}"
        for row in rows
    ]
    path.write_text("\n".join(["patient,f,g,h,i,label", *lines]) + "\n")
    return path


@pytest.mark.parametrize("options", [{}, {"folds": 3, "fold": 2}, {"max_samples": 120}, {"reserve": 0.3}])
def test_a_column_of_a_table(tmp_path, options):
    shards = prepared(tmp_path, csv_file(tmp_path / "t.csv"), source="csv", group_column="patient", **options)
    assert shards.sample_shape == (4,)
    groups = groups_of(shards)
    assert disjoint(groups)
    assert (shards.class_counts("test") > 0).all()
    assert verify_shards(shards.directory) == []
    train = shards.columns("train", 0, shards.rows("train"), ("group", "synthetic"))
    assert train["synthetic"].any()
    if not options:
        np.testing.assert_allclose(len(groups["test"]) / PATIENTS, 0.2, atol=0.04)


@pytest.mark.parametrize("kind", ["npz", "npy", "hdf5", "arrays", "names"])
def test_an_array_and_a_pattern_of_names(tmp_path, kind):
    x, y = samples()
    groups = np.array([f"p{patient}" for patient in PATIENT])
    if kind == "npz":
        np.savez(tmp_path / "t.npz", x=x, y=y, site=groups)
        shards = prepared(tmp_path, tmp_path / "t.npz", group_name="site")
    elif kind == "npy":
        for name, array in {"x": x, "y": y, "site": groups}.items():
            np.save(tmp_path / f"{name}.npy", array)
        shards = prepared(tmp_path, tmp_path, source="npy", group_name="site")
    elif kind == "hdf5":
        with h5py.File(tmp_path / "t.h5", "w") as file:
            file["in/x"], file["in/y"], file["in/site"] = x, y, groups.astype("S")
        options = {"x_name": "in/x", "y_name": "in/y", "group_name": "in/site"}
        shards = prepared(tmp_path, tmp_path / "t.h5", source="hdf5", **options)
    elif kind == "arrays":
        arrays = LabelledArrays({"x": x, "y": y, "groups": list(groups)})
        shards = prepared(tmp_path, source="arrays", arrays=arrays)
    else:
        np.savez(tmp_path / "t.npz", x=x, y=y, ids=[f"scan-{row}_{group}.png" for row, group in enumerate(groups)])
        shards = prepared(tmp_path, tmp_path / "t.npz", group_pattern=r"_(p\d+)\.png$")
    assert disjoint(groups_of(shards))


def test_sequences_of_a_table_have_a_group(tmp_path):
    lines = [
        f"s{PATIENT[row]}-{row},p{PATIENT[row]},{row % 7}.5,{'ab'[samples()[1][row]]}"
        for row in range(len(PATIENT)) for _ in range(2)
    ]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(["run,patient,value,label", *lines]))
    options = {"source": "csv", "sequence_column": "run", "group_column": "patient"}
    shards = prepared(tmp_path, tmp_path / "t.csv", **options)
    assert shards.sample_shape == (2, 1)
    assert disjoint(groups_of(shards))
    mixed = [lines[0].replace("p0", "p1"), *lines[1:]]
    (tmp_path / "u.csv").write_text("\n".join(["run,patient,value,label", *mixed]))
    with pytest.raises(InputError, match="sequence s0-0 has rows of group p1 and of group p0"):
        prepared(tmp_path / "u", tmp_path / "u.csv", **options)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(240, int), r"all samples are in one group, '0' \(groups\)"),
        (np.arange(240) % 2, "needs at least 3, one for each of train, validation, test; the samples have 2"),
        (np.repeat(["a", "b", ""], 80), r"arrays: groups, sample 160: the group is missing \(80 in all\)"),
        (np.arange(239), "groups has shape .239,. and type int64, expected one text or whole number for each"),
    ],
)
def test_groups_that_cannot_be_split(tmp_path, groups, message):
    x, y = samples()
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, source="arrays", arrays=LabelledArrays({"x": x, "y": y, "groups": groups}))


def test_a_missing_value_and_a_missing_column(tmp_path):
    path = csv_file(tmp_path / "t.csv", missing=5)
    with pytest.raises(InputError, match=r"t\.csv: row 5 \(from 0\)|line 7.*'patient': the group is missing"):
        prepared(tmp_path, path, source="csv", group_column="patient")
    with pytest.raises(InputError, match=r"no column 'patients'.*Did you mean 'patient'"):
        prepared(tmp_path, path, source="csv", group_column="patients")


@pytest.mark.parametrize("options", [{"group_column": "patient"}, {"source": "digits", "group_name": "site"}])
def test_a_key_that_the_source_does_not_read(tmp_path, options):
    x, y = samples()
    np.savez(tmp_path / "t.npz", x=x, y=y)
    path = "" if "source" in options else tmp_path / "t.npz"
    with pytest.raises(InputError, match=r"data\.group_\w+ = '\w+': data\.source = '\w+' does not read it"):
        prepared(tmp_path, path, **options)


def test_a_class_of_one_group_and_a_large_group_are_reported(tmp_path, caplog):
    x, y = samples()
    y = np.where(PATIENT == 3, 2, y)
    groups = np.where(PATIENT < 24, np.where(PATIENT == 3, 3, 0), PATIENT)
    arrays = LabelledArrays({"x": x, "y": y, "groups": groups})
    with caplog.at_level(logging.INFO):
        shards = prepared(tmp_path, source="arrays", arrays=arrays, test_fraction=0.4, balance="none")
    assert "no samples in test, because groups stay on one side: class 2 (in 1 group)" in caplog.text
    assert shards.class_counts("train")[2] == EACH
    assert "groups do not divide into the shares of samples" in caplog.text
    assert "The largest group, 0, has 76.7 % of the samples" in caplog.text
    with pytest.raises(InputError, match="all samples of class 2 are in one fold"):
        prepared(tmp_path / "folds", source="arrays", arrays=arrays, folds=4, fold=1, balance="none")


def test_a_test_file_with_groups_of_training_is_reported(tmp_path, caplog):
    train = csv_file(tmp_path / "t.csv", range(200))
    test = csv_file(tmp_path / "u.csv", range(184, 240))
    shards = prepared(tmp_path, train, source="csv", test_path=str(test), group_column="patient")
    assert "2 of 7 groups of the separate test set (data.group_column = 'patient') are in the training" in caplog.text
    assert "16 of 56 test samples are not of new groups, and their scores are likely too good: p23, p24" in caplog.text
    assert shards.index["groups"]["shared_with_test"] == {"groups": 2, "rows": 16}
    report = check_shards(shards.directory, duplicates=False)
    assert report.findings == []
    assert report.groups == 0
    assert "test and train share 2 of 30 groups, with 16 of 56 rows of test: 'p23', 'p24'" in report.notes[0]


def test_verification_proves_it_and_finds_a_planted_leak(tmp_path):
    x, y = samples()
    arrays = LabelledArrays({"x": x, "y": y, "groups": PATIENT})
    directory = prepared(tmp_path, source="arrays", arrays=arrays, shards=1, reserve=0.1).directory
    assert check_shards(directory).groups == PATIENTS
    assert "30 groups (groups): train 21, validation 3, test 6" in describe_shards(directory)
    shards = ShardReader(directory)
    inside, outside = (int(shards.columns(split, 0, 1, ("group",))["group"][0]) for split in ("train", "test"))
    shards.close()

    def leak(columns):
        columns["group"][:3] = inside

    change(directory, "test", leak)
    patient = shards.index["groups"]["names"][inside]
    [finding] = [finding for finding in verify_shards(directory) if "share" in finding]
    assert f"test and train share 1 of 30 groups, with 3 of {shards.rows('test')} rows of test: '{patient}'" in finding

    def another(columns):
        columns["group"][np.argmax(columns["synthetic"])] = outside

    change(directory, "train", another)
    assert any("has another group than the sample it is made of" in finding for finding in verify_shards(directory))

    def unknown(columns):
        columns["group"][4] = PATIENTS

    change(directory, "validation", unknown)
    assert any("row 4 has group 30, expected 0 to 29" in finding for finding in verify_shards(directory))


@pytest.mark.mpi
def test_ranks_verify_groups_and_repeated_samples_together(tmp_path):
    x, y = samples()
    x[100:110] = x[90:100]
    arrays = LabelledArrays({"x": x, "y": y, "groups": PATIENT})
    directory = prepared(tmp_path / "run", source="arrays", arrays=arrays, balance="none", test_fraction=0.4).directory
    notes = check_shards(directory).notes
    assert notes
    done = run_ranks(3, rcdp("verify", str(tmp_path / "run")), timeout=60)
    assert done.returncode == 0, done.stdout
    assert all(done.stdout.count(note) == 1 for note in [*notes, "none of 30 groups is on two sides of the split"])
