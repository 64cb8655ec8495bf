# Everything is installed into .venv (and .real for the real engine) by these targets; python3 >= 3.11 and make are all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=
LOCK = $(BIN)/uv --no-config pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes --no-annotate \
	--custom-compile-command "make lock" $(ARGS)

.PHONY: demo test real check bench docs dev sdk-suite format lock clean help

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.serve ## an emulated fleet and the proxy before it on http://127.0.0.1:8000/v1, until Ctrl-C; ARGS="--port 8010 --load 0"
	@$(BIN)/bestserve demo $(ARGS)

test: $(VENV)/.test ## the tests
	$(BIN)/pytest $(ARGS)

real: $(VENV)/.test ## a real SGLang on the CPU with a small real model behind the proxy
	$(BIN)/python tests/real/install.py
	$(BIN)/pytest -m real tests/real $(ARGS)

check: dev ## format, lint, types, import walls, docs in step
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m bestserve.proxy.docs --check

bench: $(VENV)/.bench ## what the relay adds, against direct and against small peers
	$(BIN)/python bench/relay.py $(ARGS)

docs: $(VENV)/.serve ## print the generated pages anew
	$(BIN)/python -m bestserve.proxy.docs

sdk-suite: $(VENV)/.test ## openai-python's own tests against the demo
	$(BIN)/python tests/sdk_suite/run.py $(ARGS)

dev: $(VENV)/.dev .links ## everything a contributor needs

format: dev ## put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: dev ## pin what the image installs, keeping pins that still do; ARGS=--upgrade takes the newest
	$(LOCK) pyproject.toml --extra upload --extra zstd --output-file requirements/serve.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) - --output-file requirements/build.lock

clean: ## forget what was installed and built
	rm -rf $(VENV) .real .links build policy/_*.so policy/_*.pyd

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bestserve needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: $(BIN)/python pyproject.toml policy/_reader.c policy/_encode.c policy/_actor.c policy/_seen.h
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.serve
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.serve
	$(PIP) -e '.[bench]'
	@touch $@

# mypy does not follow an editable install's import hook; it reads these links instead (docs/decisions/0001).
.links:
	mkdir -p .links/bestserve
	for room in proxy policy profiles; do ln -sfn ../../$$room .links/bestserve/$$room; done
