"""Every shipped profile runs as it is, but for its data and its size."""

from __future__ import annotations

import pytest

from rcdp_hpc.config import load_config, profile_names
from rcdp_hpc.config.kind_defaults import KIND_PROFILES
from rcdp_hpc.pipeline.stages import STAGES, run_stages

SMALL = [
    "data.source=digits", "data.path=", "reservoir.nodes=40", "reservoir.kernel=dense-fp32", "run.progress=false",
    "training.epochs=2", "training.batch=64", "readout.hidden=16", "readout.outputs=16", "training.threads=1",
]  # fmt: skip
SEARCHED = ["search.population=2", "search.generations=1"]
SEARCHED_NODES = ["search.space.nodes.low=20", "search.space.nodes.high=60"]
EXTRACTED = ["extractor.channels=[8]", "augment.crop=1"]
OF_A_PROFILE = {
    "cifar10": EXTRACTED,
    "cifar10-frozen": ["extractor.atoms=8", "extractor.patch=3"],
    "cifar10-long": EXTRACTED,
    "mnist-convolution": EXTRACTED,
    "mnist-frozen": ["extractor.atoms=8", "extractor.patch=3"],
    "mnist-pixels": ["reservoir.steps=[]", "reservoir.states=4"],
    "paper-cifar10": [*EXTRACTED[:1], *SEARCHED_NODES, f"data.class_keep_counts={[40, 80] * 5}"],
    "paper-lstm": SEARCHED_NODES,
    "paper-mnist": SEARCHED_NODES,
}


# The profiles of other data than images, and those of every kind, run in test_docs.py and test_sequences.py.
OTHERS = {"vowels", *KIND_PROFILES.values()}


@pytest.mark.parametrize("name", sorted(set(profile_names()) - OTHERS))
def test_a_profile_runs_to_its_end(name, tmp_path):
    searched = SEARCHED if load_config(name).has_search else []
    config = load_config(name, [*SMALL, *searched, *OF_A_PROFILE.get(name, [])])
    result = run_stages(STAGES, config, tmp_path)
    assert result["evaluate"]["samples"] == 359
