"""Recorded settings and machines of stages, compared when a stage, or one that builds on it, starts again.

The state file of a stage has the settings that determine its result (``settings``) and the machines it ran on
(``machines``). The ``config.toml`` of a run has the settings of all stages. The user may edit it; differences from the
recorded settings are reported.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from rcdp_hpc.config import TRAINING_SECTIONS, Config, differing_keys, flatten, may_change, parse_config, to_tree
from rcdp_hpc.config.keys import known_keys
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.logs import warn_once
from rcdp_hpc.runtime.processor import Machine, differences
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)

# The sections that determine the result of a stage. An evaluation uses the trained model and needs no settings.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "prepare": ("run", "data"),
    "search": ("run", "data", "reservoir", "extractor", "search"),
    "train": ("run", "data", *TRAINING_SECTIONS),
    "evaluate": (),
}
# The run has a copy of the user's file; the pipeline compares their content.
_COMPARED_ELSEWHERE = ("reservoir.matrices",)
_DECIDE_WHETHER_TO_SEARCH = ("search.generations", "search.method")


def settings_of(stage: str, config: Config) -> dict[str, Any]:
    """Return the settings that determine the result of a stage, for its state file."""
    tree = to_tree(config)
    return {section: tree[section] for section in SECTIONS[stage]}


def record_settings(run: RunDirectory, stage: str, config: Config) -> None:
    """Write the settings of a stage to config.toml; sections that only other stages have used remain unchanged."""
    if not run.config_file.exists():
        run.write_config(config)
        return
    if not SECTIONS[stage]:
        return
    started = {other for other in SECTIONS if other != stage and run.state(other)}
    unchanged = [
        section
        for section in Config.model_fields
        if section not in SECTIONS[stage] and any(section in SECTIONS[other] for other in started)
    ]
    run.write_config(_with_sections(config, run.config(), unchanged) if unchanged else config)


def report_changes(run: RunDirectory, stage: str, config: Config) -> None:
    """Log the settings that differ from an earlier start of a stage, and from the search that it builds on.

    A changed value in config.toml is logged as a warning, one from the command line as information. The stage itself
    refuses changes that a resume does not allow.
    """
    changed = [key for key in _changed(run, stage, config, SECTIONS[stage]) if may_change(key)]
    reported = [key for key in changed if not key.startswith("run.")]
    in_file = set(_changed(run, stage, run.config(), SECTIONS[stage])) if reported else set()
    edited = [key for key in reported if key in in_file]
    from_command = [key for key in reported if key not in edited]
    if edited:
        log.warning(
            "%s was changed since stage %s used it: %s. The stage continues with the changed values",
            *(run.config_file, stage, _changes(run, stage, config, edited)),
        )
    if from_command:
        changes = _changes(run, stage, config, from_command)
        log.info("stage %s was started with other settings before: %s", stage, changes)
    if stage in ("search", "train") and not config.has_search:
        _report_search_left_out(run, config)
    if stage == "train" and config.has_search:
        fixed = [key for key in _changed(run, "search", config, ("reservoir", "extractor")) if not may_change(key)]
        if fixed:
            log.warning(
                "the search was done with other settings: %s. Its best candidate is trained with the present ones; run "
                "the search again with --restart to make both agree",
                _changes(run, "search", config, fixed),
            )


def report_edited_file(run: RunDirectory, stage: str) -> None:
    """Warn if a stage is about to start over with settings of config.toml that differ from its recorded ones."""
    edited = _edited(run, stage) if run.config_file.exists() else ""
    if edited:
        log.warning(
            "%s was changed since stage %s used it: %s. The stage starts over with the changed values",
            *(run.config_file, stage, edited),
        )


def _report_search_left_out(run: RunDirectory, config: Config) -> None:
    """Warn if the run directory has a search that the present settings do not use."""
    changed = _changed(run, "search", config, ("reservoir", "search"))
    deciding = [key for key in changed if key in _DECIDE_WHETHER_TO_SEARCH]
    if deciding:
        left_out = _changes(run, "search", config, deciding)
        warn_once(
            log,
            f"search left out of {run.path}",
            f"{run.search} has a search that the present settings do not use: {left_out}. If you did not intend this, "
            f"set it back in {run.config_file}",
        )


def edited_settings(run: RunDirectory) -> list[str]:
    """Return a line for each stage with the keys of config.toml that were changed since the stage used them."""
    lines = []
    for stage in SECTIONS:
        edited = _edited(run, stage)
        if edited:
            lines.append(f"changed since stage {stage} used it: {edited}")
    return lines


def _edited(run: RunDirectory, stage: str) -> str:
    """Return the keys of config.toml that were changed since a stage used them, with both values; empty if none."""
    config = run.config()
    keys = [key for key in _changed(run, stage, config, SECTIONS[stage]) if not key.startswith("run.")]
    return _changes(run, stage, config, keys) if keys else ""


def changed_data_keys(run: RunDirectory, keys: Sequence[str]) -> list[str]:
    """Return descriptions of the keys of [data] whose values in config.toml differ from the recorded preparation."""
    names = [f"data.{key}" for key in keys]
    changed = [key for key in _changed(run, "prepare", run.config(), ("data",)) if key in names]
    return [_changes(run, "prepare", run.config(), [key]) for key in changed]


def refuse_changed_settings(run: RunDirectory, config: Config) -> None:
    """Raise an `InputError` if an evaluation has settings that differ from those of the trained model."""
    fixed = [key for key in _changed(run, "train", config, SECTIONS["train"]) if not may_change(key)]
    if fixed:
        raise InputError(
            f"{run.model} was trained with other settings: {_changes(run, 'train', config, fixed)}. An evaluation "
            "uses the trained model: set them back, or train again (rcdp train --restart, or another --out)."
        )


def machines_to_record(run: RunDirectory, stage: str, config: Config, now: Sequence[Machine]) -> dict[str, Any]:
    """Return the machines of a stage for its state file: ``machines``, and ``earlier_machines`` of a resumed stage.

    Resuming on another kind of machine is reported, or refused if ``run.same_processor`` is "refuse". Only search and
    training resume; other stages start from the beginning.
    """
    state, folder = run.state(stage), run.folder(stage)
    before, earlier = state.get("machines", []), state.get("earlier_machines", [])
    has_results = folder.is_dir() and any(folder.iterdir())
    if stage not in ("search", "train") or not before or not has_results:
        return {"machines": list(now), "earlier_machines": None}
    sections = [section for section in SECTIONS[stage] if section != "run"]
    if state.get("status") == "done" and not _changed(run, stage, config, sections):
        return {}  # nothing will be computed
    differing = differences(before, now)
    if differing:
        _report_or_refuse(f"stage {stage} was started on another kind of machine: {differing}", config)
    others = [machine for machine in (*earlier, *before) if differences([machine], now)]
    return {"machines": list(now), "earlier_machines": others or None}


def _report_or_refuse(text: str, config: Config) -> None:
    if config.run.same_processor == "refuse":
        raise InputError(
            f"{text}. Its results would differ in the last digits (run.same_processor = 'refuse'). Continue on the "
            "same kind of machine, set run.same_processor = 'warn', or start the stage over with --restart."
        )
    log.warning(
        "%s. From now on, the last digits of its results differ from those of a run on one kind of machine "
        "(run.same_processor = 'refuse' stops such a run)",
        text,
    )


def _changed(run: RunDirectory, stage: str, config: Config, sections: Sequence[str]) -> list[str]:
    """Return the keys of sections whose values differ from the recorded ones of a stage; none without a record."""
    recorded = run.state(stage).get("settings")
    if not isinstance(recorded, dict):
        return []
    old, new = ({name: tree[name] for name in sections if name in tree} for tree in (recorded, to_tree(config)))
    return [key for key in differing_keys(old, new) if key not in _COMPARED_ELSEWHERE]


def _changes(run: RunDirectory, stage: str, config: Config, keys: Sequence[str]) -> str:
    old, new = flatten(run.state(stage)["settings"]), flatten(to_tree(config))
    return ", ".join(f"{key} ({old.get(key, 'not set')} -> {new.get(key, 'not set')})" for key in keys)


def _with_sections(config: Config, other: Config, sections: Sequence[str]) -> Config:
    """Return a configuration with some sections of another; unchanged if the sections do not fit together."""
    merged = config.model_copy(update={section: getattr(other, section) for section in sections})
    chosen = None
    if config.chosen is not None or other.chosen is not None:
        chosen = frozenset(
            key
            for source, is_taken in ((config, False), (other, True))
            for key in (known_keys() if source.chosen is None else source.chosen)
            if (key.partition(".")[0] in sections) == is_taken
        )
    try:
        return parse_config(to_tree(merged), "config.toml", chosen)
    except InputError:
        return config
