# The environment is made by tools/bootstrap.py; docs/install.md says what it does and what steers it.
override RCDP_VENV := $(abspath $(or $(RCDP_VENV),.venv))
export RCDP_VENV

# The first Python on the PATH that is new enough; otherwise python3, whose bootstrap then says what is wrong.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)

# Open MPI asks twice before it starts ranks as root, which is what the user of a container often is.
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT = 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = 1
endif

# The environment is active for every command, so that mpirun, rcdp and their children find one another.
export PATH := $(RCDP_VENV)/bin:$(PATH)

# Two ranks run on a machine of one core, too. Open MPI 5 reads the first, Open MPI 4 the second.
export PRTE_MCA_rmaps_default_mapping_policy ?= :oversubscribe
export OMPI_MCA_rmaps_base_oversubscribe ?= 1

.PHONY: help setup demo test test-slurm campaign lint type format clean

help:
	@echo 'make setup   install everything into $(RCDP_VENV), without root (quick when nothing changed)'
	@echo 'make demo    the whole pipeline on a small data set, two ranks, in runs/demo'
	@echo 'make test    lint, types, tests, the tests that start real MPI ranks, and injected faults for 150 s'
	@echo 'make test-slurm  submit every job script to a Slurm of two virtual nodes on this machine (Debian, root)'
	@echo 'make campaign  inject faults for half an hour and print what became of them (docs/reliability.md)'
	@echo 'make lint    ruff'
	@echo 'make type    mypy'
	@echo 'make format  let ruff mend what it can'
	@echo 'make clean   remove what the tools and runs left behind (not the environment)'

setup:
	@$(PYTHON) tools/bootstrap.py

# The folder is the demo's own: a run directory that is there already would be resumed, not shown from the start.
demo: setup
	rm -rf runs/demo
	mpirun -n 2 rcdp run digits --out runs/demo

test: setup lint type
	pytest -n auto --maxprocesses 8 -m 'not mpi and not horovodrun and not slurm'
	pytest -n 2 --dist loadfile -m '(mpi or horovodrun) and not slurm'
	PYTHONPATH=tests python -m campaign $(SHORT)

# Installs Debian's packages of Slurm where it may, and says what is missing where it may not; MPICH goes into the
# environment's folder mpich.
test-slurm: setup
	python tests/slurm/cluster.py install
	RCDP_SLURM=required pytest -m slurm

# The start of every campaign of this seed, without the kinds that start real ranks.
SHORT = --seed 1 --trials 400 --seconds 150 --kinds damage,hostile,kills,races,disks,filesystems

# For example: make campaign ARGS='--seed 7 --trials 500 --kinds damage,kills'
campaign: setup
	PYTHONPATH=tests python -m campaign $(ARGS)

lint:
	ruff check .
	ruff format --check .

type:
	mypy

format:
	ruff check --fix-only .
	ruff format .

clean:
	rm -rf build dist runs/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
