"""Where states are kept: memory and file give the same bits, computing them anew the same to rounding."""

from __future__ import annotations

import errno
import gc
import json
import re
import shutil
import threading
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import python, run_ranks
from whole_runs import curve, flags, series_file

from rcdp_hpc.config import Config, load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.ram import MIB, is_tmpfs
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.states import need, placement
from rcdp_hpc.training.states.cache import cache_states
from rcdp_hpc.training.states.host_states import HostStates, SideStream
from rcdp_hpc.training.states.memory import Memories
from rcdp_hpc.training.states.recompute import read_samples
from rcdp_hpc.training.step import Stepper

# 1446 rows of 1600 values take 9 MiB, their samples less than 1.
SETTINGS = [
    "reservoir.nodes=200", "reservoir.kernel=dense-fp32", "reservoir.sequence=rows", "reservoir.reduction=all",
    "search.generations=0", "training.epochs=2", "training.threads=1", "readout.outputs=16", "readout.hidden=24",
    "optimizer.learning_rate=3e-3", "partition.count=4", "training.batch=48", "run.progress=false",
]  # fmt: skip
IN_A_FILE = ["states.memory_mib=2"]
NOWHERE = ["states.memory_mib=2", "states.disk_mib=3"]
# What touches states: mixed formats, noise that follows the sample, and the ridge readout that training starts from.
VARIED = ["reservoir.noise=0.01", "states.precision=bfloat16", "readout.warm_start=true"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "run"
    run_stages(["prepare"], load_config("digits", SETTINGS), out)
    return out


@pytest.fixture(scope="module")
def in_memory(prepared, tmp_path_factory) -> Path:
    return train(prepared, tmp_path_factory.mktemp("memory") / "run", *VARIED)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A temporary $TMPDIR that counts as a disk."""
    folder = tmp_path / "local"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(need, "is_tmpfs", lambda _: False)
    return folder


def settings(*changes: str) -> Config:
    return load_config("digits", [*SETTINGS, *changes])


def train(prepared: Path, out: Path, *changes: str) -> Path:
    shutil.copytree(prepared, out)
    run_stages(["train"], settings(*changes), out)
    return out


def weights(run: Path, name: str = "model.pt") -> dict:
    return torch.load(run / "train" / name, weights_only=True)["weights"]


def mapped(folder: Path) -> bool:
    return str(folder) in Path("/proc/self/maps").read_text()


def test_states_in_a_file_and_in_memory_have_the_same_bits(prepared, in_memory, folder, tmp_path, caplog, monkeypatch):
    held = []
    begin = Trainer.run
    monkeypatch.setattr(
        Trainer, "run", lambda *given: held.append((mapped(folder), list(folder.iterdir()))) or begin(*given)
    )
    with caplog.at_level("INFO"):
        out = train(prepared, tmp_path / "run", *VARIED, *IN_A_FILE)
    assert held == [(True, [])]
    assert (
        f"states stored in a file in {folder}: the states of 1446 rows, 1600 values each, take 5 MiB, more than the "
        "2 MiB" in caplog.text
    )
    np.testing.assert_array_equal(curve(out), curve(in_memory))
    for name in ("model.pt", "ridge.pt"):
        for key, value in weights(in_memory, name).items():
            assert torch.equal(weights(out, name)[key], value), (name, key)


@pytest.mark.parametrize(("changes", "aside"), [([], False), (IN_A_FILE, True), (NOWHERE, True)])
def test_slow_batches_are_fetched_by_a_thread(changes, aside, prepared, folder, tmp_path, monkeypatch):
    threads, fetch = [], Stepper.fetch

    def watched(*given):
        threads.append(threading.current_thread())
        return fetch(*given)

    monkeypatch.setattr(Stepper, "fetch", watched)
    train(prepared, tmp_path / "run", *changes, "training.baseline=false")
    assert len(threads) == 2 * 26
    assert all((thread is not threading.main_thread()) == aside for thread in threads)
    assert not any(thread.is_alive() for thread in threads if aside)


def test_recomputed_states_give_the_same_training(prepared, in_memory, folder, tmp_path, caplog):
    with caplog.at_level("INFO"):
        out = train(prepared, tmp_path / "run", *VARIED, *NOWHERE)
    assert "states are computed again in every step: the states of 1446 rows" in caplog.text
    assert "states.disk_mib = 3 allows no file of 5 MiB" in caplog.text
    np.testing.assert_allclose(curve(out), curve(in_memory), rtol=2e-2, atol=2e-3)
    # The sums of the ridge baseline are over the same blocks.
    for key, value in weights(in_memory, "ridge.pt").items():
        assert torch.equal(weights(out, "ridge.pt")[key], value), key


def fake_gpu(monkeypatch, gpu: int) -> None:
    """Let the CPU count as a GPU with this number of MiB for states, so that states elsewhere are copied to it."""
    of_rank = Memories.of_rank

    def memories(*given):
        return replace(of_rank(*given), gpu=gpu * MIB, gpu_name="card")

    monkeypatch.setattr(Memories, "of_rank", memories)
    monkeypatch.setattr(placement, "_on_device", HostStates)


def test_states_beyond_the_gpu_are_copied_from_its_host_with_the_same_bits(
    prepared, in_memory, folder, tmp_path, caplog, monkeypatch
):
    """Ahead of the steps, by the thread that fetches batches; with the bits of states that are on the GPU."""
    sides = []
    monkeypatch.setattr(SideStream, "run", lambda side, work, tensors: sides.append(1) or work())
    fake_gpu(monkeypatch, 2)
    with caplog.at_level("INFO"):
        out = train(prepared, tmp_path / "run", *VARIED, "partition.reshuffle_every=1")
    assert len(sides) == 2 * 26 + 9  # batches of two epochs, after blocks of samples
    (line,) = [line for line in caplog.messages if line.startswith("states stored")]
    assert re.match(
        r"states stored in memory of the host, 5 MiB of the \d+ MiB that may be used, and copied ahead", line
    )
    assert "take 5 MiB, more than the 2 MiB that a rank may use of card (states.memory_mib, or its share of the" in line
    kept = train(prepared, tmp_path / "kept", *VARIED, "partition.reshuffle_every=1")
    np.testing.assert_array_equal(curve(out), curve(kept))
    for key, value in weights(in_memory, "ridge.pt").items():
        assert torch.equal(weights(out, "ridge.pt")[key], value), key


def test_a_gpu_without_its_memory_hands_the_states_to_the_next_place(prepared, folder, tmp_path, caplog, monkeypatch):
    fake_gpu(monkeypatch, 64)
    empty, full = torch.empty, []

    def allocate(*shape, **given):
        if given.get("device") == torch.device("cpu") and given.get("dtype") == torch.float32 and not full:
            full.append(shape)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 MiB")
        return empty(*shape, **given)

    monkeypatch.setattr(need.torch, "empty", allocate)
    with caplog.at_level("INFO"):
        out = train(prepared, tmp_path / "run", "training.epochs=1", "training.baseline=false")
    assert full == [((1446, 1600),)]
    assert (
        "cpu has no 9 MiB for the states, which should fit (CUDA out of memory. Tried to allocate 9.00" in caplog.text
    )
    assert "states stored in memory of the host" in caplog.text
    assert len(curve(out)) == 1


def test_a_gpu_that_is_full_while_it_computes_hands_the_states_on(
    prepared, in_memory, folder, tmp_path, caplog, monkeypatch
):
    fake_gpu(monkeypatch, 64)
    compute, full = placement.cache_states, []

    def cached(*given):
        if given[2] == "validation" and not full:
            full.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nand more")
        return compute(*given)

    monkeypatch.setattr(placement, "cache_states", cached)
    with caplog.at_level("INFO"):
        out = train(prepared, tmp_path / "run", *VARIED)
    assert "states next to them (CUDA out of memory. Tried to allocate 2.00 GiB): the next place is used" in caplog.text
    assert "states stored in memory of the host" in caplog.text
    np.testing.assert_array_equal(curve(out), curve(in_memory))


def test_states_that_fit_are_stored_on_the_gpu(prepared, tmp_path, caplog, monkeypatch):
    fake_gpu(monkeypatch, 64)
    with caplog.at_level("INFO"):
        train(prepared, tmp_path / "run", "training.epochs=1", "training.baseline=false")
    assert "states stored on card: 9 MiB of the 64 MiB that may be used" in caplog.text


@pytest.mark.parametrize("ending", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_training_frees_its_file(prepared, folder, tmp_path, monkeypatch, ending):
    def broken(*_):
        assert mapped(folder)
        raise ending

    monkeypatch.setattr(Trainer, "run", broken)
    with pytest.raises(ending):
        train(prepared, tmp_path / "run", *IN_A_FILE, "training.baseline=false")
    gc.collect()
    assert not mapped(folder)
    assert not list(folder.iterdir())


def no_room(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("where", "name", "value", "message"),
    [
        (need, "SPARE_BYTES", 2**62, r"has \d+ MiB free for a file of 9 MiB \(set TMPDIR\)"),
        (
            need,
            "reserve",
            no_room,
            r"cannot be written to .* \(No space left on device; set TMPDIR\)",
        ),
        (need, "is_tmpfs", lambda _: True, r"is in memory, not on a disk \(set TMPDIR to a disk\)"),
    ],
)
def test_a_disk_without_room_is_reported_and_states_are_recomputed(
    prepared, folder, tmp_path, monkeypatch, caplog, where, name, value, message
):
    monkeypatch.setattr(where, name, value)
    with caplog.at_level("WARNING"):
        out = train(prepared, tmp_path / "run", *IN_A_FILE, "training.epochs=1", "training.baseline=false")
    (record,) = (line for line in caplog.messages if line.startswith("states are computed again"))
    assert re.search(message, record), record
    assert not list(folder.iterdir())
    assert len(curve(out)) == 1


def test_redistribution_needs_stored_states(prepared, folder, tmp_path):
    in_file = train(prepared, tmp_path / "file", *IN_A_FILE, "partition.reshuffle_every=1", "training.baseline=false")
    kept = train(prepared, tmp_path / "kept", "partition.reshuffle_every=1", "training.baseline=false")
    np.testing.assert_array_equal(curve(in_file), curve(kept))
    with pytest.raises(InputError, match=r"partition\.reshuffle_every exchanges states between.*set it to 0, or raise"):
        train(prepared, tmp_path / "none", *NOWHERE, "partition.reshuffle_every=1")


def test_samples_that_exceed_the_memory_are_refused_with_advice(tmp_path):
    np.savez(tmp_path / "noise.npz", x=np.random.default_rng(0).random((90, 80, 80)), y=np.arange(90) % 3)
    changes = [
        "data.source=npz", f"data.path={tmp_path / 'noise.npz'}", "data.class_keep_fractions=[]", "data.balance=none",
        "states.memory_mib=1", "states.disk_mib=0",
    ]  # fmt: skip
    words = r"values each, take \d+ MiB, more than the 1 MiB.*disk_mib = 0.*the samples themselves take \d MiB: raise"
    with pytest.raises(InputError, match=words + r".*set states\.precision = 'bfloat16'"):
        run_stages(["prepare", "train"], settings(*changes), tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        ["extractor.kind=convolution", "extractor.channels=[4]"],
        ["reservoir.kind=none"],
    ],
)
def test_samples_without_a_reservoir_have_the_same_bits(prepared, folder, tmp_path, monkeypatch, changes):
    """Without a computation there is no rounding."""
    kept = train(prepared, tmp_path / "kept", *changes)
    monkeypatch.setattr(need.Need, "beyond_memory", lambda _: "too many")
    anew = train(prepared, tmp_path / "anew", *changes, "states.disk_mib=0")
    np.testing.assert_array_equal(curve(anew), curve(kept))


def test_recomputed_rows_have_the_same_lengths_and_noise(tmp_path):
    series_file(tmp_path / "Waves_TRAIN.ts", 100, 1)
    series_file(tmp_path / "Waves_TEST.ts", 30, 2)
    changes = [
        "data.source=ts",
        "data.class_keep_fractions=[]",
        f"data.path={tmp_path}",
        "reservoir.batch_rows=16",
        "reservoir.noise=0.1",
    ]
    config = settings(*changes)
    run_stages(["prepare"], config, tmp_path / "run")
    shards = ShardReader(tmp_path / "run/shards")
    source = make_source(config, shards.sample_shape, torch.device("cpu"))
    pieces, nothing = [(3, 20), (20, 40)], Progress("rows", 37, enabled=False)
    kept = cache_states(source, shards, "train", pieces, nothing, torch.empty(37, source.width))
    states, labels = read_samples(source, shards, "train", pieces, nothing, torch.float32)
    assert torch.equal(labels, kept.labels)
    assert torch.equal(states[0:16], kept.states[:16])
    chosen = torch.tensor([36, 2, 17, 9])
    torch.testing.assert_close(states[chosen], kept.states[chosen], rtol=1e-5, atol=1e-6)
    assert states[chosen[:0]].shape == (0, source.width)


def test_a_folder_in_memory_is_not_used_as_a_disk(tmp_path, monkeypatch):
    def mounts(all):
        return [Mount("/", "ext4"), Mount(str(tmp_path / "shm"), "tmpfs"), Mount(str(tmp_path / "shm/disk"), "xfs")]

    Mount = namedtuple("Mount", ["mountpoint", "fstype"])
    monkeypatch.setattr("psutil.disk_partitions", mounts)
    found = [is_tmpfs(tmp_path / name) for name in ("other", "shm", "shm/below", "shm/disk/below")]
    assert found == [False, True, True, False]


@pytest.mark.mpi
def test_all_ranks_recompute_if_one_has_no_room(prepared, in_memory, tmp_path):
    code = (
        "import os, sys, rcdp_hpc.cli as cli, rcdp_hpc.training.states.need as keep\n"
        "keep.is_tmpfs = lambda _: False\n"
        "if os.environ.get('OMPI_COMM_WORLD_RANK') == '1':\n"
        "    keep.SPARE_BYTES = 2**62\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    (tmp_path / "local").mkdir()
    shutil.copytree(prepared, tmp_path / "run")
    given = flags(*SETTINGS, *VARIED, "states.memory_mib=1", "training.batch=24")
    command = [*python(code), "train", "digits", "--out", str(tmp_path / "run"), *given]
    done = run_ranks(2, command, env={"TMPDIR": str(tmp_path / "local")}, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "states are computed again in every step: the states of 722 rows" in done.stdout
    assert "rank 1: " in done.stdout
    assert json.loads((tmp_path / "run/state/train.json").read_text())["status"] == "done"
    np.testing.assert_allclose(curve(tmp_path / "run"), curve(in_memory), rtol=2e-2, atol=2e-3)
