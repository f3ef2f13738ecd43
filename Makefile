# One environment for everything: .venv, made anew whenever pyproject.toml or constraints.txt changes. `make demo VENV=/folder`
# has it elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The folder of the environment by its whole path, which may hold blanks: make's own functions for paths do not bear them.
WHOLE := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)
STAMP := $(VENV)/installed
# pip compiles one file after the other, also the tests of all packages: `compileall` below takes all cores and leaves those out.
PIP := $(BIN)/pip install --quiet --no-compile
# For the two hundred other packages: an eighth of pip's time.
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
export PATH := $(WHOLE)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: demo check test test-long lint docs ui mlproject reference constraints clean

# The main job on the built-in digits, as an MLflow Project. MLflow opens the store before the
# project's code runs: it is made first, in a way that bears several processes, and working folders with any characters.
demo: $(STAMP)
	@python -m sensai.tracking.tracking_store mlflow run . --env-manager local -P config=entrypoints/demo.yaml
	@echo "open the MLflow UI with: make ui"

# Each test process has a core to itself; threads that wait leave theirs to others.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# What runs stages, trains, or goes through every network takes minutes: `make check` leaves it to `make test`.
MINUTES := stages pipeline stored analysis registry training runtimes activations pruning models/test_torchvision_members.py

# Three levels of tests. The short one starts no other process; the long one is for what takes CI too long.
check: lint
	@$(PYTEST) -m "not long and not processes" $(MINUTES:%=--ignore=tests/%)

test: lint
	@$(PYTEST)

test-long: $(STAMP)
	@$(PYTEST) -m long -rs

lint: $(STAMP)
	@ruff check .
	@ruff format --check .
	@mypy --num-workers auto

# The site, in build/docs/index.html. Warnings are errors, and so are links to pages, headings and files that do not exist.
docs: $(STAMP)
	@sphinx-build --fail-on-warning --keep-going --fresh-env --quiet -d build/doctrees docs build/docs

# The MLflow UI on loopback; it prints the address that opens the runs.
ui: $(STAMP)
	@python -m sensai ui

# MLproject is written from the stages' configurations.
mlproject: $(STAMP)
	@python -m sensai.config.mlproject > MLproject.new && mv MLproject.new MLproject

# The reference pages of all parameters, and of all that runs log, likewise.
reference: $(STAMP)
	@python -m sensai.config.reference > docs/reference/parameters.new
	@python -m sensai.tracking.logged_names > docs/reference/metrics.new
	@for page in parameters metrics; do mv docs/reference/$$page.new docs/reference/$$page.md; done

# The exact versions that everything is run with: the newest that pyproject.toml allows, or with RESOLUTION=lowest-direct the oldest.
RESOLUTION ?= highest
constraints: $(STAMP)
	@UV_CUSTOM_COMPILE_COMMAND="make constraints" uv pip compile --quiet pyproject.toml --all-extras --universal --upgrade \
	  --python-version 3.11 --resolution $(RESOLUTION) --no-emit-index-url --no-annotate --output-file constraints.txt

# pip first: it takes torch from where this machine's administrator keeps it, which uv does not look at.
$(STAMP): pyproject.toml constraints.txt
	$(if $(findstring %,$(WHOLE)),$(error MLflow cannot be installed in a folder with % in its name: $(WHOLE); name another: make VENV=/folder))
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --constraint constraints.txt uv torch torchvision
	@$(UV) --constraint constraints.txt --editable ".[dev,docs,ray,serve,timm]"
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/|/torch/testing/' $(VENV)/lib || true
	@touch $@

clean:
	@rm -rf $(VENV) .sensai mlruns mlflow.db optuna.db build
