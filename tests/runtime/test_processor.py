"""Properties of machines that affect the last digits, and their differences between two starts."""

import logging
import subprocess
import sys

from launch import REPOSITORY

from rcdp_hpc.runtime.processor import count_machines, differences, machine_of_process, report_different_machines

ONE = {"processor": "A", "numpy": "2.0", "capability": "AVX512", "variables": {}}
OTHER = {**ONE, "capability": "AVX2", "variables": {"MKL_CBWR": "AVX2"}}


def test_this_process_is_described_by_processor_instructions_and_versions():
    import torch

    found = machine_of_process()
    assert found["torch"] == torch.__version__
    assert found["capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["processor"]
    assert "openblas" in found["blas"] or "mkl" in found["blas"] or found["blas"]
    assert machine_of_process() == found


def test_a_variable_that_selects_instructions_is_recorded():
    code = "import torch\nfrom rcdp_hpc.runtime.processor import machine_of_process\nprint(machine_of_process())"
    environment = {"PATH": "/usr/bin:/bin", "ATEN_CPU_CAPABILITY": "default", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "'ATEN_CPU_CAPABILITY': 'default'" in done.stdout, done.stderr
    assert "'capability': 'DEFAULT'" in done.stdout or "'capability': 'NO AVX'" in done.stdout


def test_ranks_are_counted_by_machine():
    assert count_machines([ONE, OTHER, ONE]) == [{**ONE, "ranks": 2}, {**OTHER, "ranks": 1}]


def test_both_values_of_a_difference_are_named_and_ranks_ignored():
    assert differences([{**ONE, "ranks": 1}], [{**ONE, "ranks": 4}]) == ""
    found = differences([{**ONE, "ranks": 1}], [{**OTHER, "ranks": 1}])
    assert found == "capability AVX512 -> AVX2; variables none -> MKL_CBWR=AVX2"
    assert differences([ONE], [ONE, OTHER]).startswith("capability AVX512 -> AVX512 and AVX2")
    assert differences([ONE], [{**ONE, "gpu": "H100"}]) == "gpu none -> H100"


def test_different_machines_are_reported(caplog):
    with caplog.at_level(logging.WARNING):
        report_different_machines(count_machines([ONE, {**ONE, "processor": "B"}, ONE]))
    assert "processor A on 2 ranks; processor B on 1 ranks" in caplog.text
