"""Disks that are too small, and file systems with fewer operations."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from campaign import hooks, kills, runs
from campaign.judge import FAULTS, Judgement, Verdict, judge
from campaign.runs import Command, Place
from campaign.trial import LIMIT, Outcome, Trial

IMAGE_MIB = 48
# (run, command, command that continues)
WRITING: Sequence[tuple[str, Command, Command]] = (
    ("fresh", kills.PREPARE, kills.PREPARE),
    ("fresh", kills.FRESH_TABLE, kills.FRESH_TABLE),
    ("search-stopped", runs.SEARCH, runs.SEARCH),
    ("training-stopped", runs.TRAIN, runs.TRAIN),
    ("table", runs.TRAIN_AGAIN, runs.TRAIN),
    ("table", runs.EVALUATE, runs.EVALUATE),
    ("series", runs.TRAIN_AGAIN, runs.TRAIN),
)
RUNS = tuple(dict.fromkeys(run for run, _, _ in WRITING))
# Words of which a message about a full disk must contain one.
FULL = ("no space left", "MiB free", "are free", "File too large", "file size", "too large", "quota")


def small_disk(trial: Trial) -> Outcome:
    """Run a command without enough disk space, then again with enough: the results must be equal."""
    draw = trial.draw
    run, command, again = WRITING[trial.number % len(WRITING)]
    place = runs.copy(run, trial.place)
    if cannot_mount() or draw.random() < 0.3:
        most = int(2 ** draw.uniform(8, 20))
        fault, judgement = f"{run}: files of at most {most} bytes", _with_limit(trial, command, place, most)
        if judgement.verdict not in FAULTS:
            judgement = _worse(judgement, kills.resumed(trial.work, run, command, again, place))
        return trial.outcome(fault, command.name, judgement)
    used = _size(place.run)
    room = int(2 ** draw.uniform(12, 20))
    with _on_tmpfs(place.run, used + room):
        judgement = _judged(place, command)
        if judgement.verdict not in FAULTS:
            subprocess.run(["mount", "-o", "remount,size=64m", str(place.run)], check=True)
            judgement = _worse(judgement, kills.resumed(trial.work, run, command, again, place))
    return trial.outcome(f"{run}: a disk with {room} bytes of free space", command.name, judgement)


def _judged(place: Place, command: Command, before: Callable[[], None] | None = None) -> Judgement:
    done = place.rcdp(command.words, LIMIT, before=before)
    return judge(done, names=FULL, codes=(1,))


def _with_limit(trial: Trial, command: Command, place: Place, most: int) -> Judgement:
    # The limit also applies to the output of the command, which is a file.
    return _judged(place, command, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))


def _worse(first: Judgement, second: Judgement) -> Judgement:
    return second if second.verdict in FAULTS or first.verdict is Verdict.SURVIVED else first


def _size(folder: Path) -> int:
    """Return the size of a folder on a tmpfs, whose pages have 4 KiB."""
    return sum((path.stat().st_size + 8191) // 4096 * 4096 for path in folder.rglob("*")) if folder.exists() else 4096


@contextlib.contextmanager
def _on_tmpfs(folder: Path, size: int) -> Iterator[None]:
    with _moved_onto(folder, ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]):
        yield


@contextlib.contextmanager
def _moved_onto(folder: Path, mount: Sequence[str]) -> Iterator[None]:
    """Mount a file system at a folder within a block, and copy the files of the folder to it."""
    aside = folder.with_name("aside")
    if folder.exists():
        folder.rename(aside)
    folder.mkdir()
    subprocess.run(mount, check=True, capture_output=True)
    try:
        if aside.exists():
            shutil.copytree(aside, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
            shutil.rmtree(aside)
        yield
    finally:
        _unmount(folder)


def _unmount(folder: Path | str) -> None:
    device = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE", str(folder)], capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
    if device.startswith("/dev/loop"):
        subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


def file_system(trial: Trial) -> Outcome:
    """Run a command on another file system, half of the time with a kill, and compare with this file system."""
    draw = trial.draw
    kinds = [name for name in FILE_SYSTEMS if not missing_for(name)]
    kind = kinds[trial.number % len(kinds)]
    run, command, again = kills.INTERRUPTED[trial.number // len(kinds) % len(kills.INTERRUPTED)]
    place = runs.copy(run, trial.place)
    image = place.folder / "image"
    with _moved_onto(place.run, FILE_SYSTEMS[kind](place.run, image)):
        fault, before = f"{run} on {kind}", None
        if draw.random() < 0.5:
            moment = draw.randrange(1, max(2, kills.length(trial.work, run, command)[0]))
            fault += f", SIGKILL at write {moment}"
            before = hooks.send_at(9, moment, hooks.writes_in(str(place.folder)))
        done = place.rcdp(command.words, LIMIT, before=before)
        if before is None or done.code != -9:
            judgement = judge(done, names=(), codes=())
        else:
            judgement = Judgement(Verdict.SURVIVED)
        if judgement.verdict not in FAULTS:
            judgement = kills.resumed(trial.work, run, command, again, place)
    return trial.outcome(fault, command.name, judgement)


def _from_image(kind: str, folder: Path, image: Path) -> Sequence[str]:
    """Create a file system in an image; return the command that mounts it."""
    with image.open("wb") as file:
        file.truncate(IMAGE_MIB * 2**20)
    subprocess.run([f"mkfs.{kind}", str(image)], check=True, capture_output=True)
    if _kernel_knows(kind):
        return ["mount", "-t", kind, "-o", "loop", str(image), str(folder)]
    return [f"mount.{kind}-fuse", _loop_device(image), str(folder)]


def _loop_device(image: Path) -> str:
    for _ in range(60):
        done = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
        # All devices may be in use by other trials.
        time.sleep(1)
    raise RuntimeError(f"no loop device: {done.stderr}")


def _tmpfs(folder: Path, image: Path) -> Sequence[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={IMAGE_MIB}m", "tmpfs", str(folder)]


FILE_SYSTEMS: dict[str, Callable[[Path, Path], Sequence[str]]] = {
    "ext2": partial(_from_image, "ext2"),
    "vfat": partial(_from_image, "vfat"),
    "exfat": partial(_from_image, "exfat"),
    "tmpfs": _tmpfs,
}


def _kernel_knows(name: str) -> bool:
    return name in Path("/proc/filesystems").read_text().split()


def missing_for(name: str) -> str:
    """Return what this machine lacks for a file system; empty if nothing."""
    if name == "tmpfs":
        return ""
    if not shutil.which(f"mkfs.{name}"):
        return f"mkfs.{name}"
    return "" if _kernel_knows(name) or shutil.which(f"mount.{name}-fuse") else f"the file system {name}"


def cannot_mount() -> str:
    """Return why this process cannot mount file systems; empty if it can."""
    if os.geteuid():
        return "only root can mount file systems"
    folder = Path("/tmp") / f"rcdp-campaign-mount-{os.getpid()}"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode == 0:
        subprocess.run(["umount", str(folder)], check=False)
    folder.rmdir()
    return "" if done.returncode == 0 else f"a tmpfs cannot be mounted ({done.stderr.strip()})"


def unmount_below(folder: Path) -> None:
    """Unmount file systems of killed trials."""
    for line in Path("/proc/mounts").read_text().splitlines():
        point = line.split()[1]
        if point.startswith(f"{folder}/"):
            _unmount(point)
