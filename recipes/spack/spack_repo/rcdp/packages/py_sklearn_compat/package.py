# SPDX-License-Identifier: Apache-2.0
"""sklearn-compat, which imbalanced-learn needs; Spack has no recipe of it."""

from spack.package import *
from spack_repo.builtin.build_systems.python import PythonPackage


class PySklearnCompat(PythonPackage):
    """One interface for several versions of scikit-learn."""

    pypi = "sklearn-compat/sklearn_compat-0.1.6.tar.gz"

    license("BSD-3-Clause")

    version("0.1.6", sha256="8fd4731b4f709b66641b8f49c954dafec7e3b60afc48f2cfd298356c713277c6")

    depends_on("py-hatchling", type="build")

    with default_args(type=("build", "run")):
        depends_on("python@3.8:")
        depends_on("py-scikit-learn@1.2:1.9")
