# The front door. It needs python3 (3.11 or newer), make and a network; everything else it sets up in .venv.
.POSIX:
PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
SECONDS_EACH = 60

.PHONY: help run test lint types map docs check fuzz bench lock servers clean

help:
	@echo 'make run     set up, and start the proxy as a broker with an example contract'
	@echo 'make test    set up (real servers too), and run all tests'
	@echo 'make check   lint, types, map of imports, docs'
	@echo 'make fuzz    fuzz every target for SECONDS_EACH=60 seconds'
	@echo 'make bench   compare speed with a Mosquitto bridge'
	@echo 'make lock    write the lock files anew from pyproject.toml'

# pip of the machine's Python may be old; the locks pin what matters.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mqttproxy needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python requirements-dev.lock pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run

run: $(VENV)/.run
	@cat examples/quickstart/hints.txt
	@exec $(BIN)/mqttproxy run examples/quickstart/proxy.toml

# Real servers and clients for the tests, from Debian's packages and npm, if they are missing.
servers:
	@tests/servers.sh

test: $(VENV)/.dev servers
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

map: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict --quiet

check: lint types map docs

fuzz: $(VENV)/.dev
	$(BIN)/python fuzz/run.py --seconds $(SECONDS_EACH)

bench: $(VENV)/.dev servers
	$(BIN)/python bench/speed.py

lock: $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --group build \
	  pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --group build --group dev \
	  pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
