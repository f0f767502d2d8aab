"""Results of commands without times, for comparison to the bit."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from campaign.runs import Place

# Keys whose values depend on times, on the machine, or on the folder of a run.
VOLATILE = re.compile(
    r"seconds|per_second|percent|^timing|^time$|started|updated|pid|host|^ranks$|versions|memory_mib|sha256|digest|rank_speed"
)
# Numbers in printed text that are times, sizes of files that contain times, or numbers of jobs.
TIMES = re.compile(
    r"\b\d+(?:\.\d+)?(?= ?(?:s|ms|MiB|KiB|GiB|min|h)\b)|-?-time=\S+|\d\d:\d\d(?::\d\d)?|\b\d{4}-\d\d-\d\d\b"
)

Found = dict[str, str]


def results(names: tuple[str, ...], place: Place, text: str) -> Found:
    """Return digests of the results of these names in a trial's folder, by file.

    Parameters
    ----------
    names : tuple of str
        Keys of `RESULTS`, or "stdout".
    place : Place
    text : str
        Output of the command.
    """
    found: Found = {}
    for name in names:
        if name == "stdout":
            found["output"] = printed(text, place.folder)
            continue
        for file, value in RESULTS[name](place.run if name != "predictions" else place.folder):
            found[file] = hashlib.sha256(repr(value).encode()).hexdigest()
    return found


def printed(text: str, folder: Path) -> str:
    """Return the output of a command without the folder, times and warnings."""
    lines = [line for line in text.replace(str(folder), "").splitlines() if not line.startswith("rcdp: warning:")]
    return TIMES.sub("#", "\n".join(lines))


def timeless(value: Any) -> Any:
    """Return a JSON value without the keys that depend on times."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if not VOLATILE.search(key)}
    if isinstance(value, list):
        return [timeless(one) for one in value]
    # The folder of a run differs between trials.
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _shards(run: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted((run / "shards").glob("*")):
        yield _name(path, run), _json(path) if path.suffix == ".json" else path.read_bytes()


def _search(run: Path) -> Iterator[tuple[str, Any]]:
    best = run / "search" / "best.toml"
    if best.exists():
        yield _name(best, run), re.sub(r"(?m)^(?:seconds|sha256|digest)\b.*\n?", "", best.read_text(errors="replace"))
    yield from _lines(run / "search" / "history.jsonl", run)


def _model(run: Path) -> Iterator[tuple[str, Any]]:
    for path in (run / "train" / "model.pt", run / "train" / "ridge.pt"):
        if path.exists():
            content = torch_content(path)
            # The baseline does not depend on the settings of the training, which the file also contains.
            baseline = [one for one in content if one[0] != "settings"] if isinstance(content, list) else content
            yield _name(path, run), baseline if path.name == "ridge.pt" else content


def _metrics(run: Path) -> Iterator[tuple[str, Any]]:
    for name in ("metrics.jsonl", "class_counts.jsonl"):
        yield from _lines(run / "train" / name, run)


def _report(run: Path) -> Iterator[tuple[str, Any]]:
    path = run / "report" / "predictions.csv"
    if path.exists():
        yield _name(path, run), path.read_bytes()
    path = run / "report" / "summary.json"
    if path.exists():
        value = _json(path)
        yield _name(path, run), value.get("test", value) if isinstance(value, dict) else value
    for path in sorted((run / "report").glob("confusion.*")):
        if path.suffix != ".png":
            yield _name(path, run), path.read_bytes()


def _predictions(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.glob("out.*")):
        if path.suffix == ".csv":
            yield path.name, list(csv.reader(io.StringIO(path.read_text())))
        else:
            yield path.name, path.read_bytes()


def _jobs(run: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted((run / "jobs").glob("*.sbatch")):
        yield _name(path, run), path.read_text(errors="replace").replace(str(run), "RUN")


def _folds(run: Path) -> Iterator[tuple[str, Any]]:
    path = run / "report" / "summary.json"
    if path.exists():
        yield _name(path, run), timeless(_json(path))
    for fold in sorted(run.glob("fold-*")):
        for name, value in _report(fold):
            yield f"{fold.name}/{name}", value


RESULTS: Mapping[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    "shards": _shards,
    "search": _search,
    "model": _model,
    "metrics": _metrics,
    "report": _report,
    "predictions": _predictions,
    "jobs": _jobs,
    "folds": _folds,
}


def _lines(path: Path, run: Path) -> Iterator[tuple[str, Any]]:
    if path.exists():
        yield _name(path, run), [_of_json(line) for line in path.read_text(errors="replace").splitlines()]


def _json(path: Path) -> Any:
    return _of_json(path.read_text(errors="replace"))


def _of_json(text: str) -> Any:
    try:
        return timeless(json.loads(text))
    except (ValueError, RecursionError):
        return text


def _name(path: Path, run: Path) -> str:
    return str(path.relative_to(run))


def torch_content(path: Path) -> Any:
    """Return the content of a torch file in a form that `repr` shows to the bit, or its bytes if it cannot be read."""
    try:
        return _shown(torch.load(path, map_location="cpu", weights_only=True))
    except Exception:
        return path.read_bytes()


def _shown(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        array = value.detach().contiguous().view(-1)
        return (
            str(value.dtype),
            tuple(value.shape),
            array.view(torch.uint8).numpy().tobytes() if array.numel() else b"",
        )
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, dict):
        return [(str(key), _shown(one)) for key, one in value.items() if not VOLATILE.search(str(key))]
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    if isinstance(value, str) and value.startswith("{"):
        return _of_json(value)
    return value
