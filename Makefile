# tools/bootstrap.py creates the environment; docs/install.md describes its steps and variables.
override RCDP_VENV := $(abspath $(or $(RCDP_VENV),.venv))
export RCDP_VENV

# The first Python on the PATH that is new enough; otherwise python3, with which tools/bootstrap.py reports the error.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)

# Open MPI requires two variables before it starts ranks as root. In containers the user is often root.
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT = 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = 1
endif

# The environment is active for every command, so that mpirun, rcdp and their child processes find each other.
export PATH := $(RCDP_VENV)/bin:$(PATH)

# Allows two ranks on a machine with one core. Open MPI 5 reads the first variable, Open MPI 4 the second.
export PRTE_MCA_rmaps_default_mapping_policy ?= :oversubscribe
export OMPI_MCA_rmaps_base_oversubscribe ?= 1

.PHONY: help setup wheelhouse demo test test-without-horovod test-slurm campaign lint type docs format clean

help:
	@echo 'make setup   install everything into $(RCDP_VENV), without root (quick when nothing changed)'
	@echo 'make wheelhouse  download what setup installs, for nodes without a network (docs/install.md)'
	@echo 'make demo    the whole pipeline on a small data set, two ranks, in runs/demo'
	@echo 'make test    lint, types, tests, the tests that start real MPI ranks, and injected faults for 75 s'
	@echo 'make test-without-horovod  the part of it that runs after RCDP_HOROVOD=0 make setup'
	@echo 'make test-slurm  submit every job script to a Slurm of two virtual nodes on this machine (Debian, root)'
	@echo 'make campaign  inject faults for half an hour and print the results (docs/reliability.md)'
	@echo 'make lint    ruff'
	@echo 'make type    mypy'
	@echo 'make docs    the documentation site, in build/site; a warning is an error'
	@echo 'make format  correct style and format with ruff'
	@echo 'make clean   remove files of tools and runs (not the environment)'

setup:
	@$(PYTHON) tools/bootstrap.py

wheelhouse:
	@$(PYTHON) tools/wheelhouse.py

# Removes an earlier demo, which would otherwise be resumed.
demo: setup
	rm -rf runs/demo
	mpirun -n 2 rcdp run digits --out runs/demo

test: setup lint type
	pytest -n auto --maxprocesses 8 -m 'not mpi and not horovodrun and not slurm'
	pytest -n 2 --dist loadfile -m '(mpi or horovodrun) and not slurm'
	PYTHONPATH=tests python -m campaign $(SHORT)

# For environments without Horovod: single processes, and two ranks with torch.distributed.
test-without-horovod: setup
	pytest -n auto --maxprocesses 8 tests/config tests/model tests/test_bootstrap.py tests/test_without_horovod.py

# Installs Debian's packages of Slurm if it has permission, and otherwise reports what is missing. MPICH is installed in
# the folder mpich of the environment.
test-slurm: setup
	python tests/slurm/cluster.py install
	RCDP_SLURM=required pytest -m slurm

# The first trials of the campaign with seed 1, without the kinds that start real ranks.
SHORT = --seed 1 --trials 400 --seconds 75 --kinds damage,hostile,kills,races,disks,filesystems

# For example: make campaign ARGS='--seed 7 --trials 500 --kinds damage,kills'
campaign: setup
	PYTHONPATH=tests python -m campaign $(ARGS)

lint:
	ruff check .
	ruff format --check .

type:
	mypy

# Without --quiet, with which MkDocs does not count warnings. The variable suppresses an advertisement.
docs: setup
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

format:
	ruff check --fix-only .
	ruff format .

clean:
	rm -rf build dist runs/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
