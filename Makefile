# Everything a checkout can do, on a machine with nothing but Python 3.11+ and make.
PYTHON ?= $(shell for each in python3.13 python3.12 python3.11 python3; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: help demo test models keys soak bench instructions mutants check types lint format coverage clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.ready ## Run the main job: plain httpx against a flaky server, then Resilience
	$(RUN) examples/quickstart.py

test: $(VENV)/.ready ## Run the tests
	$(RUN) -m pytest

models: $(VENV)/.ready ## Run the model-based tests with 10,000 examples each
	$(RUN) -m pytest tests/models --hypothesis-profile=long

keys: $(VENV)/.ready ## Drive a million keys through a limiter and a breaker, and measure
	$(RUN) tests/measure_keys.py

soak: $(VENV)/.ready ## Let random faults and cancellations play with the HTTP client for a minute
	$(RUN) tests/measure_soak.py

bench: ## Compare speed and memory with what people would use instead; ARGS=--quick for a short trial
	$(PYTHON) -m tests.benchmarks $(ARGS)

instructions: $(VENV)/.ready ## Count the instructions of a call of each policy; ARGS=--accept to accept them
	$(RUN) -m tests.benchmarks.instructions $(ARGS)

# On CPython 3.11 the wrappers that mutmut puts around every function crash the interpreter.
mutants: $(VENV)/.ready ## Change the library a bit at a time and see whether the tests notice; MODULE=_keys for one
	$(RUN) -m pip install --quiet --editable '.[mutants]'
	$(RUN) -m mutmut run "resilience.$(MODULE)*"
	$(RUN) -m mutmut results

check: lint types coverage ## Everything that must be green

lint: $(VENV)/.ready ## Check style and format
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

types: $(VENV)/.ready ## Check the types with mypy and pyright, both strict
	$(RUN) -m mypy
	$(RUN) -m pyright --pythonpath $(RUN)

coverage: $(VENV)/.ready ## Run the tests and require 95 % branch coverage, of the core 100 %
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report
	$(RUN) -m coverage report --include='resilience/*' --fail-under=100

format: $(VENV)/.ready ## Format the code
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

clean: ## Remove what the other targets made
	rm -rf $(VENV) dist .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis mutants .bench

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[dev]'
	touch $@
