# Everything a developer needs. The first run of a target sets up what it needs; later runs cost nothing.
#
#   PYTEST=…   what `make test` passes on:   make test PYTEST='tests/unit -k ring'
#   E2E=…      what `make e2e` passes on:    make e2e E2E='-k rights'

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST ?= -n auto
E2E ?=

.DEFAULT_GOAL := help
.PHONY: help demo test e2e check format bench bench-quick bench-programs golden picture lock clean

help:  ## This list
	@echo "Podcam: a dashcam for the network of your pods."
	@echo
	@sed -n 's/^\([a-z0-9-]*\):.*##/\1:/p' Makefile | while IFS=: read -r target does; do \
		printf '  make %-12s%s\n' "$$target" "$$does"; done

demo: $(VENV)/.demo  ## Record, fail, clip, diagnose: the whole way in under a minute
	@$(BIN)/podcam demo

test: $(VENV)/.dev  ## All tests; those that lack a right or a program skip, and say why
	@scripts/system-packages "the tests" tcpdump=tcpdump tshark=tshark dumpcap=wireshark-common \
		ip=iproute2 nft=nftables sysctl=procps openssl=openssl sudo=sudo || true
	$(BIN)/python -m pytest $(PYTEST)

# One by one: there is one cluster.
e2e: $(VENV)/.dev  ## Tests on a real cluster, which PODCAM_E2E_KUBECONFIG names; without it they say how to get one
	@scripts/system-packages "the tests on a cluster" musl-gcc=musl-tools || true
	$(BIN)/python -m pytest tests/e2e $(E2E)

check: $(VENV)/.dev  ## Style, types, the rooms' directions, the pinned requirements
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_requirements.py

format: $(VENV)/.dev  ## Bring the code into the agreed style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev bench-programs  ## What the design promises, measured beside tcpdump, dumpcap, tshark (root, half an hour)
	$(BIN)/python bench/recorder.py
	$(BIN)/python bench/detector.py
	$(BIN)/python bench/idle.py
	$(BIN)/python bench/wrap.py
	$(BIN)/python bench/analyser.py

bench-quick: $(VENV)/.dev bench-programs  ## One short iteration of every benchmark, to see that it still runs
	$(BIN)/python bench/recorder.py --quick
	$(BIN)/python bench/detector.py --quick
	$(BIN)/python bench/idle.py --quick
	$(BIN)/python bench/wrap.py --quick
	$(BIN)/python bench/analyser.py --quick

bench-programs:
	@scripts/system-packages "the benchmarks" tcpdump=tcpdump tshark=tshark dumpcap=wireshark-common \
		ip=iproute2

golden: $(VENV)/.dev  ## Take today's diagnosis of the golden captures as what is expected
	$(BIN)/python tests/golden_diagnosis.py

picture: $(VENV)/.dev  ## Draw README's picture anew from what `podcam demo` prints
	$(BIN)/python scripts/picture.py

lock:  ## Pin the newest dependencies in requirements/*.txt
	scripts/lock

clean:  ## Forget the virtual environment, caches and demo folders
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache podcam-demo*

$(BIN)/python:
	@scripts/make-venv $(VENV)

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	@echo "podcam: installing Python packages into $(VENV) (about 150 MB)"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/demo.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# It holds all that `demo` needs too.
$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "podcam: installing Python packages for development into $(VENV) (about 250 MB)"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo
