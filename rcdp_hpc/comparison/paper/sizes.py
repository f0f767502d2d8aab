"""Table 6: accuracy, time and memory by the size of a tree of JPEG images, under a fixed memory budget.

For each size the tree is written, and then prepared, trained on (a reservoir with a ridge readout, which is solved in
one pass) and evaluated by the functions of the pipeline. A line through the seconds of the sizes is extended to a
size that was not measured.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.comparison.paper.image_order import SmallImages
from rcdp_hpc.comparison.paper.image_tree import ImageTree, TreeSettings, file_bytes, refuse_impossible_tree, write_tree
from rcdp_hpc.comparison.paper.line import Line, Prediction
from rcdp_hpc.config import Config, DataSection, parse_config, to_tree
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.rows import fits
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree_on_root, run_on_root
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.peak_memory import PeakMemory
from rcdp_hpc.runtime.ram import MIB
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)

GIB = 2**30
# Sizes of the paper's Table 6, and the one that the line is extended to (500 GB).
PAPER_SIZES = (2.0, 4.0, 8.0)
QUICK_SIZES = tuple(size / 32 for size in PAPER_SIZES)
FAR_GIB = 500e9 / GIB
MEMORY_BUDGET = 1024
STAGES = ("prepare", "train", "evaluate")
# Images per class of a first run whose times do not count.
WARM_UP_IMAGES = 10
FILE = "sizes.json"


@dataclass(frozen=True)
class SizeResult:
    """One size.

    Attributes
    ----------
    gib : float
        The size that was asked for.
    bytes, images : int
        Size and number of the files.
    held : bool
        Whether the decoded images fit in the share of the memory budget for the source; otherwise each is decoded
        again when it is needed. Times of both kinds are not on one line.
    rows : dict of str to int
        Rows of the shards by split.
    accuracy, macro_f1 : float
        Of the test rows.
    correct, samples : int
        Test rows that are classified correctly, and all.
    seconds : dict of str to float
        ``write`` (of the images added to the tree of the size before, not part of the total), ``prepare``, ``train``,
        ``evaluate``, and ``total`` of these three.
    images_per_second : float
        Images over seconds of ``prepare``.
    before_mib, peak_mib : dict of str to float
        By stage: memory of the process at its beginning, libraries included, and the largest within it; that of the
        rank with the most.
    ranks : int
        Ranks of ``train`` and ``evaluate``; ``prepare`` runs on one process.
    """

    gib: float
    bytes: int
    images: int
    held: bool
    rows: dict[str, int]
    accuracy: float
    macro_f1: float
    correct: int
    samples: int
    seconds: dict[str, float]
    images_per_second: float
    before_mib: dict[str, float]
    peak_mib: dict[str, float]
    ranks: int


@dataclass(frozen=True)
class SizeTable:
    """All sizes, and the line through their seconds.

    Attributes
    ----------
    label : str
        What the images are.
    memory_budget_mib : int
    sizes : list of SizeResult
    line : Line or None
        Total seconds over GiB of the files; None for a single size.
    far : Prediction or None
        The line at `far_gib`.
    far_gib : float
    notes : list of str
        What a reader of the figures has to know.
    """

    label: str
    memory_budget_mib: int
    sizes: list[SizeResult]
    line: Line | None
    far: Prediction | None
    far_gib: float
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the table as a JSON object."""
        return asdict(self)


def size_settings(tree: Path, seed: int = 0, memory_budget: int = MEMORY_BUDGET) -> Config:
    """Return the settings of every size: images of 64 x 64 pixels, 500 nodes, four states, a ridge readout."""
    # 64 x 64 pixels: the decoded images of all of the paper's sizes are larger than the share for the source, so that
    # the same work is done for each of them, and for any larger size.
    settings = {
        "run": {"seed": seed},
        "data": {
            "source": "image_folder",
            "path": str(tree),
            "image_size": [64, 64],
            "image_channels": 3,
            "memory_budget": memory_budget,
        },
        "reservoir": {"nodes": 500, "states": 4, "leak": 0.7, "bias_scaling": 0.3, "input_scaling": 0.1},
        "search": {"generations": 0},
        "readout": {"kind": "ridge"},
    }
    return parse_config(settings, "of the sizes of Table 6")


def measure_sizes(
    data: DataSection,
    folder: Path,
    comm: Communicator,
    sizes: Sequence[float] = PAPER_SIZES,
    tree_settings: TreeSettings | None = None,
    memory_budget: int = MEMORY_BUDGET,
    seed: int = 0,
    delete_tree: bool = True,
    progress: bool = False,
) -> SizeTable:
    """Measure each size, smallest first, and return the table. Collective.

    A size with a result in the folder is not measured again; one that was interrupted continues with its last
    incomplete stage, so that its seconds and memory are those of whole stages.

    Parameters
    ----------
    data : DataSection
        The source of the small images, such as CIFAR-10.
    folder : Path
        ``images/`` (the tree, which grows from size to size), ``SIZE-gib/`` (a run directory and results for each
        size) and ``sizes.json``.
    comm : Communicator
    sizes : sequence of float
        In GiB.
    tree_settings : TreeSettings, optional
    memory_budget : int
        ``data.memory_budget`` in MiB.
    seed : int
        ``run.seed``.
    delete_tree : bool
        Delete the images when all sizes are measured.
    progress : bool

    Raises
    ------
    InputError
        If a size is not positive or repeated, results of other settings are in the folder, or as `write_tree`.
    StoppedError
        If a stop signal arrived. The same call continues.
    """
    ordered = sorted(sizes)
    if not ordered or ordered[0] <= 0 or len(set(ordered)) < len(ordered):
        raise InputError(f"sizes of {list(sizes)} GiB: expected different sizes above 0")
    experiment = _Experiment(data, folder, comm, tree_settings or TreeSettings(), memory_budget, seed, progress)
    run_on_root(comm, partial(experiment.check, ordered))
    results = [experiment.result_of(gib) for gib in ordered]
    label = run_on_root(comm, experiment.label)
    table = _table(label, memory_budget, results)
    agree_on_root(comm, partial(write_sealed, folder / FILE, table.as_json()))
    if delete_tree:
        run_on_root(comm, experiment.delete_tree)
    return table


def _table(label: str, memory_budget: int, results: list[SizeResult]) -> SizeTable:
    line = Line.through([one.bytes / GIB for one in results], [one.seconds["total"] for one in results])
    far = None if line is None else line.at(FAR_GIB)
    notes = [f"images: {label}; they have no more detail than the small ones"]
    held = [one for one in results if one.held]
    if held and len(held) < len(results):
        notes.append(
            f"{len(held)} of {len(results)} sizes fit in memory when decoded and are decoded once, the others several "
            "times: the line mixes both"
        )
    elif held:
        notes.append(
            "all sizes fit in memory when decoded; larger ones are decoded several times, so take longer per GiB"
        )
    if line is not None and line.deviation is None:
        notes.append("the line goes through two sizes and so has no error")
    return SizeTable(label, memory_budget, results, line, far, FAR_GIB, notes)


class _Experiment:
    """Measures sizes in a folder."""

    def __init__(
        self,
        data: DataSection,
        folder: Path,
        comm: Communicator,
        tree_settings: TreeSettings,
        memory_budget: int,
        seed: int,
        progress: bool,
    ) -> None:
        self.data = data
        self.folder = folder
        self.comm = comm
        self.tree = folder / "images"
        self.tree_settings = tree_settings
        self.config = size_settings(self.tree, seed, memory_budget)
        self.progress = progress
        self._small: SmallImages | None = None
        self._is_warm = False

    def settings(self, gib: float) -> dict[str, Any]:
        """Return what decides the result of a size."""
        tree = to_tree(self.config)
        # The folder may have been moved.
        del tree["data"]["path"]
        return {"gib": gib, "images": asdict(self.tree_settings), "source": self.data.source, "settings": tree}

    def check(self, sizes: Sequence[float]) -> None:
        """Raise an `InputError` if a size cannot be measured, before the first one is."""
        records = [self._read(self._place(gib) / name, gib) for gib in sizes for name in ("write.json", "result.json")]
        if None in records[1::2]:
            refuse_impossible_tree(self.tree, self._images(), round(sizes[-1] * GIB), self.tree_settings)

    def _place(self, gib: float) -> Path:
        return self.folder / f"{gib:g}-gib"

    def result_of(self, gib: float) -> SizeResult:
        """Return the result of a size, measured unless the folder has it. Collective."""
        place = self._place(gib)
        finished = run_on_root(self.comm, partial(self._read, place / "result.json", gib))
        if finished is not None:
            return SizeResult(**finished)
        self._warm_up()
        tree = run_on_root(self.comm, partial(self._write_tree, place, gib))
        for stage in STAGES:
            self._run_stage(place, stage, gib)
        result = run_on_root(self.comm, partial(self._result, place, gib, tree))
        log.info(
            "%g GiB: %d images, %.2f %% of %d test images correct, %.1f s",
            *(gib, result.images, 100 * result.accuracy, result.samples, result.seconds["total"]),
        )
        return result

    def _warm_up(self) -> None:
        """Run all stages on a few images, so that imports and calibrations do not count for any size. Collective."""
        if self._is_warm:
            return
        place = self.folder / "warm-up"
        run_on_root(self.comm, lambda: self._write_few(place))
        data = self.config.data.model_copy(update={"path": str(place / "images")})
        run_stages(STAGES, self.config.model_copy(update={"data": data}), place / "run", self.comm, restart=True)
        run_on_root(self.comm, lambda: shutil.rmtree(place))
        self._is_warm = True

    def _write_few(self, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        small = self._images()
        count = WARM_UP_IMAGES * len(small.folders)
        write_tree(place / "images", small, round(count * file_bytes(small, self.tree_settings)), self.tree_settings)

    def _images(self) -> SmallImages:
        if self._small is None:
            self._small = SmallImages.of(self.data)
        return self._small

    def label(self) -> str:
        """Return what the images are."""
        return str(read_sealed(self.tree.with_name("images.json"))["label"])

    def delete_tree(self) -> None:
        """Delete the images; what they were stays in ``images.json``."""
        shutil.rmtree(self.tree, ignore_errors=True)

    def _read(self, path: Path, gib: float) -> dict[str, Any] | None:
        """Return the record in a file if it exists, and has these settings."""
        if not path.exists():
            return None
        record = read_sealed(path, "Delete its folder to measure the size again.")
        if record.pop("of") != _plain(self.settings(gib)):
            raise InputError(
                f"{path}: was measured with other settings than those of this command: choose another folder, or "
                f"delete {path.parent}"
            )
        return record

    def _write_tree(self, place: Path, gib: float) -> ImageTree:
        """Write the tree of a size; the seconds are added to those of interrupted starts."""
        small = self._images()
        started = time.monotonic()
        tree = write_tree(self.tree, small, round(gib * GIB), self.tree_settings, self.progress)
        path = place / "write.json"
        if not path.exists():
            write_sealed(path, {"of": self.settings(gib), "seconds": time.monotonic() - started})
        return tree

    def _run_stage(self, place: Path, stage: str, gib: float) -> None:
        """Run one stage and record its result, seconds and memory, unless they are recorded. Collective."""
        path = place / f"{stage}.json"
        if run_on_root(self.comm, partial(self._read, path, gib)) is not None:
            return
        if stage == "prepare":
            run_on_root(self.comm, partial(_drop_from_page_cache, self.tree))
        # A stage without a record did not end, or its memory was not measured: it starts from the beginning.
        restart = bool(run_on_root(self.comm, lambda: RunDirectory(place / "run").state(stage).get("status")))
        with PeakMemory() as memory:
            results = run_stages([stage], self.config, place / "run", self.comm, restart, progress=self.progress)
        before, peak = self.comm.allreduce(np.array([memory.before, memory.peak], np.float64), "max").tolist()
        record = {
            "of": self.settings(gib),
            "result": results[stage],
            "before_mib": before / MIB,
            "peak_mib": peak / MIB,
            "ranks": self.comm.size,
        }
        agree_on_root(self.comm, partial(self._record, place, stage, record))

    def _record(self, place: Path, stage: str, record: dict[str, Any]) -> None:
        seconds = float(RunDirectory(place / "run").state(stage)["seconds"])
        write_sealed(place / f"{stage}.json", {**record, "seconds": seconds})

    def _result(self, place: Path, gib: float, tree: ImageTree) -> SizeResult:
        """Return the result of a size from the records of its stages, and write it."""
        records = {stage: self._read(place / f"{stage}.json", gib) or {} for stage in STAGES}
        seconds = {stage: record["seconds"] for stage, record in records.items()}
        written = self._read(place / "write.json", gib) or {}
        test = records["evaluate"]["result"]
        shape = (tree.images, *self.config.data.image_size, 3)
        result = SizeResult(
            gib=gib,
            bytes=tree.bytes,
            images=tree.images,
            held=fits(shape, np.dtype(np.uint8), Budget.of(self.config.data).source // 2),
            rows=records["prepare"]["result"],
            accuracy=test["accuracy"],
            macro_f1=test["macro_f1"],
            correct=test["correct"],
            samples=test["samples"],
            seconds={"write": written["seconds"], **seconds, "total": sum(seconds.values())},
            images_per_second=tree.images / seconds["prepare"],
            before_mib={stage: record["before_mib"] for stage, record in records.items()},
            peak_mib={stage: record["peak_mib"] for stage, record in records.items()},
            ranks=records["train"]["ranks"],
        )
        write_sealed(place / "result.json", {"of": self.settings(gib), **asdict(result)})
        return result


def _plain(value: dict[str, Any]) -> Any:
    """Return a value as it is read from JSON."""
    return json.loads(json.dumps(value))


def _drop_from_page_cache(tree: Path) -> None:
    """Ask the system to forget the content of files that were just written, so that reading them reads the disk."""
    os.sync()
    for file in tree.glob("*/*.jpg"):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
