# One environment and a few commands. `make help` lists them; README.md has the same without make.
PYTHON ?= python3
VENV ?= .venv
PROFILE ?= quick

BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
STAMP := $(VENV)/.mlic-installed
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
TORCH := $(shell grep -E '^(torch|torchvision)==' constraints.txt)

# The notebooks' kernel `python3` is this environment's, whatever kernels the user has registered.
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_PATH := $(abspath $(VENV))/share/jupyter

.PHONY: help study test browser coverage mutants soak lab bench licences sbom audit clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 15
	@echo "  Options: PYTHON=python3.12 VENV=path PROFILE=$(PROFILE)"

study: $(STAMP)  ## run every notebook into results/PROFILE: tables, figures, runs
	@$(BIN)/mlic reproduce --profile $(PROFILE)

# Two workers, one thread each: as many as the smallest machine has cores. loadscope keeps a notebook on one worker.
test: export OMP_NUM_THREADS ?= 1
test: export MLIC_PROGRESS := silent
test: $(STAMP)  ## lint, unit tests, then every notebook against its checked outputs
	$(BIN)/ruff check --quiet .
	$(BIN)/python -m pytest -q -n 2
	$(BIN)/python -m pytest -q -n 2 --dist loadscope --nbval --nbval-current-env \
		--nbval-kernel-startup-timeout 180 --nbval-cell-timeout 300 notebooks/

browser: export OMP_NUM_THREADS ?= 1
browser: $(STAMP)  ## install Playwright and axe, then test report and explorer in the system's Chromium
	$(PIP) -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest -q -n 0 tests/test_browser.py

# In one process: a worker of pytest-xdist is stopped before it has written what it measured.
coverage: export OMP_NUM_THREADS ?= 1
coverage: export MLIC_PROGRESS := silent
coverage: $(STAMP)  ## the lines that the unit tests run, into results/tests.md
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage combine --quiet
	@$(BIN)/python workflow/tested.py coverage

mutants: export OMP_NUM_THREADS ?= 1
mutants: export MLIC_PROGRESS := silent
mutants: $(STAMP)  ## install mutmut, then see which small faults the tests notice, into results/tests.md
	$(PIP) -c constraints.txt -e '.[mutants]'
	@$(BIN)/python workflow/tested.py mutants

soak: $(STAMP)  ## kill, fill, damage and feed broken input for hours, into results/reliability.md
	@$(BIN)/python -m tests.faults --out results/reliability.md

lab: $(STAMP)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks

bench: $(STAMP)  ## time our code beside its peers into results/bench.json and bench.md
	@$(BIN)/python -m benchmarks

licences: $(STAMP)  ## list the licences of the dependencies in results/licences.md
	@$(BIN)/python workflow/supply.py licences results/licences.md

sbom: $(STAMP)  ## write a CycloneDX bill of materials of the environment to sbom.json
	@$(BIN)/python workflow/supply.py sbom sbom.json

audit: $(STAMP)  ## look the pinned versions up among known vulnerabilities, where the index has them
	$(PIP) pip-audit
	$(BIN)/python -m pip_audit --requirement constraints.txt --no-deps --disable-pip

clean:  ## remove .venv, results/smoke, results/quick and tool caches; downloads and other results stay
	rm -rf .venv results/smoke results/quick build mutants .coverage* *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and by its exact version, so that pip looks at no other build of the largest download.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mlic needs Python 3.11 or newer: name one, as in make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): one to ten minutes, by the network; 6 GB of disk with torch's default Linux build."
	@start=$$(date +%s) && $(PIP) $(TORCH) && $(PIP) -c constraints.txt -e '.[test]' && \
		echo "Installed in $$(( $$(date +%s) - start )) s." && echo "$(CURDIR)" > $@

# An environment that was installed from another clone would run that clone's code.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif
