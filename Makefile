# `make check` is what must pass before a change lands; python is that of the active environment.

PYTHON ?= python
export OMP_NUM_THREADS = 1

.PHONY: check check-slow format

check:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q -n 2

check-slow:
	$(PYTHON) -m pytest -q -m slow

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
