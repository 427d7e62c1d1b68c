# `make demo` shows polpod at work, `make test` checks and tests everything.
# Needs git, make, and Python 3.11 or later with its venv module; the rest is installed into .venv.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PIP := $(BIN)/pip --disable-pip-version-check --quiet
SOURCES := polpod polpoctl tests bench docs
TESTS := tests

.PHONY: demo test test-mutants test-elkar test-powerloss test-systemd-vm check soak fuzz fmt bench docs man deb web clean
.DEFAULT_GOAL := test

# Hundreds of daemons are started, each of which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

demo: $(INSTALLED)
	$(BIN)/python docs/demo.py

# Five workers on two cores, since much of what is tested is waiting; a file at a time: fixtures that own a daemon are never
# shared between workers.  In the order of the folders, so that the short files of unit come last and all workers end together.
# What drives the browser has an event loop that is running for as long, and greenlets: a process of its own.
test: check
	$(BIN)/pytest tests/browser
	$(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder --ignore tests/browser $(TESTS)

check: $(INSTALLED)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy --strict polpod polpoctl
	$(BIN)/pytest -q tests/architecture

# A virtual machine whose plug is pulled; tests/powerloss.py says what VM names.
test-powerloss: $(INSTALLED)
	$(BIN)/python tests/powerloss.py --vm "$(VM)"

# The tests that need controllers of cgroup2, in a machine that has them; tests/systemd_vm.py says what VM names.
test-systemd-vm: $(INSTALLED)
	$(BIN)/python tests/systemd_vm.py --vm "$(VM)"

# Defects planted in the stores, each of which the conformance suite has to find.
test-mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py

# Elkar itself on the stores that are made for it: PYTHON names a Python 3.12 or later, which the package needs.
ELKAR := build/elkar
test-elkar: $(ELKAR)/installed
	$(ELKAR)/bin/pytest tests/elkar

# New interleavings of everything that can happen, for as long as told: `make soak SECONDS=3600 SEED=1`.
SECONDS := 3600
soak: $(INSTALLED)
	$(BIN)/python tests/soak.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# A coverage-guided fuzzer on the wire layer, for FUZZ seconds.  Not in requirements-dev.lock: few Pythons have a wheel of it.
FUZZ := 60
fuzz: $(INSTALLED)
	$(PIP) install 'atheris>=2.3,<4'
	$(BIN)/python tests/fuzz/wire.py -dict=tests/fuzz/wire.dict -max_len=1000 -max_total_time=$(FUZZ)

fmt: $(INSTALLED)
	$(BIN)/ruff check --fix --exit-zero $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(INSTALLED)
	$(BIN)/python -m bench $(BENCH)

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

man: $(INSTALLED)
	$(BIN)/python docs/man.py build/man

# build/polpod_VERSION_ARCHITECTURE.deb; VERSION_SUFFIX=+1 makes a later version of the same sources, to try upgrades.
deb: $(INSTALLED)
	VERSION_SUFFIX=$(VERSION_SUFFIX) packaging/deb

# The dashboard, from web/ into the package, where its output is kept; only who changes it needs Node.js (20 or later).
web: web/node_modules/.package-lock.json
	cd web && npm run --silent build

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci --no-fund --no-audit

clean:
	rm -rf web/node_modules $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The newest Python that can make an environment, or the one that $PYTHON names.
$(INSTALLED): requirements-dev.lock pyproject.toml
	@for python in $${PYTHON:-python3.13 python3.12 python3.11 python3}; do \
	    "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    python=; \
	done; \
	if test -z "$$python"; then \
	    echo "polpod needs Python 3.11 or later with venv (Debian, Ubuntu: apt install python3-venv); tried:" \
	         "$${PYTHON:-python3.13 python3.12 python3.11 python3}" >&2; \
	    exit 1; \
	fi; \
	echo "making $(VENV) with $$($$python --version)"; \
	"$$python" -m venv --clear $(VENV)
	$(PIP) install --no-deps --use-pep517 -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# An environment of its own, as the package brings seventy others.
$(ELKAR)/installed: requirements-dev.lock pyproject.toml
	@for python in $${PYTHON:-python3.14 python3.13 python3.12 python3}; do \
	    "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && break; \
	    python=; \
	done; \
	if test -z "$$python"; then \
	    echo "elkar needs Python 3.12 or later with venv; make test-elkar PYTHON=…" >&2; \
	    exit 1; \
	fi; \
	echo "making $(ELKAR) with $$($$python --version)"; \
	"$$python" -m venv --clear $(ELKAR)
	$(ELKAR)/bin/pip --disable-pip-version-check --quiet install -c requirements-dev.lock \
	    elkar==0.1.23 pytest pytest-timeout hypothesis --editable .
	@touch $@
