# Everything here needs python3 (3.11, 3.12 or 3.13) with pip, and nothing else on the machine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check long browser lock clean

demo: .venv/demo             ## a talking clip: demo.mp4
	$(BIN)/talker demo -o demo.mp4
	@echo "Wrote demo.mp4: open it with any video player. Next: '$(BIN)/talker say --help' and README.md."

test: .venv/ready check      ## the test suite, lint, types and import contracts
	$(BIN)/python -m pytest -n 2

check: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/module_graph.py && $(BIN)/lint-imports

long: .venv/ready            ## slow tests: empty-environment wheel, kills, large parity
	$(BIN)/python -m pytest -m long

browser: .venv/ready         ## the page in chromium and firefox-esr (apt install chromium firefox-esr)
	$(BIN)/python -m pytest -m browser -rs

# .venv/demo marks the packages that `talker` itself imports, .venv/ready all packages.
.venv/demo: requirements-demo.lock pyproject.toml
	.ci/install $(PYTHON) requirements-demo.lock "3 GB to download, 4.5 GB on disk"
	touch $@

.venv/ready: requirements.lock pyproject.toml
	.ci/install $(PYTHON) requirements.lock "4 GB to download, 7 GB on disk"
	touch $@ .venv/demo

lock:                        ## recompile both lock files (needs uv)
	uv pip compile pyproject.toml --extra train --extra serve --extra livekit --extra pipecat --extra distributed --extra evaluation --extra data --extra dev \
	  --universal --generate-hashes --no-header --no-annotate --python-version 3.11 -q -o requirements.lock
	uv pip compile requirements-demo.in -c requirements.lock --no-emit-package triton --no-emit-package cuda-bindings \
	  --no-emit-package cuda-pathfinder --no-emit-package cuda-toolkit \
	  --universal --generate-hashes --no-header --no-annotate --python-version 3.11 -q -o requirements-demo.lock

clean:
	rm -rf .venv
