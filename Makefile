# Everything a developer or a newcomer runs; `make` alone lists it. CI runs `make test`.
#
#   make serve PORT=9000 REPOSITORY=/srv/models     another port, another model repository
#   make install PYTHON=/opt/python/bin/python3     another Python than the one found

PORT       := 8000
REPOSITORY := models
SECONDS    := 600
TOLERANCE  := 1
MINUTES    := 30
BENCHMARKS := gateway mlp large_bodies lone_request startup cost_per_request grpc
PYTHON      = $(shell for python in python3.11 python3.12 python3.13 python3; do \
                $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
                && echo $$python && break; done)

VENV      := .venv
BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install serve test lint format types unit test-slow clients models fuzz torture torture-peers soak bench bench-peers constraints protos clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv and install the pinned versions (again only when they changed)

# Ctrl-C reaches the server itself, which drains; make waits for it. `exec` leaves no shell between them.
serve: $(INSTALLED) ## train the demo models that are missing, then serve them on 127.0.0.1
	$(BIN)/maas train --all --missing --repository '$(REPOSITORY)'
	exec $(BIN)/maas serve --repository '$(REPOSITORY)' --port $(PORT)

test: lint types unit ## run the checks and the tests, but not the slow ones

lint: $(INSTALLED) ## check the code's style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED) ## rewrite the code in that style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED) ## check the types
	$(BIN)/mypy

unit: $(INSTALLED) ## run the tests, but not the slow ones
	$(BIN)/pytest -m "not slow and not clients and not models"

test-slow: $(INSTALLED) ## run the slow tests
	$(BIN)/pytest -m slow

# Their environments are made below build/clients when they are first asked for.
clients: $(INSTALLED) ## call a running server with the clients that people have, each in an environment of its own
	$(BIN)/python -m tests.clients.environments
	$(BIN)/pytest -m clients tests/clients

models: $(INSTALLED) ## fetch a real language model (92 MB) below build/models, import it, and hold its answers
	$(BIN)/python -m tests.importing.smollm2
	$(BIN)/pytest -m models tests/importing

fuzz: $(INSTALLED) ## fuzz the body decoders for SECONDS (600), then every operation of a running server
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]' \
	  || { echo 'atheris, which fuzzes, is not to be had for this Python' >&2; exit 1; }
	$(BIN)/python -m tests.fuzz.fuzz_bodies --seconds $(SECONDS)
	$(BIN)/pytest -m slow tests/fuzz

torture: $(INSTALLED) ## break a server in every way known, and hold it to its marks (about 12 minutes)
	$(BIN)/python -m benchmarks.torture --tolerance $(TOLERANCE)

# Their environments are made below build/torture when they are first asked for.
torture-peers: $(INSTALLED) ## the same of LitServe and MLServer, where it applies, for comparison
	-$(BIN)/python -m benchmarks.torture --server litserve --rounds 1
	-$(BIN)/python -m benchmarks.torture --server mlserver --rounds 1

bench: $(INSTALLED) ## measure speed (about 5 minutes) into benchmarks/RESULTS.md; BENCHMARKS='cnn encoder' for the slow ones
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --json build/bench/$$name.json || exit 1; done
	$(BIN)/python -m benchmarks.results

# Their environments are made below build/peers when they are first asked for.
bench-peers: $(INSTALLED) ## the same of gateway, mlp and encoder with mosec and LitServe beside
	for name in gateway mlp encoder; do $(BIN)/python -m benchmarks.$$name --peers --json build/bench/$$name.json || exit 1; done
	$(BIN)/python -m benchmarks.results

soak: $(INSTALLED) ## mixed traffic with faults for MINUTES=30: nothing may grow
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

constraints: ## pin the newest versions that work together, from a fresh environment
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --editable '.[fuzz]'
	sed -i '/^[^#]/d' constraints.txt
	build/constraints/bin/python -m pip freeze --all --exclude-editable --exclude pip \
	  | sed 's/+[a-z0-9.]*$$//' >> constraints.txt
	rm -rf build/constraints

protos: $(INSTALLED) ## make the descriptors and types of the gRPC messages anew
	cd src/maas/api/grpc && $(abspath $(BIN))/python -m grpc_tools.protoc -I. --descriptor_set_out=inference.descriptors \
	  --pyi_out=. inference.proto && mv inference_pb2.pyi messages.pyi

clean: ## remove the environment and every cache, but no model
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# An environment that an interrupted run or a removed Python left broken is made anew.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'maas needs Python 3.11 or newer with venv' \
	  '(on Debian: apt-get install python3-venv); PYTHON=/path/to/python3 names one.' >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@
