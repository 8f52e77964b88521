# Everything a checkout can do, on a machine with nothing but Python 3.11+ and make.
PYTHON ?= $(shell for each in python3.13 python3.12 python3.11 python3; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: help demo test check types lint format coverage clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.ready ## Run the main job: plain httpx against a flaky server, then Resilience
	$(RUN) examples/quickstart.py

test: $(VENV)/.ready ## Run the tests
	$(RUN) -m pytest

check: lint types coverage ## Everything that must be green

lint: $(VENV)/.ready ## Check style and format
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

types: $(VENV)/.ready ## Check the types with mypy and pyright, both strict
	$(RUN) -m mypy
	$(RUN) -m pyright --pythonpath $(RUN)

coverage: $(VENV)/.ready ## Run the tests and require 95 % branch coverage
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

format: $(VENV)/.ready ## Format the code
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

clean: ## Remove what the other targets made
	rm -rf $(VENV) dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[dev]'
	touch $@
