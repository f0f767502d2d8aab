# SPDX-License-Identifier: Apache-2.0
"""imbalanced-learn in the version that rcdp_hpc needs; Spack's own recipe has older ones."""

from spack.package import *
from spack_repo.builtin.build_systems.python import PythonPackage


class PyImbalancedLearn(PythonPackage):
    """Resampling methods for data sets with uneven classes."""

    pypi = "imbalanced-learn/imbalanced_learn-0.14.2.tar.gz"

    license("MIT")

    version("0.14.2", sha256="f80ce7eafbcece8686e32571bd12978546c729c3f277215bead61a906ce9afe4")

    depends_on("py-setuptools@71:", type="build")
    depends_on("py-setuptools-scm@8: +toml", type="build")

    with default_args(type=("build", "run")):
        depends_on("python@3.10:")
        depends_on("py-numpy@1.25.2:2")
        depends_on("py-scipy@1.11.4:1")
        depends_on("py-scikit-learn@1.4.2:1")
        depends_on("py-sklearn-compat@0.1.6:0.1")
        depends_on("py-joblib@1.2:1")
        depends_on("py-threadpoolctl@2:3")
