"""The model card: what a trained model was made from, how good it is, and how to call it, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rcdp_hpc.data.shards.index import INDEX_NAME, load_index
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.model.intervals import wilson
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.runtime.digests import file_sha256, read_sealed
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import plain_name

Record = dict[str, Any]
# Of more classes, the card has the totals only.
MOST_CLASSES = 200
# Characters with a meaning in Markdown or HTML.
SPECIAL = "\\`*_{}[]<>()#+!|~"
# By the suffix of a file, what calls it. "{shape}" is the shape of a sample.
CALLS = {
    ".pt": ("python", 'model = rcdp_hpc.load("{name}")\nprobabilities = model.predict_proba(samples)'),
    ".npz": (
        "python",
        'from rcdp_predict import load  # the file next to the model; needs NumPy alone\nmodel = load("{name}")\n'
        "probabilities = model.predict_proba(samples)",
    ),
    ".onnx": (
        "python",
        'session = onnxruntime.InferenceSession("{name}")\n'
        'probabilities, labels = session.run(None, {{"samples": samples.astype("float32")}})',
    ),
    ".c": ("sh", "cc -std=c99 -O2 -o model {name} -lm && ./model  # checks itself; its head explains rcdp_predict()"),
    ".mat": ("octave", "help rcdp_predict  % the file next to the model"),
    ".safetensors": ("python", 'weights = safetensors.numpy.load_file("{name}")  # the settings are the metadata'),
}


def model_card(file: ModelFile, run: RunDirectory | None = None, to: Path | None = None) -> str:
    """Return the card of a model.

    Parameters
    ----------
    file : ModelFile
    run : RunDirectory, optional
        The run that trained it, which has the rows of each class and the result of the test. Shards and results of
        another model are not used.
    to : Path, optional
        The file that the card describes; default: the model file.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    DataDamagedError
        If a file of the run is damaged.
    """
    to = Path(file.where) if to is None else to
    index, summary = _index(file, run), _summary(file, run)
    parts = [
        f"# {_text(to.name)}",
        _description(file, index),
        *_data(index),
        *_result(summary),
        _answers(file),
        *_complexity(summary),
        *_calls(file, to),
        *_digests(file, run, index, summary),
    ]
    return "\n\n".join(parts) + "\n"


def _index(file: ModelFile, run: RunDirectory | None) -> Record | None:
    """Return the index of the shards that the model was trained on; None if the run does not have them."""
    if run is None or not (run.shards / INDEX_NAME).exists() or ShardReader(run.shards).digest != file.shards:
        return None
    return dict(load_index(run.shards))


def _summary(file: ModelFile, run: RunDirectory | None) -> Record | None:
    """Return the result of the test of this model; None if there is none."""
    if run is None or not (path := run.report / "summary.json").exists():
        return None
    summary = read_sealed(path, f"Write it again with rcdp evaluate --out {run.path}.")
    tested = summary.get("model", "")
    return summary if "test" in summary and tested == _sha256(file) else None


def _sha256(file: ModelFile) -> str | None:
    path = Path(file.where)
    return file_sha256(path) if path.is_file() else None


def _description(file: ModelFile, index: Record | None) -> str:
    config = file.config
    shape = " x ".join(map(str, file.raw_shape))
    reservoir = f"a reservoir of {config.reservoir.nodes} nodes ({config.reservoir.kind})"
    if config.reservoir.kind == "none":
        reservoir = "no reservoir"
    source = "" if index is None else f" of {_text(index['source']['description'])}"
    return (
        f"Classifier of samples{source} of shape {shape} into {len(file.classes)} classes, trained with rcdp_hpc: "
        f"extractor {_text(config.extractor.kind)}, {reservoir}, readout {_text(config.readout.kind)}."
    )


def _data(index: Record | None) -> list[str]:
    if index is None:
        return ["## Training data", "Not known: the shards of the training are not at hand."]
    entries, synthetic = index["class_table"], index["splits"]["train"]["synthetic_counts"]
    columns = ("source", "dropped", "before", "after")
    rows = [
        (_text(one["class"]), *(one.get(name) for name in columns), made, one["validation"], one["test"])
        for one, made in zip(entries, synthetic, strict=True)
    ]
    total = ("all", *(sum(int(row[place] or 0) for row in rows) for place in range(1, 8)))
    header = ("class", "in the source", "dropped", "training, before balancing", "after", "of them synthetic",
              "validation", "test")  # fmt: skip
    method = _text(index["settings"]["data"].get("balance"))
    made = f"No training row is synthetic (balancing: {method})."
    if sum(synthetic):
        share = sum(synthetic) / total[4]
        made = (
            f"{sum(synthetic):,} of the {total[4]:,} training rows ({100 * share:.1f} %) are synthetic, made from "
            f"training rows only (balancing: {method}). Validation and test rows are never synthetic."
        )
    return ["## Training data", made, _table(header, [*_listed(rows), total])]


def _result(summary: Record | None) -> list[str]:
    if summary is None:
        return ["## Result", "Not known: this model has not been evaluated on test rows."]
    test = summary["test"]
    overall = [
        ("accuracy", _share(test["correct"], test["samples"])),
        ("macro F1", f"{test['macro_f1']:.4f}"),
        # Tests of earlier versions have it under another name.
        ("balanced accuracy", f"{test.get('balanced_accuracy', test.get('macro_recall', math.nan)):.4f}"),
    ]
    for name in ("ridge", "trees"):
        if name in test:
            overall.append((f"accuracy of {name} for comparison", f"{100 * test[name]['accuracy']:.2f} %"))
    parts = [
        "## Result",
        f"On {test['samples']:,} test samples, which the training did not see. Intervals are Wilson's, 95 %.",
        _table(("measure", "value"), overall),
    ]
    if isinstance(test["confusion"], list):
        parts.append(_table(("class", "recall", "precision"), _of_classes(summary["classes"], test["confusion"])))
    return parts


def _of_classes(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[tuple[Any, ...]]:
    predicted = [sum(row[label] for row in confusion) for label in range(len(classes))]
    rows = [
        (_text(name), _share(confusion[label][label], sum(confusion[label])),
         _share(confusion[label][label], predicted[label]))
        for label, name in enumerate(classes)
    ]  # fmt: skip
    return list(_listed(rows))


def _answers(file: ModelFile) -> str:
    """Return what the probabilities are, and how classes are chosen."""
    rule = file.rule
    lines = ["## Probabilities and answers"]
    if rule.calibration is None:
        lines.append("Probabilities are those of the model itself; they are not calibrated.")
    else:
        lines.append(f"Probabilities are calibrated by {rule.calibration.describe()}.")
    values = [("prior", rule.priors), ("threshold", rule.thresholds)]
    given = [(name, numbers) for name, numbers in values if numbers is not None]
    if rule.calibration is not None and not rule.decides:
        lines.append("The class that is answered is the most probable one before the calibration.")
    if given:
        rows = [(_text(name), *(f"{numbers[label]:.4g}" for _, numbers in given))
                for label, name in enumerate(file.classes)]  # fmt: skip
        lines.append(_table(("class", *(name for name, _ in given)), _listed(rows)))
    if rule.costs is not None:
        lines.append("The class with the least expected cost is answered (`prediction.costs`).")
    return "\n\n".join(lines)


def _complexity(summary: Record | None) -> list[str]:
    if summary is None or "complexity" not in summary:
        return []
    size = summary["complexity"]
    fixed = "follow from a seed, 0 bytes in the model file" if size["seeded"] else "in the model file"
    rows = [
        ("trained parameters", size["trained"]),
        ("numbers other than 0 in the prediction", size["nonzero"]),
        (f"fixed numbers of the reservoir ({fixed})", size["fixed"]),
        ("floating-point operations of a sample", size["flops"]),
        ("without products of weights that are 0", size["sparse_flops"]),
        ("bytes of the model file", size["bytes"]),
        ("milliseconds of a sample on one thread", f"{size['milliseconds']:.3g}" if size["milliseconds"] else None),
    ]
    return ["## Size and speed", _table(("of model.pt", "value"), rows)]


def _calls(file: ModelFile, to: Path) -> list[str]:
    language, lines = CALLS.get(to.suffix.lower(), CALLS[".pt"])
    shape = ", ".join(("rows", *map(str, file.raw_shape)))
    classes = ", ".join(_text(name) for name in file.classes[:MOST_CLASSES])
    more = f" and {len(file.classes) - MOST_CLASSES} more" if len(file.classes) > MOST_CLASSES else ""
    return [
        "## How to call it",
        f"`samples` are raw samples in the numbers of the source, shape ({shape}). Probabilities have the shape "
        f"(rows, {len(file.classes)}), in the order of these classes: {classes}{more}.",
        f"```{language}\n{lines.format(name=plain_name(to.name))}\n```",
    ]


def _digests(file: ModelFile, run: RunDirectory | None, index: Record | None, summary: Record | None) -> list[str]:
    rows: list[tuple[Any, ...]] = [
        (f"{_text(Path(file.where).name)}, SHA-256", _code(_sha256(file))),
        ("shards of the training", _code(file.shards)),
    ]
    if index is not None:
        rows.append(("samples of the source", _code(index["source"]["sha256"])))
    if run is not None and run.config_file.is_file():
        rows.append(("configuration of the run, SHA-256", _code(file_sha256(run.config_file))))
    if summary is not None:
        rows.append(("seed", summary["seed"]))
        rows += [(f"version of {name}", version) for name, version in summary["versions"].items()]
    rows += [(f"code of {_text(module)}, SHA-256", _code(digest)) for module, digest in file.code.items()]
    return ["## Training run", _table(("what", "value"), rows)]


def _share(count: int, of: int) -> str | None:
    """Return a share with its Wilson interval; None if it is not defined."""
    if not of:
        return None
    low, high = wilson(count, of)
    return f"{100 * count / of:.2f} % ({100 * low:.1f} to {100 * high:.1f} %; {count:,} of {of:,})"


def _listed(rows: Sequence[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
    """Return the rows of the first classes, and a row that says how many are left out."""
    yield from rows[:MOST_CLASSES]
    if len(rows) > MOST_CLASSES:
        yield (f"{len(rows) - MOST_CLASSES} more classes", *(None for _ in rows[0][1:]))


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _code(digest: str | None) -> str | None:
    return None if digest is None else f"`{digest}`"


def _text(value: Any) -> str:
    """Return a name, on one line and without a meaning in Markdown."""
    return "".join(f"\\{character}" if character in SPECIAL else character for character in plain_name(str(value)))
