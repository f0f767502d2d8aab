# SPDX-License-Identifier: Apache-2.0
"""Spack recipe of rcdp_hpc, built from the checkout that it is in."""

from pathlib import Path

from spack.package import *
from spack_repo.builtin.build_systems.python import PythonPackage

CHECKOUT = Path(__file__).resolve().parents[6]


class PyRcdpHpc(PythonPackage):
    """Reservoir computing, data parallel: balance, search and train on Slurm/MPI clusters."""

    git = f"file://{CHECKOUT}"

    license("Apache-2.0")

    version("main", branch="main")

    variant("torch", default=False, description="All stages; needs a py-torch that is recent enough")
    variant("horovod", default=False, when="+torch", description="Horovod instead of torch.distributed")
    variant("sources", default=True, description="Tables (csv, parquet) and folders of images")
    variant("report", default=True, description="Pictures of the report")

    depends_on("python@3.11:3.13", type=("build", "run"))
    depends_on("py-setuptools@77:80", type="build")
    depends_on("py-wheel", type="build")

    with default_args(type=("build", "run")):
        depends_on("py-numpy@2:")
        depends_on("py-scipy@1.13:")
        depends_on("py-scikit-learn@1.6:")
        depends_on("py-imbalanced-learn@0.14")
        depends_on("py-h5py@3.11:")
        depends_on("py-tqdm")
        depends_on("py-pydantic@2:")
        depends_on("py-tomlkit")
        depends_on("py-psutil")
        depends_on("py-threadpoolctl")

        with when("+torch"):
            depends_on("py-torch@2.11: +distributed+gloo")
            depends_on("py-mpi4py@4:")
        with when("+horovod"):
            depends_on("py-horovod@0.28.1 frameworks=pytorch controllers=mpi")
        with when("+sources"):
            depends_on("py-pyarrow@15:")
            depends_on("py-pillow@10:")
        with when("+report"):
            depends_on("py-matplotlib@3.9:")
