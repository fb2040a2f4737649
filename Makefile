# The front door. It needs python3 (3.11 or newer), make and a network; everything else it sets up in .venv.
# Another Python: make PYTHON=python3.13 run. Some tests only: make test ARGS='tests/mqtt -k topics'.
.POSIX:
PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
RELEASE = $(VENV)/release
SCAN = $(VENV)/scan
SECONDS_EACH = 60
KILLS = 200
KILL_RATE = 5000
LOSSES = 20
IMAGES = 5
EVERY_CALL = 25
EVERY_BYTE = 101
SEEDS = 200
RELOADS = 1000
SLOW = 10000
PIP = $(BIN)/python -m pip install -q --disable-pip-version-check
LOCK = $(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header
COMPILE = $(LOCK) --group build
# Debian keeps mosquitto where not everybody looks.
WITH_SERVERS = PATH="$$PATH:/usr/sbin:/usr/local/sbin"
# -n auto: some workers for each processor, see tests/conftest.py; with ARGS=-n0 there are none. The tests start hundreds
# of proxies: where Python is told to keep nothing that it has compiled, each would compile everything anew.
PYTEST = PYTHONDONTWRITEBYTECODE= $(WITH_SERVERS) $(BIN)/python -m pytest -n auto

.PHONY: help run test lint types map docs check fuzz differential bad-input faults faults-tests faults-kills faults-power \
  faults-syscalls faults-corruption faults-simulation faults-reloads faults-slow bench bench-devices audit dist lock \
  servers clean

help:
	@echo 'make run     set up, and start the proxy as a broker with an example contract'
	@echo 'make test    set up (real servers too), and run all tests'
	@echo 'make check   lint, types, map of imports, docs'
	@echo 'make fuzz    fuzz every target for SECONDS_EACH=60 seconds; make differential: hold conversations with Mosquitto too'
	@echo 'make bad-input  every case of bad input over every transport, whole and byte by byte'
	@echo 'make faults  break it under load and count what is lost: longer tests, kills (KILLS=200, beside a bridge), power'
	@echo '             (LOSSES=20 torn, IMAGES=5 of file systems), each EVERY_CALL=25th call to the disk, each'
	@echo '             EVERY_BYTE=101st byte of the journal, SEEDS=200 simulations, RELOADS=1000,'
	@echo '             SLOW=10000 slow connections; or one: make faults-power'
	@echo 'make bench   compare speed with a Mosquitto bridge; make bench-devices: as a broker, with Mosquitto'
	@echo 'make audit   ask whether any locked package has a known vulnerability'
	@echo 'make dist    build what is released into dist/, with a list of all that is in it (SBOM) and checksums'
	@echo 'make lock    write the lock files anew from pyproject.toml'

# Debian's python3 comes without the module that venv needs. A venv that was not finished must not be taken for one.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("mqttproxy needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh scripts/debian.sh python3-venv
	@echo 'Setting up $(VENV): this takes a minute or two, once.'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@touch $@

# The pip of the machine's Python may be old; the locks pin what matters.
$(VENV)/.run: $(VENV)/.made requirements.lock pyproject.toml
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.made requirements-dev.lock pyproject.toml
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run

# What looks at us from outside has venvs of its own: it must not decide on the versions of our packages.
$(RELEASE)/.made: $(VENV)/.made requirements-release.lock
	@rm -rf $(@D) && $(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-release.lock
	@touch $@

$(SCAN)/.made: $(VENV)/.made requirements-scan.lock
	@rm -rf $(@D) && $(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-scan.lock \
	  && touch $@ || echo '*** Not installed: sslyze. The tests that scan TLS with it will fail.' >&2

run: $(VENV)/.run
	@cat examples/quickstart/hints.txt
	@exec $(BIN)/mqttproxy run examples/quickstart/proxy.toml

# Real servers and clients for the tests, from Debian's packages and npm, if they are missing.
servers:
	@sh tests/servers.sh cc

test: $(VENV)/.dev $(SCAN)/.made servers
	$(PYTEST) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

map: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint types map docs

# Guided by coverage where Atheris is installed, see fuzz/README.md; the table tells.
fuzz: $(VENV)/.dev
	$(BIN)/python fuzz/run.py --seconds $(SECONDS_EACH) \
	  $$($(BIN)/python -c 'import atheris' 2>/dev/null && echo --guided) $(ARGS)

# Conversations with a real Mosquitto beside the proxy, in turn, at once and bent, for SECONDS_EACH seconds.
differential: $(VENV)/.dev servers
	$(WITH_SERVERS) $(BIN)/python -m tests.differential --seconds $(SECONDS_EACH) $(ARGS)

# About five seconds for each kill of each of the two, a second for each loss of power; the whole about an hour.
faults: faults-tests faults-kills faults-power faults-syscalls faults-corruption faults-simulation faults-reloads \
  faults-slow

# Every case of bad input over every transport, whole and byte by byte: see tests/bad_input/every_row.py.
bad-input: $(VENV)/.dev
	BAD_INPUT=long $(PYTEST) tests/bad_input $(ARGS)

# The tests of tests/faults in their long form, see forms.py there.
faults-tests: $(VENV)/.dev servers
	FAULTS=long $(PYTEST) tests/faults $(ARGS)

faults-kills: $(VENV)/.dev servers
	$(WITH_SERVERS) $(BIN)/python -m tests.faults.kills --kills $(KILLS) --rate $(KILL_RATE) --bridge $(ARGS)

# Images of file systems need root and loop devices: where they are not to be had, that is said, and no failure.
faults-power: $(VENV)/.dev servers
	$(BIN)/python -m tests.faults.power --rounds $(LOSSES) --way torn $(ARGS)
	$(BIN)/python -m tests.faults.power --rounds $(IMAGES) --way image $(ARGS) || test $$? = 2

faults-syscalls: $(VENV)/.dev servers
	for place in spool sessions quarantine; do \
	  $(BIN)/python -m tests.faults.syscalls --place $$place --every $(EVERY_CALL) $(ARGS) || exit 1; done

faults-corruption: $(VENV)/.dev
	$(BIN)/python -m tests.faults.corruption --every $(EVERY_BYTE) $(ARGS)

faults-simulation: $(VENV)/.dev
	$(BIN)/python -m tests.faults.simulation --seeds $(SEEDS) $(ARGS)

faults-reloads: $(VENV)/.dev
	$(BIN)/python -m tests.faults.reloads --reloads $(RELOADS) $(ARGS)

faults-slow: $(VENV)/.dev
	$(BIN)/python -m tests.faults.slow --count $(SLOW) $(ARGS)

bench: $(VENV)/.dev
	@sh tests/servers.sh cc taskset
	$(WITH_SERVERS) $(BIN)/python bench/speed.py $(ARGS)

bench-devices: $(VENV)/.dev
	@sh tests/servers.sh cc taskset
	$(WITH_SERVERS) $(BIN)/python -m bench.devices $(ARGS)

audit: $(RELEASE)/.made
	@$(BIN)/python scripts/audit.py $(RELEASE)/bin/pip-audit requirements.lock requirements-dev.lock requirements-scan.lock \
	  requirements-release.lock

# Installed into a venv of its own, as a user would, and asked for its version: what was forgotten in the wheel shows.
dist: $(VENV)/.dev $(RELEASE)/.made
	rm -rf dist build/try
	$(BIN)/hatchling build -d dist
	$(RELEASE)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --of JSON -o dist/mqttproxy-sbom.cdx.json
	$(BIN)/python -m venv build/try
	build/try/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	build/try/bin/python -m pip install -q --disable-pip-version-check --no-deps dist/*.whl
	test "$$(cd / && "$(CURDIR)/build/try/bin/mqttproxy" --version)" = "$$($(BIN)/mqttproxy --version)"
	rm -rf build/try
	cd dist && sha256sum * >SHA256SUMS

lock: $(VENV)/.made
	$(PIP) uv
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --group dev pyproject.toml -o requirements-dev.lock
	$(LOCK) --group scan -o requirements-scan.lock
	$(LOCK) --group release -o requirements-release.lock

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  tests/node/node_modules bench/load/build
