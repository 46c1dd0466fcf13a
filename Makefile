# Every target makes what it needs. `make demo` and `make test` are each enough on a fresh machine.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATA   ?= ../shared

export DO_NOT_TRACK = 1
export NO_MKDOCS_2_WARNING = 1

.PHONY: setup system demo test lint types scan audit sbom check docs bench up lock clean

setup: $(READY)

# torch goes first and by exact pin: a machine that offers a CPU build gives that one, else a CUDA build is taken.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "vsat needs $(PYTHON); name another with make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (first time: some minutes)"
	@$(PIP) --requirement infra/pip.lock
	@$(PIP) $$(grep -E '^torch==' requirements.lock)
	@$(PIP) --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# PostgreSQL with PostGIS, a browser, GDAL and QGIS, for the tests that use them
system:
	@infra/install-test-packages.sh

demo: setup
	@$(BIN)/vsat demo

# files side by side, for many tests wait for servers; one file's tests stay in one process
test: setup system
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy

# unsafe calls in the code, and what looks like a secret in any file; asks nobody
scan: setup
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive vsat flows infra
	@$(BIN)/python infra/scan_secrets.py

check: lint types scan test

# known vulnerabilities of the pinned packages: by the network, or with ADVISORIES=FOLDER by a copy of the Python
# advisory database. Not among the checks: its outcome changes with the world, not with the code.
audit: setup
	@$(BIN)/python infra/audit.py $(if $(ADVISORIES),--advisories $(ADVISORIES))

# what vsat is made of, as CycloneDX
sbom: setup
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json
	@echo build/sbom.json

# the documents' site, in build/site; open index.html, or serve the folder to have its search too
docs: setup
	@$(BIN)/mkdocs build --quiet
	@echo build/site/index.html

bench: setup
	@for script in tests/bench/*.py; do echo; echo "## $$script"; $(BIN)/python $$script --shared $(DATA) || exit 1; done

up: setup
	@$(BIN)/vsat up regions/demo.yaml

# Resolve pyproject.toml anew in a throw-away environment and pin what came out.
lock:
	@infra/lock.sh $(PYTHON) > requirements.lock.new && mv requirements.lock.new requirements.lock

clean:
	rm -rf $(VENV) var build *.egg-info .pytest_cache .mypy_cache .ruff_cache
