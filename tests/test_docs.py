"""Every code block of docs/*.md: commands are parsed, configurations accepted, Python run, and what is quick run whole.

A block is in one of the tables below by its first line, with what is done with it. docs/slurm.md's commands are run by
tests/slurm/test_docs.py, and only parsed here.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import own_data
import pytest
from deploy.conftest import trained_run
from launch import REPOSITORY
from sklearn.datasets import load_digits, load_wine

import rcdp_hpc
from rcdp_hpc.cli import main
from rcdp_hpc.cli.parser import build_parser, parse
from rcdp_hpc.config import DataFacts, DataSection, load_config, with_kind_defaults
from rcdp_hpc.config.choices import TABLES
from rcdp_hpc.config.keys import flatten, known_keys
from rcdp_hpc.config.kind_defaults import EXAMPLE_SHAPES, KIND_PROFILES, kind_defaults
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.pipeline.data_checks import SourceFacts, check_settings_fit
from rcdp_hpc.pipeline.trial import MOST, SAMPLES

DOCS = REPOSITORY / "docs"
KINDS = tuple(own_data.KINDS)
NOT_TABLES = ("series", "images")
# Small enough for seconds: the results are tested elsewhere.
QUICK = """
[search]
generations = 0
[readout]
kind = "ridge"
[extractor]
patches = 2000
"""
QUICK_IMAGES = "atoms = 24\n[reservoir]\nnodes = 200\n"

# First lines of blocks that hold no commands, settings or Python that could run, and why.
NOT_RUN = {
    ("crossvalidation.md", "fold       samples  accuracy  macro F1"): "output",
    ("export.md", "#include <stdio.h>"): "tests/deploy/export/test_offline_files.py compiles and runs it",
    ("export.md", "data = load('samples.mat');"): "tests/deploy/export/test_offline_files.py runs it in Octave",
    ("export.md", "rcdp_average({'node1.mat', 'node2.mat'}, 'average.mat');"): (
        "tests/deploy/export/test_offline_files.py runs it in Octave"
    ),
    ("formats.md", "x_i + step * (x_j - x_i)"): "formula",
    ("formats.md", "series/train/walking/001.csv        series/labels.csv      file,label"): "listing of folders",
    ("formats.md", "photos/cat/*.jpg              photos/train/cat/*.jpg"): "listing of folders",
    ("formats.md", "train-00000-of-00016.h5 ...  val-00000-of-00002.h5 ...  test-00000-of-00003.h5 ...  index.json"): (
        "listing of files"
    ),
    ("install.md", "~/.cache/rcdp_hpc/wheels/"): "listing of files",
    ("method.md", "C = c · (A ∘ R)"): "formula",
    ("method.md", "s_0 = 0"): "formula",
    ("method.md", "h_0 = 0"): "formula",
    ("method.md", "V = (X'X + alpha · n · I)^-1 · X'Yc,    W_j = V_j / d_j,    b = mean(Y) - mean(x) · W"): "formula",
    (
        "method.md",
        "H = g(X A + b)            (A'A = I, or AA' = I if wider than X; b'b = 1; both random)",
    ): "formula",
    ("method.md", "o = W_out s                                       (eq. 10; s: the sample's states, standardised)"): (
        "formula"
    ),
    (
        "networks.md",
        "sample -> extractor (eq. 8) -> reservoir (eq. 9) -> readout (eq. 10, 11) -> class scores",
    ): "formula",
    (
        "networks-reference.md",
        "C_t = sum over j = 0..8 of w_j x_(t + (j - 4) d),    feature = mean over t of [C_t > b]",
    ): "formula",
    ("own-data.md", "value = (raw - center) / deviation"): "formula",
    ("own-data.md", "left out: 3 hidden files (._cat.png, .DS_Store, Thumbs.db)"): "output",
    ("search-optimizers.md", "D = |F_j - M_i|                               (eq. 3.13)"): "formula",
    (
        "search-reference.md",
        "wall of a generation = max over workers of the sum of their candidates' T(g)  +  r·N  +  c·log2(P)",
    ): ("formula"),
    ("tables.md", "test accuracy 54.33 % (113 of 208 samples), macro F1 0.5499, ..."): "output",
    ("slurm.md", 'RCDP_COMMAND="apptainer exec /path/to/rcdp.sif rcdp"'): "a site's setting",
}
# Lines of shell that are not commands of this package, and why they are not run here.
OTHER_COMMANDS = {
    "make setup": "run by CI",
    "make campaign": "a short one is run by CI",
    ". .venv/bin/activate": "run by CI",
    "python benchmarks/gpu.py": "tests/test_gpu_benchmark.py runs its parts on a CPU",
    "pip install": "CI has no clean environment; tests/test_without_horovod.py runs what it leads to",
    "module load": "a cluster's own",
    "RCDP_TORCH=site make setup": "tests/test_bootstrap.py has a torch of a site",
    "cc -std=c99": "run by tests/deploy/export/test_offline_files.py",
    "./model": "run by tests/deploy/export/test_offline_files.py",
    "cp slurm/site.sh": "run by tests/slurm/test_docs.py",
    "mkdir grid": "run by tests/slurm/test_docs.py",
    "torchrun --standalone --nproc-per-node 2": "tests/runtime/comm/test_torchrun.py starts ranks with torchrun",
}
# Commands that are parsed and not run here: by first words, with the reason.
PARSED_ONLY = {
    "export.md": "tests/deploy/export exports models",
    "slurm.md": "run by tests/slurm/test_docs.py",
    "communication.md": "loses a rank: tests/test_lost_ranks.py does that",
    "install.md": "ranks are started by tests/test_readme.py; rcdp doctor by tests/doctor/test_doctor.py",
    "configuration.md": "run by tests/test_readme.py and tests/test_own_data.py with data of one's own",
    "how-do-i.md": "those of other pages, where they are run",
    "compress.md": "tests/deploy/compress runs compressions",
    "average.md": "tests/deploy/test_average.py averages models",
    "merge.md": "tests/deploy/sums runs all of them",
    "balance-check.md": "tests/balance_check runs checks, on real ranks, too",
    "uneven.md": "those of the README, run by tests/test_readme.py and tests/test_own_data.py",
    "compare.md": "tests/comparison runs comparisons of cheap methods, on real ranks, too",
    "paper.md": "tests/comparison/test_whole_paper.py runs it on small data",
    "report.md": "tests/evaluation/report runs both",
    "metrics.md": "tests/evaluation and tests/cli/test_help.py run both",
    "engines.md": "tests/parallel starts ranks with both engines",
}
# TOML blocks, by their first lines: the kinds of data that they are about.
TOML = {
    ("networks.md", "[reservoir]"): NOT_TABLES,
    ("networks.md", "[readout]"): KINDS,
    ("networks-reference.md", "[extractor]"): ("images",),
    ("search.md", "[search.space]"): KINDS,
    ("search.md", "[search]"): KINDS,
    ("search.md", "[readout]"): ("images",),
    ("series.md", "[reservoir]"): ("series",),
}


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block: its page, its language as fenced (or empty) and its lines without the indent."""

    page: str
    language: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        return self.page, self.text.splitlines()[0].strip()


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced and the indented blocks of a page; single blank lines do not end an indented one."""
    text = page.read_text()
    fences = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    fenced = [Block(page.name, found[2], re.sub(f"(?m)^{found[1]}", "", found[3])) for found in fences.finditer(text)]
    rest = fences.sub("", text)
    indented = re.findall(r"(?<=\n\n)((?: {4}.*\n(?:\n(?= {4}))?)+)", rest)
    return [*fenced, *(Block(page.name, "", re.sub(r"(?m)^ {4}", "", found)) for found in indented)]


BLOCKS = [block for page in sorted(DOCS.glob("*.md")) for block in blocks_of(page)]
SHELL = re.compile(r"(?m)^(?:\S+=\S+ )*(?:mpirun .*|horovodrun .*|source <\()?rcdp ")


def shell_lines(block: Block) -> list[str]:
    """Return the lines of a block of commands, without comments; empty for other blocks."""
    if block.key in NOT_RUN or block.language not in ("", "sh") or not SHELL.search(block.text):
        commands = block.text.startswith(tuple(OTHER_COMMANDS))
        return block.text.splitlines() if commands and block.key not in NOT_RUN else []
    return [line for line in (re.split(r"\s+#", line)[0].strip() for line in block.text.splitlines()) if line]


def rcdp_words(line: str) -> list[str]:
    """Return what follows ``rcdp`` in a line of shell; empty if it is another command."""
    words = shlex.split(line.replace("<(", " ").replace(")", " ") if "<(" in line else line)
    if "rcdp" not in words:
        return []
    words = words[words.index("rcdp") + 1 :]
    ends = [place for place, word in enumerate(words) if word in (">", "|", ";")]
    return words[: ends[0]] if ends else words


def is_python(block: Block) -> bool:
    return block.language == "python" or block.text.startswith("# my_networks.py")


def is_toml(block: Block) -> bool:
    return block.language == "toml" or bool(re.match(r"\[\w+(\.\w+)*\]\n", block.text))


def _check_extension(block: Block) -> None:
    """Check that a test of tests/extending runs a module, or that a configuration accepts the names of its classes."""
    if is_toml(block):
        settings = flatten(tomllib.loads(block.text))
        named = {key: name if isinstance(name, list) else [name] for key, name in settings.items() if key in TABLES}
        assert named
        assert all(TABLES[key].user_class and TABLES[key].all_accepted(names) for key, names in named.items())
        assert set(settings) <= set(known_keys())
    else:
        module = re.match(r"# (\w+)\.py", block.text)
        tests = (REPOSITORY / "tests/extending").glob("test_*.py")
        assert module, "expected the name of the module in the first line, as in # my_module.py"
        assert any(module[1] in path.read_text() for path in tests), "no test of tests/extending runs it"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}: {block.key[1][:40]}")
def test_every_block_has_its_place(block):
    if block.key in NOT_RUN:
        return
    if block.page == "extending.md":
        _check_extension(block)
    elif is_python(block):
        assert block.key in PYTHON, "a Python block that no test runs"
    elif is_toml(block):
        assert block.key in TOML, "settings that no test reads"
    else:
        lines = shell_lines(block)
        assert lines, "neither commands nor settings nor Python: put it into NOT_RUN, with the reason"
        for line in lines:
            if words := rcdp_words(line):
                assert block.page in PARSED_ONLY or (block.page, line) in RUN, f"{line} is run by no test"
                parse(words)
            else:
                assert line.startswith(tuple(OTHER_COMMANDS)), f"{line!r}: a command that no test knows"


def test_the_tables_name_blocks_that_exist():
    keys = {block.key for block in BLOCKS}
    assert {*NOT_RUN, *TOML, *PYTHON} <= keys
    lines = {(block.page, line) for block in BLOCKS for line in shell_lines(block)}
    assert set(RUN) <= lines
    assert set(PARSED_ONLY) <= {page for page, _ in lines}


def test_commands_within_sentences_exist():
    """What stands in backticks may be shortened, but not name a command or an option that there is not."""
    _, commands = build_parser()
    for page in sorted(DOCS.glob("*.md")):
        for found in re.findall(r"`(?:mpirun[^`]*? )?rcdp\s([^`]+)`", page.read_text()):
            words = found.replace("|", " ").split()
            for name in {words[0].rstrip(",")} - {"COMMAND"}:
                assert name in commands, f"{page.name}: rcdp {found}"
                options = {text for action in commands[name]._actions for text in action.option_strings}
                for word in words[1:]:
                    option = word.partition("=")[0]
                    assert not option.startswith("--") or option in options, f"{page.name}: rcdp {found}"


@pytest.fixture(scope="module", params=KINDS)
def own(request, tmp_path_factory) -> tuple[str, Path, own_data.OwnData]:
    """A kind of data, and a folder with data of that kind and a configuration my.toml for them."""
    folder = tmp_path_factory.mktemp(request.param)
    data = own_data.KINDS[request.param](folder)
    quick = QUICK + (QUICK_IMAGES if request.param == "images" else "")
    (folder / "my.toml").write_text(own_data.data_section(request.param, data.data) + quick)
    return request.param, folder, data


@pytest.fixture(scope="module")
def trained(own) -> Path:
    """The folder, with a complete run in runs/mine."""
    _, folder, _ = own
    assert main(["run", str(folder / "my.toml"), "--out", str(folder / "runs/mine"), "--quiet"]) == 0
    return folder


def run_line(line: str, replaced: dict[str, str]) -> None:
    words = [replaced.get(word, word) for word in rcdp_words(line)]
    assert main(words) == 0, line


def lines_of(page: str, first: str) -> list[str]:
    """The commands of the block with this first line, in their order."""
    (block,) = [block for block in BLOCKS if block.page == page and block.text.startswith(first)]
    return shell_lines(block)


# Commands that run here, by page and line.
RUN = {
    (page, line): first
    for page, first in (
        ("own-data.md", "rcdp init mine.csv"),
        ("own-data.md", "rcdp plan my.toml"),
        ("own-data.md", "rcdp run table"),
        ("search.md", "rcdp run series"),
        ("prediction.md", "rcdp predict RUN SAMPLES"),
        ("prediction.md", "rcdp predict RUN NEW"),
        ("crossvalidation.md", "mpirun -n 2 rcdp crossvalidate"),
        ("crossvalidation.md", "rcdp crossvalidate digits"),
    )
    for line in lines_of(page, first)
}


def test_from_raw_data_to_labels():
    """The block of own-data.md is the README's, which tests/test_own_data.py runs."""
    readme = [line.strip() for line in (REPOSITORY / "README.md").read_text().splitlines()]
    for line in lines_of("own-data.md", "rcdp init mine.csv"):
        assert any(text.startswith(line) for text in readme), line


def test_looking_before_training(own, monkeypatch, capsys):
    _, folder, _ = own
    monkeypatch.chdir(folder)
    said = {}
    for line in lines_of("own-data.md", "rcdp plan my.toml"):
        run_line(line, {})
        said[line.split()[1]] = capsys.readouterr().out
    assert "sbatch" in said["plan"].lower() or "slurm" in said["plan"].lower()
    assert all(name in said["inspect"] for name in own_data.CLASSES)
    assert "all checksums" in said["verify"]
    assert "rcdp search" in said["status"] or "rcdp train" in said["status"]


def test_a_profile_instead_of_a_file(own, monkeypatch):
    kind, folder, data = own
    monkeypatch.chdir(folder)
    (line,) = [line for line in lines_of("own-data.md", "rcdp run table") if f"run {KIND_PROFILES[kind]} " in line]
    path = next(word for word in line.split() if word.startswith("data.path="))
    quick = "--set search.generations=0 --set reservoir.nodes=100"
    quick += " --set extractor.patches=2000 --set extractor.atoms=24" if kind == "images" else ""
    run_line(f"{line} {quick}", {path: f"data.path={data.data}", "runs/mine": "runs/profile"})
    assert json.loads(Path("runs/profile/report/summary.json").read_text())["test"]["accuracy"] > 0.8


def test_a_selection_of_state_sets(own, monkeypatch):
    kind, folder, data = own
    if kind != "series":
        pytest.skip("the page's example is for series")
    monkeypatch.chdir(folder)
    (line,) = lines_of("search.md", "rcdp run series")
    run_line(
        f"{line} --set reservoir.nodes=50", {"data.path=DATA": f"data.path={data.data}", "runs/mine": "runs/chosen"}
    )
    assert json.loads(Path("runs/chosen/report/summary.json").read_text())["test"]["accuracy"] > 0.8


def test_prediction(own, trained, monkeypatch):
    _, _, data = own
    monkeypatch.chdir(trained)
    for line in lines_of("prediction.md", "rcdp predict RUN SAMPLES"):
        run_line(line, {"RUN": "runs/mine", "SAMPLES": str(data.new)})
    for line in lines_of("prediction.md", "rcdp predict RUN NEW"):
        run_line(line, {"RUN": "runs/mine", "NEW": str(data.new)})
        assert len(Path("decided.csv").read_text().splitlines()) == own_data.NEW + 1
    with Path("labels.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == own_data.NEW
    labels = {row[0]: row[1] for row in rows}
    assert set(labels) == set(data.names)
    right = sum(labels[name] == label for name, label in zip(data.names, data.truth, strict=True))
    assert right >= own_data.NEW - 1


def test_crossvalidation(own, monkeypatch, capsys):
    _, folder, _ = own
    monkeypatch.chdir(folder)
    # Two folds show what five do.
    replaced = {"digits": "my.toml", "5": "2"}
    for first in ("mpirun -n 2 rcdp crossvalidate", "rcdp crossvalidate"):
        for line in lines_of("crossvalidation.md", first):
            run_line(line, replaced)
    assert (folder / "runs/folds/report/summary.json").exists()


def configuration(kind: str, text: str, folder: Path) -> Path:
    """Write a configuration that reads data of a kind and has a block of the documents in it."""
    data = own_data.KINDS[kind](folder)
    path = folder / "block.toml"
    path.write_text(own_data.data_section(kind, data.data) + text)
    return path


@pytest.mark.parametrize(("key", "kind"), [(key, kind) for key, kinds in TOML.items() for kind in kinds])
def test_settings_fit(key, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if block.key == key]
    tomllib.loads(block.text)
    config = load_config(configuration(kind, block.text, tmp_path))
    source = open_source(config.data)
    counts = np.bincount(source.train.y).tolist()
    config = with_kind_defaults(config, source.facts)
    facts = SourceFacts(source.description, source.sample_shape, source.shortest, source.classes, counts, sum(counts))
    check_settings_fit(config, facts)


def test_a_fitness_of_ones_own(own, monkeypatch, tmp_path):
    kind, _, data = own
    (block,) = [block for block in BLOCKS if block.key == ("search.md", "[search]")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_fitness.py").write_text("def judge(values, data):\n    return -abs(values['leak'] - 0.5)\n")
    small = "generations = 1\npopulation = 2\n[search.space]\nleak = { low = 0.1, high = 1.0 }\n"
    extractor = '[extractor]\nkind = "none"\n' if kind == "images" else ""
    text = own_data.data_section(kind, data.data) + block.text + small + "[reservoir]\nnodes = 30\n" + extractor
    (tmp_path / "fitness.toml").write_text(text)
    assert main(["prepare", "fitness.toml", "--out", "run", "--quiet"]) == 0
    assert main(["search", "--out", "run", "--quiet"]) == 0


def _savez(folder: Path, kind: str, code: str, monkeypatch: pytest.MonkeyPatch) -> DataSection:
    """Run a line that saves arrays, in a folder of its own, and return the settings that read the file."""
    monkeypatch.chdir(folder)
    generator = np.random.default_rng(0)
    shape = {"table": (30, 4), "series": (30, 9, 2), "images": (30, 12, 12, 3)}[kind]
    arrays = generator.normal(size=shape) if kind != "images" else generator.integers(0, 256, shape, dtype=np.uint8)
    labels = np.array(own_data.CLASSES)[np.arange(30) % 3]
    exec(code, {"np": np, "images": arrays, "padded": arrays, "labels": labels, "lengths": np.arange(30) % 5 + 5})
    return DataSection(source="npz", path=str(folder / "mine.npz"))


@pytest.mark.parametrize("kind", KINDS)
def test_arrays(kind, tmp_path, monkeypatch):
    (block,) = [block for block in BLOCKS if block.key == ("formats.md", 'np.savez("mine.npz", x=images, y=labels)')]
    source = open_source(_savez(tmp_path, kind, block.text, monkeypatch))
    assert source.kind == kind
    assert source.classes == sorted(own_data.CLASSES)


def test_padded_arrays(tmp_path, monkeypatch):
    (block,) = [block for block in BLOCKS if block.text.startswith('np.savez("mine.npz", x=padded')]
    source = open_source(_savez(tmp_path, "series", block.text, monkeypatch))
    assert source.train.lengths.tolist() == (np.arange(30) % 5 + 5).tolist()


def test_reading_shards(own, trained, tmp_path, monkeypatch):
    kind, _, _ = own
    (block,) = [block for block in BLOCKS if block.key == ("formats.md", "import rcdp_hpc")]
    shutil.copytree(trained / "runs/mine/shards", tmp_path / "run/shards")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block.text, names)
    assert len(names["rows"].y) == 50
    assert (names["rows"].length is not None) == (kind == "series")


def python_block(page: str, first: str) -> str:
    (block,) = [block for block in BLOCKS if block.key == (page, first)]
    return block.text


def test_arrays_in_a_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wine = load_wine()
    names = {"x": wine.data[5:], "y": wine.target[5:], "new": wine.data[:5]}
    exec(python_block("how-do-i.md", "import rcdp_hpc"), names)
    assert names["labels"].tolist() == wine.target[:5].astype(str).tolist()


def test_the_blocks_of_the_page_on_python(tmp_path, monkeypatch):
    """In their order, because later blocks use names of earlier ones."""
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in BLOCKS:
        if block.page == "python.md":
            exec(block.text, names)
    assert names["result"]["evaluate"]["confusion"] == names["scores"]["confusion"]
    assert len(names["prediction"].labels) == 5


def test_an_optimiser_by_itself():
    names: dict = {}
    exec(python_block("search.md", FIRST_OF_OPTIMISER), names)
    assert names["cost"] < 0.01


def test_series_in_a_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    y = [("slow", "fast")[number % 2] for number in range(60)]
    waves = [np.sin(np.arange(20 + number % 7) * (0.3 if label == "slow" else 1.5)) for number, label in enumerate(y)]
    recordings = [wave[:, None] + generator.normal(0, 0.1, (len(wave), 1)) for wave in waves]
    names = {"rcdp_hpc": rcdp_hpc, "recordings": recordings, "y": y}
    exec(python_block("how-do-i.md", FIRST_OF_SERIES), names)
    assert names["result"]["evaluate"]["accuracy"] > 0.9


def test_a_program_for_ranks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        rcdp_hpc, "run", lambda config, out, comm: (load_config(config), Path(out), comm), raising=False
    )
    names = {"rcdp_hpc": rcdp_hpc}
    exec(python_block("how-do-i.md", "comm = rcdp_hpc.connect()"), names)
    assert names["result"][2].size == 1


def test_messages_of_a_program(monkeypatch):
    levels = []
    monkeypatch.setattr("logging.basicConfig", lambda level: levels.append(level))
    exec(python_block("how-do-i.md", "import logging"), {})
    assert levels == ["INFO"]


FIRST_OF_OPTIMISER = "from rcdp_hpc.search.optimizers import MothFlame"
FIRST_OF_SERIES = "series = [recording for recording in recordings]  # each of shape (steps, features)"


def test_the_blocks_of_the_estimator(tmp_path, monkeypatch, capsys):
    """In their order, because later blocks use names of earlier ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("logging.basicConfig", lambda level: None)
    names: dict = {}
    for block in BLOCKS:
        if block.page == "estimator.md" and is_python(block):
            exec(block.text, names)
    assert float(capsys.readouterr().out) >= 0.95
    assert names["search"].best_score_ >= 0.95
    assert (tmp_path / "model.pt").exists()


# Python blocks, by their first lines, and the test that runs each.
def test_exported_models(tmp_path, monkeypatch):
    run = trained_run(tmp_path / "run", [])
    for suffix in ("npz", "onnx", "safetensors"):
        rcdp_hpc.export(run.path, tmp_path / f"model.{suffix}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    samples = load_digits().images[:20]
    expected = rcdp_hpc.load(run.path).predict_proba(samples)
    for block in BLOCKS:
        if block.page == "export.md" and is_python(block):
            names = {"samples": samples}
            exec(block.text, names)
            assert np.abs(names["probabilities"] - expected).max() <= 1e-5


PYTHON = {
    **{block.key: test_exported_models for block in BLOCKS if block.page == "export.md" and is_python(block)},
    ("how-do-i.md", "import rcdp_hpc"): test_arrays_in_a_program,
    **{block.key: test_the_blocks_of_the_page_on_python for block in BLOCKS if block.page == "python.md"},
    ("search.md", FIRST_OF_OPTIMISER): test_an_optimiser_by_itself,
    ("how-do-i.md", FIRST_OF_SERIES): test_series_in_a_program,
    ("how-do-i.md", "comm = rcdp_hpc.connect()"): test_a_program_for_ranks,
    ("how-do-i.md", "import logging"): test_messages_of_a_program,
    **{block.key: test_the_blocks_of_the_estimator for block in BLOCKS if block.page == "estimator.md"},
    ("formats.md", 'np.savez("mine.npz", x=images, y=labels)'): test_arrays,
    ("formats.md", 'np.savez("mine.npz", x=padded, y=labels, lengths=lengths)'): test_padded_arrays,
    ("formats.md", "import rcdp_hpc"): test_reading_shards,
}


SHAPES = {kind: shapes[0] for kind, shapes in EXAMPLE_SHAPES.items()}


def defaults_table() -> str:
    """The table of the defaults in own-data.md, of the kinds and shapes that it names."""
    found = {kind: kind_defaults(DataFacts(kind, shape), {}) for kind, shape in SHAPES.items()}
    keys = sorted({key for defaults in found.values() for key in defaults})
    lines = [f"| key | {' | '.join(SHAPES)} |", "|---|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| `{key}` | {' | '.join(_cell(found[kind].get(key)) for kind in SHAPES)} |" for key in keys)]
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return f"{value['low']} to {value['high']}{', log' if value.get('log') else ''}"
    if isinstance(value, list) and isinstance(value[0], str):
        return ", ".join(value)
    if isinstance(value, list):
        return f"{value[0]} to {value[-1]}"
    return str(value)


def test_the_table_of_defaults():
    assert defaults_table() in (DOCS / "own-data.md").read_text()


def test_what_a_trial_uses():
    text = " ".join((DOCS / "own-data.md").read_text().split())
    assert f"{SAMPLES} samples" in text
    for key, most in MOST.items():
        assert f"`{key} = {most}`" in text, key
