"""Digests to check the files of a run by, and the warnings of its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcdp_hpc.evaluation.report.html import Html, bullets, code, folded, join, paragraph, table
from rcdp_hpc.evaluation.report.run_files import LogMessage, RunFiles
from rcdp_hpc.evaluation.report.text import command, counted, moment
from rcdp_hpc.runtime.digests import file_sha256
from rcdp_hpc.runtime.json_text import read_json_file

MOST_MESSAGES = 30
MOST_CHARACTERS = 1000


def digests(files: RunFiles) -> Html:
    """Return the section about digests."""
    run = files.run
    rows: list[tuple[Any, ...]] = []
    for path, meaning in ((run.model, "trained model"), (run.config_file, "resolved configuration")):
        if path.is_file():
            rows.append((_local(files, path), meaning, "of the file", code(file_sha256(path))))
    sealed = ((run.shards / "index.json", "index of the shards, with the SHA-256 of each"),
              (run.report / "summary.json", "results of the test"))  # fmt: skip
    for path, meaning in sealed:
        if path.is_file():
            rows.append((_local(files, path), meaning, "key sha256 in it", code(str(recorded_digest(path)))))
    if files.index is not None:
        rows.append(
            (
                files.index["source"]["name"],
                "source of the data",
                "of its samples",
                code(files.index["source"]["sha256"]),
            )
        )
    if not rows:
        return paragraph("There are no files to check yet.", class_="problem")
    return join(
        table("SHA-256 digests", ("file", "content", "digest", "value"), rows, words=(1, 2, 3)),
        how_to_verify(run.path),
    )


def how_to_verify(path: Path) -> Html:
    """Return how to check the files of a run."""
    return join(
        paragraph(
            "To check the shards against their index: ",
            code(command("rcdp", "verify", path)),
            ". To check the model: ",
            code(command("sha256sum", path / "train/model.pt")),
            ".",
        ),
        paragraph(
            "A digest protects against accidents. It is not a signature. Every JSON file of a run has a digest of its "
            "own, which each command checks.",
            class_="note",
        ),
    )


def _local(files: RunFiles, path: Path) -> str:
    return str(path.relative_to(files.run.path))


def recorded_digest(path: Path) -> Any:
    """Return the digest that a sealed file contains; a text that says so if it cannot be read."""
    try:
        content = read_json_file(path)
    except Exception as error:  # the reason is among the problems of the report
        return f"cannot be read ({type(error).__name__})"
    return content.get("sha256", "none") if isinstance(content, dict) else "none"


def warnings(files: RunFiles) -> Html:
    """Return the section about the warnings and errors of the log."""
    return message_list(files.messages)


def message_list(messages: list[LogMessage]) -> Html:
    """Return warnings and errors as a list, the last ones first of many."""
    if not messages:
        return paragraph("The log has no warnings.")
    items = [_item(message) for message in messages[-MOST_MESSAGES:]]
    if len(messages) <= MOST_MESSAGES:
        return bullets(items)
    older = [_item(message) for message in messages[-300:-MOST_MESSAGES]]
    note = f"{counted(len(messages), 'different message')}; the last {MOST_MESSAGES}:"
    rest = "" if len(messages) <= 300 else " (log.jsonl has all of them)"
    return join(
        paragraph(note), bullets(items), folded(f"{counted(len(older), 'earlier message')}{rest}", bullets(older))
    )


def _item(message: LogMessage) -> Html:
    text = message.text
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]} ... ({len(message.text)} characters)"
    times = f", {message.count:,} times, last" if message.count > 1 else ""
    return join(f"{message.level.lower()}{times} {moment(message.last)}: ", text)
