"""Hostile inputs for every reader: commands on damaged or malicious data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from campaign import attacks, mutations, runs
from campaign.children import Done
from campaign.formats import FORMATS, Format
from campaign.judge import Judgement, Verdict, differences, judge
from campaign.results import results
from campaign.runs import Place
from campaign.trial import LIMIT, Outcome, Trial

# Characters that control a terminal; line breaks and tabs are harmless.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
LINE_OF_DATA = re.compile(rf"(?m)^{attacks.FAKE}")
RUNS = tuple(sorted({form.run for form in FORMATS.values() if form.run}))
# Memory of the libraries and a small data set in MiB.
BASE = 450


def hostile(trial: Trial) -> Outcome:
    """Write a valid data set, change one of its files, and run a command that reads it."""
    name = list(FORMATS)[trial.number % len(FORMATS)]
    form, draw = FORMATS[name], trial.draw
    does = draw.choice(form.lines or ("init", "prepare", "prepare", *(["predict"] if form.run else [])))
    place = _place(form, does, trial.place)
    path = form.write(_new_folder(place.folder / "data"))
    words = _words(does, form, path)
    expected = _sound(trial, form, does) if form.checked and does != "init" else {}
    target = draw.choice(_files(path, form))
    attacked = bool(form.lines) or draw.random() < 0.6
    what = attacks.attack(target, draw) if attacked else mutations.mutate(target, draw)
    done = place.rcdp(words, LIMIT)
    found = results(_decided(does), place, done.text) if done.code == 0 and expected else {}
    # A folder of images from which one is removed is valid.
    comparable = found and not attacked and target.exists()
    differing = differences(found, expected) if comparable else []
    # A changed configuration may be valid but name columns that the data do not have.
    names = [path.name, target.name, path.with_suffix(".csv").name, "DATA", "data."]
    judgement = judge(
        done, names=names, codes=(2, 3), base_peak=BASE, differences=differing, several=words[0] == "verify"
    )
    return trial.outcome(f"{name}, {target.name}: {what}", " ".join(words), harmless(judgement, done, place))


def harmless(judgement: Judgement, done: Done, place: Place) -> Judgement:
    """Return the judgement, or a worse one if code in the data was run or control characters were printed."""
    if list(place.folder.rglob(attacks.MARKER)):
        return Judgement(Verdict.SILENT, "code in the data was run")
    if judgement.verdict in (Verdict.SURVIVED, Verdict.REPORTED):
        control = CONTROL.search(done.text)
        if control:
            return Judgement(Verdict.UNCLEAR, f"the control character {control.group()!r} is printed without escaping")
        if LINE_OF_DATA.search(done.text):
            return Judgement(Verdict.UNCLEAR, "a line of output begins with text of the data that looks like a message")
    return judgement


def _place(form: Format, does: str, place: Place) -> Place:
    """Return a place, with a run if the command needs one."""
    return runs.copy(form.run, place) if form.run and does not in ("init", "prepare") else place.make()


def _new_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _words(does: str, form: Format, path: Path) -> list[str]:
    if form.lines:
        return [word.replace("PATH", str(path)) for word in does.split()]
    if does == "init":
        return ["init", str(path)]
    if does == "predict":
        return ["predict", "RUN", str(path), "--to", "OUT.csv"]
    settings = (
        f"data.source={form.source}",
        f"data.path={path}",
        "run.progress=false",
        "data.shards=2",
        *form.settings,
    )
    profile = {"csv": "table", "parquet": "table", "arff": "table", "ts": "series", "series_folder": "series"}
    chosen = profile.get(form.source, "image")
    return ["prepare", chosen, "--out", "RUN", *(part for one in settings for part in ("--set", one))]


def _decided(does: str) -> tuple[str, ...]:
    return {"init": ("stdout",), "prepare": ("shards",), "predict": ("predictions",)}[does]


def _sound(trial: Trial, form: Format, does: str) -> dict[str, str]:
    """Return the results on the valid data set, written again in another place."""
    other = Place(trial.place.folder.with_name(f"{trial.place.folder.name}-sound"), trial.work)
    place = _place(form, does, other)
    done = place.rcdp(_words(does, form, form.write(_new_folder(place.folder / "data"))), LIMIT)
    if done.code:
        raise RuntimeError(f"valid data of {form.source} were refused:\n{done.text[-2000:]}")
    found = results(_decided(does), place, done.text)
    runs.remove(place)
    return found


def _files(path: Path, form: Format) -> Sequence[Path]:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sorted(one for one in files if not form.lines or one.name.endswith(tuple(attacks.ATTACKS)))
