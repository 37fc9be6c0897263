# What a stranger runs: make demo, make test. Everything lives in .venv; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := iac tests bench demo

.DEFAULT_GOAL := help
.PHONY: help demo test faults simulate soak check bench fmt lock clean chromium browse

help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

# The stamp is written last, so that an environment that was cut off is finished by the next make.
$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "IAC needs Python 3.11, 3.12 or 3.13; say which one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making the environment in $(VENV) (once; about a minute) …"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RUN) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.ready ## the whole story on this machine; ONESHOT=1 ends when it is told
	@$(RUN) -m demo

test: $(VENV)/.ready chromium ## every test but the faults, and the tests in a browser, that take long
	$(RUN) -m pytest -n 3 --dist worksteal -q -m "not slow_fault and not slow_browser"

# The pages in a real Chromium. As root on Debian it is installed where there is none; where it cannot be had, the tests are
# skipped, and the end of the run says so.
CHROMIUM := chromium chromium-browser google-chrome google-chrome-stable $(IAC_TEST_CHROMIUM)
APT := DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15
chromium:
	@there() { for name in $(CHROMIUM); do command -v "$$name" >/dev/null && return; done; false; }; \
	if ! there && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium for the tests of the UI (once) …"; \
	  $(APT) update; $(APT) install -y --no-install-recommends chromium fonts-liberation >/dev/null; \
	fi; \
	there || echo "There is no Chromium, and it could not be installed: the UI will not be tested in a browser." >&2

browse: $(VENV)/.ready chromium ## every page of the UI in a real Chromium
	$(RUN) -m pytest -n 2 --dist loadfile -q tests/browser

faults: $(VENV)/.ready ## every fault of the table (network, crashes, restarts), and how each row did
	$(RUN) -m pytest -n 2 --dist worksteal -q tests/faults

check: $(VENV)/.ready ## lint, format, types
	$(RUN) -m ruff check $(SOURCES)
	$(RUN) -m ruff format --check $(SOURCES)
	$(RUN) -m mypy

simulate: $(VENV)/.ready ## ten thousand stories of a fleet in trouble; a seed repeats a failure
	$(RUN) -m tests.simulation

soak: $(VENV)/.ready ## MINUTES=10 of real programs under load while everything is killed and cut off; SEED= repeats the faults
	@$(RUN) -m tests.soak --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.ready ## performance against bare Terraform; writes bench/results.json
	$(RUN) -m bench

fmt: $(VENV)/.ready ## format
	$(RUN) -m ruff check --fix $(SOURCES)
	$(RUN) -m ruff format $(SOURCES)

lock: $(VENV)/.ready ## resolve the dependencies anew into requirements.lock
	$(RUN) -m piptools compile --quiet --all-extras --generate-hashes --strip-extras --allow-unsafe --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade -o requirements.lock pyproject.toml

clean: ## remove the environment and what tests and demo left
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
