# Everything here needs python3 (3.11 or newer) with pip, and nothing else on the machine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check long lock clean

demo: .venv/ready            ## a talking clip: demo.mp4
	$(BIN)/talker say "Hello! I am a talking portrait, and I was generated just now, on this very machine." -o demo.mp4
	@echo "Wrote demo.mp4: open it with any video player. Next: '$(BIN)/talker say --help' and README.md."

test: .venv/ready check      ## the test suite, lint, types and import contracts
	$(BIN)/python -m pytest -n 2

check: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/module_graph.py && $(BIN)/lint-imports

long: .venv/ready            ## slow tests: empty-environment wheel, kills, large parity
	$(BIN)/python -m pytest -m long

# Debian's python3 has no ensurepip, so the environment is made without pip and filled from outside.
# DS_BUILD_OPS=0: DeepSpeed compiles its kernels when they are first needed, not here.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv --without-pip .venv
	DS_BUILD_OPS=0 $(PYTHON) -m pip --python $(BIN)/python install -q --require-hashes -r requirements.lock
	$(PYTHON) -m pip --python $(BIN)/python install -q --no-deps --no-build-isolation -e .
	touch $@

lock:                        ## recompile requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra train --extra serve --extra distributed --extra evaluation --extra data --extra dev \
	  --generate-hashes --no-header --no-annotate --python-version 3.11 -q -o requirements.lock

clean:
	rm -rf .venv
