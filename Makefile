# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow check format tensorboard serve benchmark compare-keras serve-load figures clean

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
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(READY) ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(READY) ## lint, format check and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## format the code and fix what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: $(READY) ## look at the runs, the published one among them
	$(BIN)/tensorboard --logdir tb_logs

serve: $(READY) ## serve a checkpoint, with a page to draw on (ARGS="best.ckpt --port 8000")
	$(BIN)/python -m mnist_cnn serve $(ARGS)

serve-load: $(READY) ## measure the server under load, beside plain FastAPI (ARGS="best.ckpt"; needs wrk)
	$(BIN)/python -m benchmarks.serve_load $(ARGS)

benchmark: $(READY) ## measure what the documentation says: ARGS="epoch --seeds 5" (without, a list)
	$(BIN)/python -m benchmarks $(ARGS)

compare-keras: $(READY) ## train real Keras and this project side by side (an hour; 2 GB for Keras)
	$(BIN)/python -m benchmarks compare_keras $(ARGS)

figures: $(READY) ## redraw the README's plot and table (ARGS="tb_logs/cnn/version_*")
	$(BIN)/python docs/figures.py $(ARGS)

clean: ## delete the environment, the caches and the downloaded data, but no logs
	rm -rf $(VENV) data build .mypy_cache .pytest_cache .ruff_cache *.egg-info
