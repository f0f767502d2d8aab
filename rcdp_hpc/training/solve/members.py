"""Ensembles of solved readouts (``readout.members``): each member is solved from its own rows or random weights.

Members differ by the rows of the large classes that they are solved from (balanced bagging; "EasyEnsemble" of Liu, Wu
and Zhou, "Exploratory undersampling for class-imbalance learning", 2009, with solved readouts in place of boosted
ones), by their random layers, or by both.

If few rows are read, they are copied to all ranks, and rank r solves the members r, r + ranks, ...; otherwise all ranks
sum the rows of one member after the other. Either way the members are the same bits for any number of ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.model.calibration.scores import HeldOutScores
from rcdp_hpc.networks.readouts import one_member
from rcdp_hpc.networks.readouts.solved_ensemble import SolvedEnsemble
from rcdp_hpc.reservoir.left_out import left_out_bytes
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.held_out_scores import solved_scores
from rcdp_hpc.training.solve.member_rows import MemberRows
from rcdp_hpc.training.solve.ridge_fit import GatheredRows, RowSource, left_out_suits
from rcdp_hpc.training.solve.solver import Solution, solver_of
from rcdp_hpc.training.solve.solving_device import device_with_room

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Members:
    """What the members of an ensemble are solved from.

    Attributes
    ----------
    config : Config
        Of the ensemble.
    source : RowSource
        All rows.
    shape : FeatureShape
        The order of a sample's features in its row.
    seed : int
        Determines rows and random weights of all members.
    drawn : MemberRows or None
        The rows of each member; None if all members read all rows.
    before_block, with_validation
        As `rcdp_hpc.training.solve.solver.Solver.solve`.
    """

    config: Config
    source: RowSource
    shape: FeatureShape
    seed: int
    drawn: MemberRows | None = None
    before_block: Callable[[], object] = lambda: None
    with_validation: bool = True

    def rows_of(self, member: int, gather: Callable[[], GatheredRows | None] | None = None) -> RowSource:
        """Return the rows of a member; `gather` as `MemberRows.of`."""
        return self.source if self.drawn is None else self.drawn.of(member, gather)

    def solved(self, comm: Communicator, member: int, source: RowSource) -> Solution:
        """Solve a member from the rows of a source. Collective."""
        config = one_member(self.config)
        seed = member_seed(self.seed, member)
        return solver_of(config).solve(
            config, comm, source, self.shape, seed,
            with_validation=self.with_validation, before_block=self.before_block,
        )  # fmt: skip

    @property
    def reads_few_rows(self) -> bool:
        """Whether each member is a ridge readout that is solved from gathered rows."""
        if self.drawn is None:
            return False
        one = self.rows_of(0)
        few = left_out_suits(self.config, one.rows + one.validation_rows, one.width)
        return few and readout_choice(self.config.readout.kind).linear


def member_seed(seed: int, member: int) -> int:
    """Return the seed of the random weights of a member; the first has that of a single readout."""
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0]) if member else seed


def solve_members(comm: Communicator, members: Members) -> Solution:
    """Solve all members. Collective.

    Returns
    -------
    Solution
        The state of a `SolvedEnsemble`, the same bits on every rank and for any number of ranks. Its accuracy is the
        mean of the members' accuracies, each on rows of the member that it was not fitted to.
    """
    _report(members)
    held_out = None
    if members.source.natural is not None and members.drawn is not None:
        held_out = _held_out(comm, members)
    solutions = _solutions(comm, members)
    first = solutions[0]
    return Solution(
        weights=SolvedEnsemble.joined([one.weights for one in solutions]),
        scores=partial(_mean_scores, solutions),
        accuracy=float(np.mean([one.accuracy for one in solutions])),
        judged_by=first.judged_by,
        selected_by=first.selected_by,
        penalties=tuple(penalty for one in solutions for penalty in one.penalties),
        held_out=held_out or _mean_held_out(solutions, members.source.validation_rows),
    )


def _solutions(comm: Communicator, members: Members) -> list[Solution]:
    """Return the solutions of all members, on every rank. Collective."""
    if members.reads_few_rows:
        return _on_own_ranks(comm, members)
    return [members.solved(comm, number, members.rows_of(number)) for number in range(members.config.readout.members)]


def _held_out(comm: Communicator, members: Members) -> HeldOutScores | None:
    """Return the scores of all validation rows, in their natural proportions, on rank 0. Collective.

    Members of drawn rows leave out other rows each, so they are solved once more, without the validation rows.
    """
    solutions = _solutions(comm, replace(members, with_validation=False))

    def scores(states: torch.Tensor) -> torch.Tensor:
        return _mean_scores(solutions, states.float())

    return solved_scores(comm, members.source.validation(), scores, members.source.classes)


def _mean_held_out(solutions: list[Solution], validation_rows: int) -> HeldOutScores | None:
    """Return the mean of the scores of the validation rows by members of all rows, which were not fitted to the row.

    Left-out scores have the validation rows last. On rank 0; None if no scores are asked for.
    """
    parts = [one.held_out for one in solutions if one.held_out is not None]
    if len(parts) < len(solutions):
        return None
    scores = np.mean([part.scores[-validation_rows:] for part in parts], axis=0)
    return HeldOutScores.of_solved(scores, parts[0].labels[-validation_rows:], parts[0].kind)


def _on_own_ranks(comm: Communicator, members: Members) -> list[Solution]:
    """Solve each member on one rank, from rows that all ranks have. Collective."""
    source = members.source
    one = members.rows_of(0)
    needed = left_out_bytes(one.rows + one.validation_rows, one.width)
    what = f"ridge over {source.width} features"
    device = device_with_room(comm, source.device, needed, what, source.level)
    rows = _everywhere(comm, source.gather())

    def solved() -> dict[int, Solution]:
        local = range(comm.rank, members.config.readout.members, comm.size)
        quiet = {"device": device, "level": logging.DEBUG}
        alone = SingleProcess()
        return {
            number: members.solved(alone, number, replace(members.rows_of(number, lambda: rows), **quiet))  # type: ignore[arg-type]
            for number in local
        }

    found = {number: one for part in comm.allgather(agree(comm, solved)) for number, one in part.items()}
    return [found[number] for number in sorted(found)]


def _everywhere(comm: Communicator, rows: GatheredRows | None) -> GatheredRows:
    """Return the rows of rank 0 on every rank. Collective."""
    if comm.size == 1 and rows is not None:
        return rows
    # Arrays have no 16-bit floats that float32 does not hold exactly.
    packed = None if rows is None else (rows.states.float().cpu().numpy(), rows.labels, rows.origins, rows.joined_at)
    states, labels, origins, joined_at = comm.broadcast(packed)
    return GatheredRows(torch.from_numpy(states), labels, origins, joined_at)


def _mean_scores(solutions: list[Solution], states: torch.Tensor) -> torch.Tensor:
    return torch.stack([one.scores(states) for one in solutions]).mean(0)


def _report(members: Members) -> None:
    count = members.config.readout.members
    if members.drawn is None:
        log.info("%d members are solved from all rows, with other random weights each", count)
        return
    kept: NDArray[np.int64] = members.drawn.kept
    of_class = f"{kept.min()}" if kept.min() == kept.max() else f"{kept.min()} to {kept.max()}"
    rows = members.source.rows
    log.info("%d members are solved from %d of %d training rows, %s of a class", count, kept.sum(), rows, of_class)
