"""Exported C files: compiled without a warning, and run."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from deploy.export.small_programs import case, cases, joined

from rcdp_hpc.deploy.export.c99 import writer as module
from rcdp_hpc.deploy.export.c99.text import LARGEST_INT, array, comment
from rcdp_hpc.deploy.export.c99.writer import FLAGS, CWriter
from rcdp_hpc.deploy.export.program import KINDS, Op
from rcdp_hpc.errors import InputError, StageFailedError

# Without ranges of the training data the built-in samples are around 0.
MODEL = SimpleNamespace(data=SimpleNamespace(ranges=None), scale=1.0)
ALL = cases()
NAMES = ["plain", 'it"s', "back\\slash", "new\nline", "größe", "日本", "what??/", "??=*/", "%s", "a,b", "", "\t'"]


def softmax_of(*names: str):
    """Return a case of a linear classifier with these class names."""
    made = case(
        (4,),
        ("linear", ("x", "weight", "bias"), {}),
        ("softmax", ("x",), {}),
        constants={
            "weight": np.random.default_rng(1).normal(size=(len(names), 4)).astype(np.float32),
            "bias": np.zeros(len(names), np.float32),
        },
    )
    return replace(made, program=replace(made.program, classes=names))


def written(program, path):
    writer = CWriter()
    writer.check(program)
    assert writer.write(program, MODEL, path) == [path]
    return writer


def compiled(path, *flags):
    done = subprocess.run(
        ["cc", *FLAGS, *flags, "-o", path.with_suffix(""), path, "-lm"], capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    return path.with_suffix("")


@pytest.mark.parametrize("group", joined(ALL), ids=lambda group: f"{len(group[0])} operations")
def test_every_operation_computes_what_numpy_computes(tmp_path, group):
    places, one = group
    writer = written(one.program, tmp_path / "model.c")
    found = writer.predict(tmp_path / "model.c", one.samples, one.lengths)
    differences = np.abs(found - one.expected).max(0)
    assert {name: differences[place].max() for name, place in places.items() if differences[place].max() > 1e-5} == {}


def test_every_kind_has_a_function():
    assert set(CWriter.operations) == set(KINDS)


def test_class_names_of_any_letters(tmp_path):
    one = softmax_of(*NAMES)
    writer = written(one.program, tmp_path / "model.c")
    assert np.abs(writer.predict(tmp_path / "model.c", one.samples, None) - one.expected).max() < 1e-6
    text = (tmp_path / "model.c").read_text(encoding="ascii")
    table = text[text.index("const rcdp_classes[RCDP_CLASSES] = {") :]
    literals = re.findall(r'^    "(.*)",$', table[: table.index("};")], flags=re.MULTILINE)
    octal = [re.sub(rb"\\(\d{3})", lambda digits: bytes([int(digits[1], 8)]), one.encode()) for one in literals]
    assert [one.decode() for one in octal] == NAMES
    assert "??" not in text


def test_the_label_of_a_line_is_the_most_probable_class(tmp_path):
    one = softmax_of("a", 'b "quoted"', "c")
    written(one.program, tmp_path / "model.c")
    program = compiled(tmp_path / "model.c")
    lines = [",".join(map(repr, sample.tolist())) for sample in one.samples]
    (tmp_path / "samples.csv").write_text("\n" + " , ".join(lines[0].split(",")) + "\r\n\n" + "\n".join(lines[1:]))
    done = subprocess.run([program, tmp_path / "samples.csv"], capture_output=True, text=True, check=True)
    labels = [line.rsplit(",", 3)[0] for line in done.stdout.splitlines()]
    assert labels == [['"a"', '"b ""quoted"""', '"c"'][best] for best in one.expected.argmax(1)]


@pytest.mark.parametrize(
    ("line", "said"),
    [("1,2,3", "line 2: 3 numbers, expected 4"), ("1,2,3,4,5", "line 2: 5 numbers"), ("1,2,x,4", "x is not a number"),
     ("1,nan,3,4", "whose results are finite"), ("1,2,3,", "whose results are finite")],
)  # fmt: skip
def test_bad_lines_are_refused(bad_lines, tmp_path, line, said):
    (tmp_path / "samples.csv").write_text(f"1,2,3,4\n{line}\n")
    done = subprocess.run([bad_lines, tmp_path / "samples.csv"], capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stdout.splitlines()) == 1


@pytest.fixture(scope="module")
def bad_lines(tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "model.c"
    written(softmax_of("a", "b").program, path)
    return compiled(path)


def test_a_missing_file_is_a_usage_error(bad_lines):
    done = subprocess.run([bad_lines, "nowhere.csv"], capture_output=True, text=True)
    assert (done.returncode, done.stderr[:6]) == (2, "usage:")


def test_an_altered_weight_fails_the_check(tmp_path):
    one = softmax_of("a", "b")
    path = tmp_path / "model.c"
    writer = written(one.program, path)
    text = path.read_text()
    weight = re.search(r"c_weight\[8\] = \{\n +([-\d.]+f)", text)
    path.write_text(text.replace(weight[1], "3.5f", 1))
    with pytest.raises(StageFailedError, match=r"model: exit status 1: .*too large"):
        writer.predict(path, one.samples, None)


def test_series_of_unequal_length(tmp_path):
    """The longest series of the training is the longest one that is accepted, unless the file is compiled for more."""
    one = ALL["reservoir of unequal series"]
    path = tmp_path / "model.c"
    written(one.program, path)
    longer = np.random.default_rng(2).normal(size=(1, 12, 4)).astype(np.float32)
    for steps, accepted in ((2, False), (3, True), (12, False)):
        (tmp_path / f"{steps}.csv").write_text(",".join(map(repr, longer[0, :steps].reshape(-1).tolist())))
        done = subprocess.run([compiled(path), tmp_path / f"{steps}.csv"], capture_output=True, text=True)
        assert (done.returncode == 0) == accepted
    program = compiled(path, "-DRCDP_MAX_STEPS=12")
    done = subprocess.run([program, tmp_path / "12.csv"], capture_output=True, text=True, check=True)
    found = np.array(done.stdout.strip().split(",")[1:], float)
    assert np.abs(found - one.program.run(longer)[0]).max() < 1e-5


def test_two_models_in_one_program(tmp_path):
    first, second = softmax_of("a", "b"), ALL["reservoir with leaks"]
    for name, one in (("first", first), ("second", second)):
        written(one.program, tmp_path / f"{name}.c")
        command = ["cc", *FLAGS, "-c", "-DRCDP_NO_MAIN", f"-Drcdp_predict={name}_predict"]
        command.append(f"-Drcdp_answer={name}_answer")
        renamed = [f"-Drcdp_classes={name}_classes", "-o", tmp_path / f"{name}.o", tmp_path / f"{name}.c"]
        subprocess.run([*command, *renamed], check=True)
    (tmp_path / "main.c").write_text(
        "#include <stdio.h>\n"
        "int first_predict(const float *, int, float *);\nint second_predict(const float *, int, float *);\n"
        "int main(void)\n{\n    static float x[36], p[100];\n    int failed = first_predict(x, 0, p);\n"
        '    printf("%g %d ", p[0] + p[1], failed);\n    printf("%d\\n", second_predict(x, 0, p));\n    return 0;\n}\n'
    )
    objects = [tmp_path / "first.o", tmp_path / "second.o"]
    subprocess.run(["cc", *FLAGS, "-o", tmp_path / "both", tmp_path / "main.c", *objects, "-lm"], check=True)
    assert subprocess.run([tmp_path / "both"], capture_output=True, text=True).stdout == "1 0 0\n"


def test_the_label_is_that_of_the_decision(tmp_path):
    """The class that is answered need not be the most probable one."""
    one = softmax_of("a", "b", "c")
    scores = one.program.ops[0].output
    turned = Op("weighted_sum", (scores,), "turned", {"weights": [-1.0]})
    program = replace(one.program, ops=(*one.program.ops, turned), decision="turned")
    written(program, tmp_path / "model.c")
    samples = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.savetxt(tmp_path / "x.csv", samples, "%.9g", ",")
    done = subprocess.run([compiled(tmp_path / "model.c"), tmp_path / "x.csv"], capture_output=True, text=True)
    lines = [line.split(",") for line in done.stdout.splitlines()]
    probabilities = np.array([line[1:] for line in lines], float)
    labels = ["abc".index(line[0].strip('"')) for line in lines]
    assert labels == probabilities.argmin(1).tolist()


def test_what_c_cannot_hold_is_refused(monkeypatch):
    one = softmax_of("a", "b")
    with pytest.raises(InputError, match="null character"):
        CWriter().check(replace(one.program, classes=("a", "b\0c")))
    monkeypatch.setattr(module, "MOST_NUMBERS", 9)
    with pytest.raises(InputError, match=r"10 numbers.*\.npz"):
        CWriter().check(one.program)


def test_without_a_compiler_there_is_no_check(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert CWriter().predict(tmp_path / "model.c", np.zeros((1, 4)), None) is None


def test_a_check_that_takes_too_long_ends(monkeypatch, tmp_path):
    one = softmax_of("a", "b")
    writer = written(one.program, tmp_path / "model.c")
    monkeypatch.setattr(module, "SECONDS", 0.001)
    with pytest.raises(StageFailedError, match=r"ended after 0.001 s.*--no-check"):
        writer.predict(tmp_path / "model.c", one.samples, None)


def test_numbers_are_read_back_to_the_bit():
    values = np.array([0.1, 1e-45, -0.0, 3.4028235e38, np.nan, -np.inf, 16777217, 0], np.float32)
    text = array("x", values)
    assert [one.strip() for one in text.split("{\n")[1].split("\n}")[0].split(",")[:-1]] == [
        "0.1f", "1e-45f", "-0.0f", "3.4028235e+38f", "NAN", "-INFINITY", "1.6777216e+07f", "0",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="too large for an int"):
        array("x", np.array([LARGEST_INT + 1]))


def test_comments_end_where_they_should():
    assert comment("a */ b /* ??/ ü\n") == "a * / b / * ? ?/ \\xfc "


def test_an_operation_without_a_form_is_refused(tmp_path):
    one = ALL["blank"]
    flat = Op("reshape", ("samples",), "flat", {"shape": [36]})
    program = replace(one.program, ops=(flat,), output="flat")
    with pytest.raises(InputError, match="'reshape' of series of unequal length"):
        CWriter().write(program, MODEL, tmp_path / "model.c")
    assert not list(tmp_path.iterdir())
