"""Exported .mat files in GNU Octave: predictions, refusals, averages."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import octave
import pytest
import scipy.io
from deploy.export.small_programs import case, cases, joined, random

from rcdp_hpc.deploy.export.mat import writer as module
from rcdp_hpc.deploy.export.mat.variables import LONGEST_NAME, trained, unique_names
from rcdp_hpc.deploy.export.mat.writer import FUNCTIONS, MatWriter
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.model.packing import Quantized

ALL = cases()
NAMES = ('"quoted"', "it's", "back\\slash", "new\nline", "größe", "日本", "%d percent", "what??/", "", "a,b", "\\n")


def model(rows: int | None = 1):
    """Return what the writer reads of a model: its training rows."""
    return SimpleNamespace(rows=rows)


def classifier(names=("a", "b"), seed=1, **changes):
    """Return a case of a reservoir of fixed matrices and a linear classifier."""
    nodes = 5
    weights = {
        "weight": random(len(names), nodes, seed=seed), "bias": random(len(names), seed=seed),
        "data": random(3), "indices": np.array([0, 4, 2], np.int32), "indptr": np.array([0, 2, 2, 3, 3, 3], np.int32),
        "input": random(nodes, 4), "drive": random(nodes), "leak": np.full(1, 0.5, np.float32),
    } | changes  # fmt: skip
    made = case(
        (6, 4),
        ("reservoir", ("x", "data", "indices", "indptr", "input", "drive", "leak"), {"activation": "tanh"}),
        ("reduce", ("x",), {"name": "mean", "warm_up": 0}),
        ("reshape", ("x",), {"shape": [nodes]}),
        ("linear", ("x", "weight", "bias"), {}),
        ("softmax", ("x",), {}),
        constants=weights,
    )
    return replace(made, program=replace(made.program, classes=tuple(names)))


def run(script, folder):
    octave.require()
    done = octave.run(script, folder)
    assert not done.returncode, done.stderr
    return done.stdout


def failure(script, folder) -> str:
    octave.require()
    done = octave.run(script, folder)
    assert done.returncode
    return done.stderr


@pytest.mark.parametrize("group", joined(ALL), ids=lambda group: f"{len(group[0])} operations")
def test_every_operation_computes_what_numpy_computes(tmp_path, group):
    octave.require()
    places, one = group
    writer = MatWriter()
    writer.write(one.program, model(), tmp_path / "model.mat")
    found = writer.predict(tmp_path / "model.mat", one.samples, one.lengths)
    differences = np.abs(found - one.expected).max(0)
    assert {
        name: differences[place].max() for name, place in places.items() if not differences[place].max() < 1e-5
    } == {}


def test_the_functions_are_written_next_to_the_file(tmp_path):
    written = MatWriter().write(classifier().program, model(), tmp_path / "model.mat")
    assert [path.name for path in written] == ["model.mat", *FUNCTIONS]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["model.mat", *FUNCTIONS])


def test_class_names_of_any_letters(tmp_path):
    one = classifier(NAMES)
    MatWriter().write(one.program, model(), tmp_path / "it's a model.mat")
    scipy.io.savemat(tmp_path / "samples.mat", {"samples": one.samples})
    script = (
        "load('samples.mat'); [labels, p] = rcdp_predict('it''s a model.mat', samples); "
        "for k = 1:numel(labels), printf('<%s>', labels{k}); end; printf('%d', size(labels))"
    )
    best = [NAMES[place] for place in one.expected.argmax(1)]
    assert run(script, tmp_path) == "".join(f"<{name}>" for name in best) + f"{len(best)}1"
    all_names = run(
        "m = load('it''s a model.mat'); "
        "for k = 1:numel(m.classes), printf('<%s>', native2unicode(m.classes{k}, 'UTF-8')); end",
        tmp_path,
    )
    assert all_names == "".join(f"<{name}>" for name in NAMES)


def test_one_sample_no_sample_and_a_loaded_model(tmp_path):
    one = classifier()
    MatWriter().write(one.program, model(), tmp_path / "model.mat")
    scipy.io.savemat(tmp_path / "samples.mat", {"samples": one.samples})
    script = (
        "load('samples.mat'); m = load('model.mat'); [~, p] = rcdp_predict(m, samples(2, :, :)); printf('%.6f ', p); "
        "[labels, p] = rcdp_predict(m, samples([], :, :)); printf('%d ', size(labels), size(p))"
    )
    found = run(script, tmp_path).split()
    assert np.abs(np.array(found[:2], float) - one.expected[1]).max() < 2e-6
    assert found[2:] == ["0", "1", "0", "2"]


@pytest.mark.parametrize(
    ("call", "said"),
    [("rcdp_predict('model.mat', zeros(2, 6, 5))", "samples of the size [2 6 5]: expected rows first, then [6 4]"),
     ("rcdp_predict('model.mat', zeros(6, 4))", "samples of the size [6 4 1]"),
     ("rcdp_predict('model.mat', zeros(2, 6, 4), [6 6])", "lengths: this model takes samples of one length"),
     ("rcdp_predict('series.mat', zeros(2, 6, 4), [6 7])", "lengths: expected one for each of 2 rows, from 1 to 6"),
     ("rcdp_predict('series.mat', zeros(2, 6, 4), 6)", "lengths: expected one for each of 2 rows"),
     ("rcdp_predict('other.mat', zeros(2, 6, 4))", "not an exported model")],
)  # fmt: skip
def test_bad_calls_are_refused(folder, call, said):
    assert said in failure(call, folder)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.995, 1.0])
def test_truncated_and_altered_files_are_refused(folder, tmp_path, kept):
    """Each variable is compressed with a checksum, and the last one is looked for."""
    content = bytearray((folder / "model.mat").read_bytes())
    shutil.copy(folder / "rcdp_predict.m", tmp_path)
    del content[int(kept * len(content)) :]
    if kept == 1.0:
        content[len(content) // 2] ^= 1
    (tmp_path / "model.mat").write_bytes(content)
    said = failure("rcdp_predict('model.mat', zeros(2, 6, 4))", tmp_path)
    assert re.search("uncompressing data element|read binary file|not an exported model", said)


def test_the_variable_that_is_looked_for_is_the_last_one(folder):
    content = scipy.io.loadmat(folder / "model.mat", chars_as_strings=False)
    assert list(content)[-1] == "rcdp_format"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("octave")
    MatWriter().write(classifier().program, model(), path / "model.mat")
    MatWriter().write(ALL["reverse of unequal series"].program, model(), path / "series.mat")
    scipy.io.savemat(path / "other.mat", {"a": 1.0})
    return path


def test_an_average_of_nodes(tmp_path):
    """Trained constants are averaged by training rows, 8-bit ones as the numbers that they stand for."""
    first, second = classifier(seed=1), classifier(seed=2)
    rounded = Quantized.of(second.program.constants["weight"])
    quantized = replace(second.program, constants=second.program.constants | {"weight": rounded})
    for name, program, rows in (("1", first.program, 300), ("2", quantized, 100)):
        MatWriter().write(program, model(rows), tmp_path / f"{name}.mat")
    scipy.io.savemat(tmp_path / "samples.mat", {"samples": first.samples})
    script = (
        "load('samples.mat'); m = rcdp_average({'1.mat', '2.mat'}, 'average.mat'); "
        "[~, p] = rcdp_predict('average.mat', samples); save('-v6', 'p.mat', 'p'); "
        "[~, q] = rcdp_predict(rcdp_average({'1.mat', '2.mat'}, '', [0, 2]), samples); save('-v6', 'q.mat', 'q'); "
        "printf('%d %s %d', m.training_rows, class(m.constants.weight), size(m.constants.weight, 1))"
    )
    assert run(script, tmp_path) == "400 single 2"
    names = trained(first.program)
    assert names == ["weight", "bias"]
    mean = {
        name: 0.75 * first.program.constants[name] + 0.25 * quantized.array(name).astype(np.float32) for name in names
    }
    expected = replace(first.program, constants=first.program.constants | mean).run(first.samples)
    assert np.abs(scipy.io.loadmat(tmp_path / "p.mat")["p"] - expected).max() < 1e-6
    assert np.abs(scipy.io.loadmat(tmp_path / "q.mat")["q"] - quantized.run(first.samples)).max() < 1e-6


@pytest.mark.parametrize(
    ("other", "call", "said"),
    [(classifier(("a", "c")), "rcdp_average({'1.mat', '2.mat'})", "2.mat: other classes than 1.mat"),
     (classifier(input=random(5, 4, seed=3)), "rcdp_average({'1.mat', '2.mat'})", "2.mat: input differs from 1.mat"),
     (classifier(), "rcdp_average({'1.mat'})", "at least two files"),
     (classifier(), "rcdp_average({'1.mat', '2.mat'}, '', [1, -1])", "expected 2 numbers of at least 0"),
     (classifier(), "rcdp_average({'1.mat', 'other.mat'})", "other.mat: not an exported model")],
)  # fmt: skip
def test_models_that_cannot_be_averaged(tmp_path, other, call, said):
    for name, program in (("1", classifier().program), ("2", other.program)):
        MatWriter().write(program, model(), tmp_path / f"{name}.mat")
    scipy.io.savemat(tmp_path / "other.mat", {"a": 1.0})
    assert said in failure(call, tmp_path)


def test_weights_are_needed_where_rows_are_not_recorded(tmp_path):
    for name, rows in (("1", 10), ("2", None)):
        MatWriter().write(classifier().program, model(rows), tmp_path / f"{name}.mat")
    assert "2.mat: the training rows are not recorded" in failure("rcdp_average({'1.mat', '2.mat'})", tmp_path)
    assert run("m = rcdp_average({'1.mat', '2.mat'}, '', [1 2]); printf('%s', m.output)", tmp_path) == "output"


def test_the_functions_are_written_in_the_language_of_matlab(tmp_path):
    """Octave warns of its extensions of the language when it parses a function."""
    one = classifier()
    for name in ("1", "2"):
        MatWriter().write(one.program, model(), tmp_path / f"{name}.mat")
    warned = "warning('on', 'Octave:language-extension'); "
    octave.require()
    calls = f"{warned} rcdp_predict(rcdp_average({{'1.mat', '2.mat'}}, ''), zeros(2, 6, 4));"
    done = octave.run(calls, tmp_path)
    assert done.returncode == 0, done.stderr
    named = [line for line in done.stderr.splitlines() if "extension" in line and "/octave/" not in line]
    assert named == []  # Octave's own functions use them
    (tmp_path / "extended.m").write_text("function extended()\n  x = 1;\n  x += 1;\nend\n")
    assert "extension" in octave.run(f"{warned} extended();", tmp_path).stderr


def test_names_are_fields_of_a_structure():
    names = unique_names(["a.b", "a_b", "1.x", "x" * 80, "x" * 81, "größe", "", "_a"])
    assert list(names.values()) == [
        "a_b", "a_b_2", "v_1_x", "x" * LONGEST_NAME, "x" * (LONGEST_NAME - 2) + "_2", "gr_e", "v_", "a",
    ]  # fmt: skip
    assert all(re.fullmatch(r"[a-zA-Z]\w*", name) for name in names.values())


def test_what_is_learned_without_gradients_is_not_averaged():
    constants = {"machine.0.1.weight": random(2, 4), "machine.0.1.bias": random(2), "scores.weight": random(2, 2)}
    one = case(
        (4,),
        ("linear", ("x", "machine.0.1.weight", "machine.0.1.bias"), {}),
        ("linear", ("x", "scores.weight", "machine.0.1.bias"), {}),
        constants=constants,
    )
    assert trained(one.program) == ["scores.weight"]


def test_constants_that_are_too_large_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 39)
    with pytest.raises(InputError, match=r"weight has 40 bytes.*\.npz"):
        MatWriter().check(classifier().program)


def test_without_octave_there_is_no_check(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert MatWriter().predict(tmp_path / "model.mat", np.zeros((1, 4)), None) is None


def test_an_error_of_octave_is_reported(tmp_path):
    octave.require()
    MatWriter().write(classifier().program, model(), tmp_path / "model.mat")
    with pytest.raises(StageFailedError, match="samples of the size"):
        MatWriter().predict(tmp_path / "model.mat", np.zeros((2, 3)), None)


def test_a_check_that_takes_too_long_ends(monkeypatch, folder):
    octave.require()
    monkeypatch.setattr(module, "SECONDS", 0.001)
    with pytest.raises(StageFailedError, match=r"ended after 0.001 s.*--no-check"):
        MatWriter().predict(folder / "model.mat", np.zeros((2, 6, 4)), None)


def test_a_missing_octave_is_named(monkeypatch):
    monkeypatch.setattr(octave.shutil, "which", lambda name: None)
    monkeypatch.setenv("RCDP_OCTAVE", "required")
    with pytest.raises(RuntimeError, match="apt-get install --no-install-recommends octave"):
        octave.require()
    monkeypatch.delenv("RCDP_OCTAVE")
    with pytest.raises(pytest.skip.Exception, match="no octave-cli here"):
        octave.require()
