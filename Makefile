# `make demo` runs the whole pipeline on generated pictures; `make help` lists all targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
IMAGES  ?=
DATABASE ?=
WEIGHTS ?=
TARGETS ?= all
SECONDS ?= 600
# Test processes side by side. Each needs up to 4 GB; a file's tests stay in one process, for its fixtures. One thread a
# process: several wait for each other, and idle ones spin.
WORKERS ?= 2
THREADS := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
# What the pipeline writes.
MADE := models reports dvc_plots data/manifest.csv data/validated.csv data/weights.json data/signer.json data/preflight.txt \
	data/images data/quarantine data/validation_pages data/splits data/features
# DVC unpickles its cache of file states, by default in /var/tmp/dvc, where every user of the machine can write.
export DVC_SITE_CACHE_DIR ?= $(CURDIR)/.buckler/dvc
PYTEST  := $(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo up down test quick check format lock audit deps reference dashboards tables drill-service drill-watch drill-trust bench fuzz screenshots paper ham10000 hardened clean purge

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv from the hashed lock file

# An environment contains its own path. After copying or renaming the project it is that of the other folder.
BELONGS := $(shell sed -n "s/^ *VIRTUAL_ENV=[\"']\{0,1\}\(\/[^\"']*\)[\"']\{0,1\}$$/\1/p" $(BIN)/activate 2>/dev/null | head -n 1)
FOREIGN := $(if $(BELONGS),$(shell test "$(BELONGS)" = "$(CURDIR)/$(VENV)" || echo foreign))
ifdef FOREIGN
.PHONY: $(STAMP)
endif

$(STAMP): requirements.lock pyproject.toml
	@test "$$(id -u)" != 0 || test -O . || test -n "$${BUCKLER_ALLOW_ROOT:-}" || \
		{ echo "error: root does not install into the folder of another user, who could not use root's files; run make without sudo, or set BUCKLER_ALLOW_ROOT=1"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "error: expected Python 3.11, got $$($(PYTHON) --version) at $(PYTHON); run make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing the packages of requirements.lock into $(VENV) (one to three minutes) ..."
	@test -z "$(FOREIGN)" || { echo "$(VENV) belongs to $(BELONGS), as after copying or renaming the project, and is made anew"; rm -rf $(VENV); }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@sed -n '/^uv==/,/^    #/p' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $(VENV)/uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	@# With the setuptools of the lock: an isolated build would download one without a hash.
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@# For `dvc` without make, too; DVC does not resolve a path in .dvc/config against the repository.
	@git rev-parse --git-dir >/dev/null 2>&1 && $(BIN)/dvc config --quiet --local core.site_cache_dir "$(DVC_SITE_CACHE_DIR)" || true
	@touch $@

demo: setup ## Train, gate and serve a model, attack it; from a terminal the servers stay up (STOP=1 stops them)
	@$(BIN)/python -m infra.local demo $(if $(STOP),--stop) $(if $(RESULTS),--results "$(RESULTS)")

up: setup ## Start MLflow, service, watch, console (Prometheus, Alertmanager if installed) and leave them running
	@$(BIN)/python -m infra.local up

# Needs neither packages nor a .venv that works: servers run on when their folder is renamed.
down: ## Stop what `make up` or `make demo` started
	@python=$(BIN)/python; test -x $$python || python="$(PYTHON)"; PYTHONPATH=src "$$python" -m infra.local down

test: setup ## Run all tests in two processes (WORKERS=N)
	@$(PYTEST)

quick: setup ## Run the fast tests: none trains or serves a model
	@$(PYTEST) -m "not slow"

check: setup ## Check style, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@echo "check passed"

format: setup ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: setup ## Resolve the dependencies in pyproject.toml and write requirements.lock
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url \
		--extra cpu --extra console --extra serve --extra train --extra test --output-file requirements.lock pyproject.toml

audit: setup ## Compare known vulnerabilities of the locked packages with infra/vex.json and advisories: make audit DATABASE=<root of PyPI's JSON API or of its mirror>
	@test -n "$(DATABASE)" || { echo "error: expected DATABASE=URL, the root of PyPI's JSON API or of its mirror"; exit 1; }
	@$(BIN)/python -m infra.vulnerabilities --database "$(DATABASE)"

deps: setup ## Write the code dependencies of every stage into dvc.yaml
	@$(BIN)/python -m pipelines.dependencies

reference: setup ## Write docs/reference from settings, params.yaml, command line, signed documents, reasons and error codes
	@$(BIN)/python -m docs.generate

dashboards: setup ## Write Grafana's dashboards from monitoring/grafana/boards
	@$(BIN)/python -m monitoring.grafana.build

tables: setup ## Write the measured tables of README and docs from docs/results/*.json
	@$(BIN)/python -m benchmarks.tables

paper: setup ## Repeat the paper's experiment: make paper IMAGES=<class-per-folder pictures> WEIGHTS=<VGG-19 weights>
	@test -n "$(IMAGES)" && test -n "$(WEIGHTS)" || { echo "error: expected make paper IMAGES=DIR WEIGHTS=FILE|imagenet"; exit 1; }
	@$(BIN)/buckler profile paper --set data.path=$(IMAGES) --set train.weights=$(WEIGHTS)
	@$(BIN)/python -m infra.local demo --stop
	@$(BIN)/python -m benchmarks.paper

ham10000: setup ## Train on seven classes: make ham10000 IMAGES=<class-per-folder pictures> WEIGHTS=<VGG-19 weights>
	@test -n "$(IMAGES)" && test -n "$(WEIGHTS)" || { echo "error: expected make ham10000 IMAGES=DIR WEIGHTS=FILE|imagenet"; exit 1; }
	@$(BIN)/buckler profile ham10000 --set data.path=$(IMAGES) --set train.weights=$(WEIGHTS)
	@$(BIN)/python -m infra.local demo --stop

hardened: setup ## Compare a hardened and an undefended network: make hardened IMAGES=DIR WEIGHTS=FILE
	@test -n "$(IMAGES)" && test -n "$(WEIGHTS)" || { echo "error: expected make hardened IMAGES=DIR WEIGHTS=FILE|imagenet"; exit 1; }
	@$(BIN)/buckler profile hardened --set data.path=$(IMAGES) --set train.weights=$(WEIGHTS)
	@$(BIN)/python -m infra.local demo --stop
	@rm -rf reports/hardened .buckler/hardened && cp -R reports .buckler/hardened && mv .buckler/hardened reports/hardened
	@echo "== the undefended network on the same pictures"
	@$(BIN)/buckler profile hardened --set data.path=$(IMAGES) --set train.weights=$(WEIGHTS) \
		--set train.defence=none --set publish.model_name=skin-lesion-undefended
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro
	@$(BIN)/python -m benchmarks.hardened

drill-service: setup ## After `make demo`: drills with swaps, kills, tampering, a full disk, overload (20 minutes; ONLY=NAME for one)
	@$(BIN)/python -m drills $(if $(ONLY),--only $(ONLY))

drill-watch: setup ## After `make demo`, with Prometheus: drills in which the watch detects and undoes faults (10 minutes; ONLY=NAME)
	@$(BIN)/python -m drills --suite watch $(if $(ONLY),--only $(ONLY))

drill-trust: setup ## After `make demo`, with Prometheus: drills with attackers on registry, stores, disks, keys and wire (10 minutes; ONLY=NAME)
	@$(BIN)/python -m drills --suite trust $(if $(ONLY),--only $(ONLY))

bench: setup ## Measure the speed of attacks and serving, ours and others': make bench [IMAGES=DIR WEIGHTS=FILE]
	@$(BIN)/python -m benchmarks.attacks --images "$(IMAGES)" --weights "$(WEIGHTS)"
	@$(BIN)/python -m benchmarks.serving --images "$(IMAGES)" --weights "$(WEIGHTS)"

fuzz: setup ## Fuzz every parser of foreign bytes, ten minutes each (SECONDS=N, TARGETS="jpeg dicom" for some)
	@failed=0; for target in $(TARGETS); do $(BIN)/python -m tests.fuzz $$target --seconds $(SECONDS) || failed=1; done; exit $$failed

screenshots: setup ## After `make demo`: write the console's screenshots in docs/images (6 minutes, needs Debian's chromium and poppler-utils)
	@$(BIN)/python -m tests.services.console.screenshots

clean: down ## Remove the files of the pipeline and the servers; keep .venv, keys, model registry, signed records, audit log
	@rm -rf $(MADE) $(addprefix .buckler/,attack bentoml detect downloads dvc monitoring run training)

purge: ## Ask, then remove what `make clean` keeps, too, except .venv: keys and audit log are lost (YES=1 does not ask)
	@if [ "$(YES)" != 1 ]; then \
		test -t 0 || { echo "error: expected a terminal to ask on, got none; make purge YES=1 does not ask"; exit 1; }; \
		echo "This removes the signing keys, the model registry, the journal of signed records and the audit log in .buckler."; \
		read -r -p "Type yes to remove them: " answer; \
		test "$$answer" = yes || { echo "error: expected yes, got '$$answer'; nothing was removed"; exit 1; }; \
	fi
	@$(MAKE) --no-print-directory --file $(firstword $(MAKEFILE_LIST)) clean
	@rm -rf .buckler
