# `make check` is what must pass before a change lands; python is that of the active environment.

PYTHON ?= python
export OMP_NUM_THREADS = 1

.PHONY: check check-slow check-faults check-speed docs format

check:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q -n 2

check-slow:
	$(PYTHON) -m pytest -q -m slow

# Injects faults into whole runs, files and settings, and prints their number by kind; slow.
check-faults:
	$(PYTHON) -m pytest -q -m "slow or not slow" tests/faults tests/benchmarks/test_faults.py \
	  tests/benchmarks/test_trust.py tests/envs/test_contract.py tests/offline_data/test_changed_data.py \
	  tests/offline_data/test_foreign_files.py

# Needs d3rlpy; CORL=FOLDER, JAX_CORL=FOLDER and UNIFLORAL=FOLDER name checkouts of the other peers.
check-speed:
	$(PYTHON) -m rlbench.benchmarks.speed --check $(if $(CORL),--corl $(CORL)) \
	  $(if $(JAX_CORL),--jax-corl $(JAX_CORL)) $(if $(UNIFLORAL),--unifloral $(UNIFLORAL))

# Needs the extra docs; the site is in build/site/.
docs:
	$(PYTHON) -m docs.make_site

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
