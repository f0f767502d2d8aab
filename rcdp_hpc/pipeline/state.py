"""The state files of a run: start and end of each stage, its seconds, and why it ended."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rcdp_hpc.config import Config
from rcdp_hpc.errors import RcdpError
from rcdp_hpc.pipeline.resolve import with_data_defaults
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.command_line import current_command
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.processor import Machine, count_machines, machine_of_process, report_different_machines
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import (
    machines_to_record,
    record_settings,
    refuse_changed_settings,
    report_changes,
    settings_of,
)

log = logging.getLogger(__name__)


def machines_of_ranks(stage: str, comm: Communicator, uses_gpu: bool = True) -> list[Machine]:
    """Return the kinds of machines of all ranks, and warn if they differ; GPUs if they compute. Collective."""
    if stage != "prepare":
        with suppress(ImportError):
            import torch  # noqa: F401
    machines = count_machines(comm.allgather(machine_of_process(uses_gpu)))
    if comm.is_root and len(machines) > 1:
        report_different_machines(machines)
    return machines


def begin(
    run: RunDirectory, stage: str, config: Config, ranks: int, restart: bool, machines: Sequence[Machine]
) -> None:
    """Record that a stage runs. Raise an `InputError` if its settings contradict those of earlier starts."""
    if stage == "evaluate":
        refuse_changed_settings(run, config)
    record = machines_to_record(run, stage, config, machines)
    report_changes(run, stage, config)
    state = run.state(stage)
    has_results = state.get("status") == "done" or (state.get("status") == "stopped" and not _starts_over(stage))
    run.record_state(
        stage, "running", ranks=ranks, started=time.time(), reason="",
        earlier_seconds=0.0 if restart else _spent_before(run, stage),
        earlier=state if has_results else state.get("earlier"),
        attempt=None, command=current_command(), **record,
    )  # fmt: skip


def _starts_over(stage: str) -> bool:
    """Return whether a stage starts from the beginning each time and replaces its results at the end."""
    return stage in ("prepare", "evaluate")


def _spent_before(run: RunDirectory, stage: str) -> float:
    """Return the seconds of earlier starts whose results this start continues from."""
    state = run.state(stage)
    if state.get("status") == "done":
        # An evaluation repeats all of its work.
        return 0.0 if stage == "evaluate" else float(state.get("seconds", 0.0))
    if state.get("status") == "running":
        # The stage was killed: the time of its last file is the best estimate of its end.
        times = [path.stat().st_mtime for path in run.folder(stage).rglob("*") if path.is_file()]
        return _spent(state, max(times, default=0.0))
    return float(state.get("earlier_seconds", 0.0))


def _spent(state: dict[str, Any], until: float) -> float:
    """Return the seconds of all starts of a stage, with the last one counted up to `until`."""
    return float(state.get("earlier_seconds", 0.0)) + max(0.0, until - state.get("started", until))


def finish(run: RunDirectory, stage: str, config: Config, result: Any) -> None:
    """Record the result of a finished stage and the settings that it used."""
    seconds = _spent(run.state(stage), time.time())
    if stage == "prepare":
        config = with_data_defaults(config, run)
    record_settings(run, stage, config)
    used: dict[str, Any] = {"kernel": config.reservoir.kernel} if stage in ("search", "train") else {}
    if stage == "search":
        used["threads"] = config.search.threads
    run.record_state(
        stage, "done", seconds=seconds, earlier_seconds=0.0, result=result, settings=settings_of(stage, config),
        earlier=None, **used,
    )  # fmt: skip


def report_seconds(run: RunDirectory, stages: Sequence[str]) -> None:
    """Log the seconds of each stage, including earlier starts."""
    seconds = {stage: float(run.state(stage)["seconds"]) for stage in stages}
    parts = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
    log.info("seconds: %s, total %.1f", parts, sum(seconds.values()))


def record_failure(
    run: RunDirectory, comm: Communicator, stage: str, status: Any, refused: bool = False, **details: Any
) -> None:
    """Record the failure of a stage; only warn if its state file cannot be written.

    The stage keeps the status "done" if this start was refused, or did not change the earlier results.
    """
    if not comm.is_root:
        return
    try:
        seconds = _spent(run.state(stage), time.time())
        run.record_failure(stage, status, refused or _starts_over(stage), earlier_seconds=seconds, **details)
    except RcdpError as error:
        log.warning("the state of stage %s could not be recorded: %s", stage, error)


def put_aside(run: RunDirectory, stage: str) -> None:
    """Move earlier results of a stage to a folder ``STAGE.before-...``, so that a restart loses nothing."""
    folder = run.folder(stage)
    if folder.exists():
        with os_errors_explained(folder):
            aside = tempfile.mkdtemp(prefix=f"{folder.name}.before-", dir=run.path)
            folder.rename(Path(aside) / folder.name)
        log.info("moved the earlier results of %s to %s", folder.name, aside)
    run.state_file(stage).unlink(missing_ok=True)
