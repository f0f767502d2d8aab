"""What is refused before a comparison computes anything."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.data import data_directory, data_name
from rcdp_hpc.comparison.methods.base import Method
from rcdp_hpc.comparison.plan import Plan, make_plan, repetitions
from rcdp_hpc.comparison.results import LeftOut
from rcdp_hpc.comparison.settings import config_of_cell, config_of_data
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.config.choices import METHODS, method_choice
from rcdp_hpc.data.shards.index import INDEX_NAME, facts_in, load_index
from rcdp_hpc.data.sources import LabelledArrays, open_source
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.runtime.lock_file import current_holder
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.user_code import load_choice

log = logging.getLogger(__name__)


def refuse_single_run(run: RunDirectory) -> None:
    """Raise an `InputError` if a folder holds a run or a cross-validation."""
    if run.plan.exists():
        return
    found = [path for path in (run.shards, run.search, run.train, run.path / "state") if path.exists()]
    if found or run.folds() or run.tasks():
        raise InputError(
            f"{run.path}: is the directory of a single run, a cross-validation or a job array; choose another --out "
            "for a comparison."
        )


def refuse_cells_in_use(run: RunDirectory, plan: Plan) -> None:
    """Raise an `InputError` if other jobs, as of a job array, work on cells of the comparison."""
    for cell in plan.cells:
        holder = current_holder(lock_of(run.cell(cell.name)))
        if holder is not None:
            raise InputError(
                f"{run.cell(cell.name).path} is in use by {holder}: a job works on this cell of the comparison. Wait "
                "for it to end, stop it, or choose another --out."
            )


def refuse_whole_comparison(run: RunDirectory) -> None:
    """Raise an `InputError` if a job works on all cells of the comparison."""
    holder = current_holder(run.lock)
    if holder is not None:
        raise InputError(
            f"{run.path} is in use by {holder}, which works on all cells of the comparison. Wait for it to end, stop "
            "it, or choose another --out."
        )


def lock_of(cell: RunDirectory) -> Path:
    """Return the lock of a whole cell. The stages of its run lock the run directory one by one."""
    return cell.path / "cell.lock"


def refuse_without_groups(config: Config, comm: Communicator, together: bool) -> None:
    """Raise an `InputError` if the ranks of a cell cannot search together. The same on every rank.

    Parameters
    ----------
    config : Config
    comm : Communicator
    together : bool
        Whether several ranks work on one cell.
    """
    if together and comm.size > 1 and not comm.can_split:
        raise agreed(
            InputError(
                "ranks that horovodrun connects with Gloo cannot search together: set compare.group_ranks = 1, so that "
                "each rank works on a cell of its own, or start the ranks with mpirun, srun --mpi=pmix, torchrun or "
                "horovodrun --mpi."
            )
        )


def facts_of(config: Config, run: RunDirectory, name: str, arrays: LabelledArrays | None) -> DataFacts:
    """Return the facts of the data: of its shards if they are prepared, otherwise of the source."""
    shards = data_directory(run, name).shards
    if (shards / INDEX_NAME).exists():
        return facts_in(load_index(shards))
    seed, fold = repetitions(config)[0]
    data = config_of_data(config, seed, fold).data
    return open_source(data, config.run.progress, arrays).facts


def facts_from_json(content: dict[str, Any]) -> DataFacts:
    """Return recorded facts."""
    return DataFacts(**{**content, "sample_shape": tuple(content["sample_shape"])})


def refuse_few_rows(config: Config, run: RunDirectory, plan: Plan, facts: DataFacts) -> None:
    """Raise an `InputError` if prepared data have too few training rows for a method, before any cell runs."""
    asked = set()
    for cell in plan.run_cells:
        name = data_name(config, cell)
        if (name, cell.method) in asked:
            continue
        asked.add((name, cell.method))
        index = load_index(data_directory(run, name).shards)
        own = config_of_cell(config, cell, facts, index["settings"])
        problem = method_of(cell.method).problem_with_rows(own, facts, index["splits"]["train"]["rows"])
        if problem is not None:
            raise InputError(f"{cell.name}: {problem}")


def method_of(name: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    InputError
        If an optional dependency is missing, or a class of the user's own cannot be used.
    """
    kind = load_choice(METHODS, name)
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise InputError(
            f"compare.methods: {name!r} is not a class derived from rcdp_hpc.comparison.methods.base.Method"
        )
    try:
        return kind()
    except TypeError as error:
        raise InputError(f"compare.methods: {name!r} cannot be created without arguments ({error})") from None


def fitting_plan(config: Config, facts: DataFacts) -> Plan:
    """Return the plan of a comparison, with the methods that cannot take the data left out.

    A method that cannot take the data in any arm is left out only if ``compare.methods`` is empty, which stands for all
    of the package.

    Raises
    ------
    InputError
        If ``compare.methods`` names such a method, an arm cannot be made of the data, or no method is left.
    """
    if "extractor" in config.compare.arms and facts.kind != "images":
        raise InputError(
            f"compare.arms = {config.compare.arms}: the arm 'extractor' needs images, and these data are of the kind "
            f"'{facts.kind}'. Take it out."
        )
    left_out = tuple(_problems(config, facts))
    # A method that reads one arm only is compared there.
    arms = [one.method for one in left_out]
    refused = [one for one in left_out if arms.count(one.method) == len(config.compare.arms)]
    if config.compare.methods and refused:
        listed = "; ".join(_described(one) for one in refused)
        raise InputError(
            f"compare.methods: {listed}. Take it out of compare.methods, or leave compare.methods empty to compare all "
            "methods that can take these data."
        )
    plan = make_plan(config, left_out)
    if not plan.run_cells:
        raise InputError(f"no method can take these data: {'; '.join(_described(one) for one in left_out)}.")
    return plan


def _described(one: LeftOut) -> str:
    arm = f" (arm '{one.arm}')" if one.arm != "rows" else ""
    return f"{one.method}{arm} cannot take these data: {one.reason.rstrip('.')}"


def _problems(config: Config, facts: DataFacts) -> Sequence[LeftOut]:
    seen: dict[tuple[str, str], LeftOut] = {}
    for cell in make_plan(config).cells:
        key = (cell.method, cell.arm)
        if key in seen or cell.budget != "evaluations" or (cell.seed, cell.fold) != repetitions(config)[0]:
            continue
        model = Path("extractor.pt") if cell.arm == "extractor" else None
        problem = _problem(cell.method, config_of_cell(config, cell, facts, None, model), facts)
        if problem is not None:
            seen[key] = LeftOut(cell.method, cell.arm, problem)
    return list(seen.values())


def _problem(name: str, config: Config, facts: DataFacts) -> str | None:
    """Return why a method cannot take the data; None if it can."""
    kinds = method_choice(name).kinds
    if facts.kind not in kinds:
        return f"it takes data of the kind {' or '.join(map(repr, kinds))}, and these are of the kind '{facts.kind}'"
    try:
        return method_of(name).problem(config, facts)
    except InputError as error:
        if name not in METHODS:
            raise
        return str(error)
