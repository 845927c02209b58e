# Each target sets up what it needs: the environment in .venv, from locked requirements.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

BIN := .venv/bin
READY := .venv/.ready
JOBS ?= 4
SEED ?= 1
SEEDS ?= 1
SECONDS ?= 120
SERVERS ?= 1

.PHONY: help setup demo test lint format bench chaos polyglot mutants lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|' 2>/dev/null \
		|| grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST)

$(READY): requirements/dev.txt requirements/make-venv.sh sdk/pyproject.toml bridge/pyproject.toml
	@PYTHON="$(PYTHON)" requirements/make-venv.sh
	@touch $@

setup: $(READY)  ## the environment: .venv with the locked requirements and both packages

demo: $(READY)  ## a server, the bridge, three responders, a few hundred tasks; what was expected and what was seen
	@$(BIN)/python -m demo

test: $(READY)  ## every test that needs no other language's tools, on real servers
	@$(BIN)/python -m pytest -n $(JOBS) -m "not polyglot" --durations 10

lint: $(READY)  ## style, types, import directions, the compose file, the lock files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy -p demo
	$(BIN)/mypy tests/typing/api.py
	$(BIN)/lint-imports --no-logo
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@! grep -nE '[a-z]+://|--(index-url|extra-index-url|find-links)' requirements/*.txt || { echo "a lock file names a place"; exit 1; }

format: $(READY)  ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## tasks per second, beside a floor that takes no decisions
	$(BIN)/python bench/run.py --long

chaos: $(READY)  ## processes killed at random, and the history checked: SEED=1 SECONDS=120, or SEEDS=10; SERVERS=3
	$(BIN)/python tests/chaos/driver.py $(if $(filter-out 1,$(SEEDS)),--seeds $(SEEDS),--seed $(SEED)) --seconds $(SECONDS) --servers $(SERVERS)

polyglot: $(READY)  ## the examples in all languages: built, examined, and 10,000 tasks for all at once; AJC_REQUIRE_ALL=1
	$(BIN)/python tests/polyglot/driver.py
	$(BIN)/python -m pytest -n 2 -m polyglot tests/polyglot

mutants: $(READY)  ## a mutation test of the decisions
	$(BIN)/python tests/decision/mutants.py

lock: $(READY)  ## each requirements .txt from its .in: versions and hashes
	for name in requirements/dev requirements/bridge examples/polyglot/python-nats/requirements \
			examples/polyglot/python-sdk/requirements; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
			--system-certs $$name.in --output-file $$name.txt || exit 1; \
	done

clean:  ## everything that is made, the environment too
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis mutants .mutmut-cache .ajc
