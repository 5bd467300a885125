# Needs Python 3.11 or later with pip, and make; everything else is set up here.
# Other Pythons:  make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
# Extra arguments for pytest or the demo:  make test ARGS="-k cancel"
ARGS ?=

PY := $(VENV)/bin/python
# CPython's own suite needs an interpreter that ships it, and minutes: it has its own target.
PYTEST := $(PY) -m pytest --ignore=tests/cpython
# Tests that run at once. They wait more than they compute, so more than two cores have work for.
JOBS ?= 4
SIDE_BY_SIDE := -n $(JOBS) --dist worksteal

# Tests start thousands of processes, each of which compiles the package where bytecode is not kept.
test test-all cluster cluster-netns coverage cpython chaos: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo demo-cluster demo-picture watching-pictures test test-all cluster cluster-netns coverage cpython chaos soak faults lint package docs bench bench-quick bench-docs clean
# Two installs into one environment at once would break it.
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: $(VENV)/.installed-demo  ## Fetch 20,000 URLs from a local server, with 2 workers × 500 calls
	$(PY) examples/fetch_urls.py --report report.html $(ARGS)

demo-cluster: $(VENV)/.installed-demo $(VENV)/.installed-cluster  ## The same on two nodes; one is killed meanwhile, and nothing lost
	$(PY) examples/fetch_cluster.py $(ARGS)

test: $(VENV)/.installed-test  ## Run the fast tests
	$(PYTEST) -m "not slow" $(SIDE_BY_SIDE) $(ARGS)

test-all: $(VENV)/.installed-test  ## Run all tests, the slow ones too
	$(PYTEST) $(SIDE_BY_SIDE) $(ARGS)

cluster: $(VENV)/.installed-test  ## Run the tests on Dask clusters of this machine, the slow ones too
	$(PYTEST) $(SIDE_BY_SIDE) --ignore=tests/cluster/test_namespaces.py $(ARGS) tests/cluster

cluster-netns: $(VENV)/.installed-test  ## Cut the cables of nodes in network namespaces; as root
	$(PYTEST) $(ARGS) tests/cluster/test_namespaces.py

coverage: $(VENV)/.installed-coverage  ## Branch coverage, worker processes included; it may not drop
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 14))' || \
		{ echo "branches are counted from Python 3.14 on: make coverage PYTHON=python3.14 ..." >&2; exit 1; }
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -m "not slow and not unmeasured" $(SIDE_BY_SIDE) $(ARGS) \
		tests/unit tests/contract tests/cluster
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

cpython: $(VENV)/.installed-test  ## Run CPython's own tests of executors and pools against ours
	$(PY) -m pytest tests/cpython $(SIDE_BY_SIDE) $(ARGS)

chaos: $(VENV)/.installed-test  ## Random calls and accidents; longer: SECONDS=600, again: SEED=7
	HYBRIDEXEC_CHAOS_SECONDS=$(SECONDS) HYBRIDEXEC_CHAOS_SEED=$(SEED) \
		$(PYTEST) tests/chaos -o faulthandler_timeout=0 $(ARGS)

soak: $(VENV)/.installed-bench  ## Mixed load for ten minutes, watched; shorter: ARGS="--seconds 60"
	$(PY) -m benchmarks.soak $(ARGS)

faults: $(VENV)/.installed-bench  ## Do the same faults to the peers, and print the table
	$(PY) -m benchmarks.faults $(ARGS)

# What tests share is checked too, and imports what tests need.
lint: $(VENV)/.installed-lint $(VENV)/.installed-test  ## ruff, formatting, mypy; pyright, of what users see
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m basedpyright

demo-picture: $(VENV)/.installed-demo $(VENV)/.installed-docs  ## Draw what the demo prints, for the README
	$(PY) docs/demo_picture.py

watching-pictures: $(VENV)/.installed-test  ## Take pictures of a dashboard, for the docs; needs Chromium
	$(PY) docs/watching_pictures.py

package: $(VENV)/.installed-package  ## Build sdist and wheel; try the wheel where only that is
	.ci/package $(PY) $(VENV)-wheel

docs: $(VENV)/.installed-docs  ## Build the documentation; a warning is an error
	$(PY) -m sphinx --fresh-env --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.installed-bench  ## Measure against the peers: tables, JSON and plots
	$(PY) -m benchmarks $(ARGS)

bench-quick: $(VENV)/.installed-bench  ## The same in 3 minutes
	$(PY) -m benchmarks --quick $(ARGS)

bench-docs: $(VENV)/.installed-bench  ## Put the last run's figures and plots into the docs
	$(PY) -m benchmarks.publish $(ARGS)

clean:  ## Remove what these targets made
	rm -rf .venv .venv-* build dist docs/_build benchmarks/out
	rm -rf .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Some systems ship Python without ensurepip: there the pip that Python came with fills the
# environment from outside.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hybridexec needs Python 3.11 or later: make PYTHON=python3.13 ..." >&2; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV) || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(PY) install --quiet pip; }

# One stamp per extra. The stamps live in the environment, so that they go when it goes. The version
# is in the package.
$(VENV)/.installed-%: pyproject.toml hybridexec/__init__.py | $(PY)
	$(PY) -m pip install --quiet --editable '.[$*]'
	@touch $@
