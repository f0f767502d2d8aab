from __future__ import annotations

import sys

import pytest
from whole_runs import lines

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline import stages
from rcdp_hpc.training.monitor.tensorboard import TensorBoardWriter


def test_metrics_are_written_as_events_and_repeated_epochs_replace_earlier_ones(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoardWriter(tmp_path, 0)
    for epoch in range(3):
        board.write({"epoch": epoch, "train_loss": 3.0 - epoch, "wait_seconds": [1.0, 2.0]})
    board.writer.close()
    again = TensorBoardWriter(tmp_path, 2)
    again.write({"epoch": 2, "train_loss": 0.5, "wait_seconds": [1.0, 2.0]})
    again.writer.close()
    events = reader.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train_loss")] == [(0, 3.0), (1, 2.0), (2, 0.5)]
    assert events.Scalars("wait_seconds")[0].value == 1.5


def test_a_training_with_tensorboard_writes_events(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    changes = [
        "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "search.generations=0", "training.epochs=2",
        "readout.hidden=8", "readout.outputs=8", "training.threads=1", "training.baseline=false",
        "training.tensorboard=true", "data.balance=none", "run.progress=false",
    ]  # fmt: skip
    stages.run_stages(["prepare", "train"], load_config("digits", changes), tmp_path)
    told = [line["validation_loss"] for line in lines(tmp_path / "train/metrics.jsonl")]
    events = reader.EventAccumulator(str(tmp_path / "train/tensorboard")).Reload().Scalars("validation_loss")
    assert [event.step for event in events] == [0, 1]
    assert [event.value for event in events] == pytest.approx(told)


def test_without_tensorboard_the_message_has_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="pip install"):
        TensorBoardWriter(tmp_path, 0)
