# make demo          install everything and run the whole chain on generated images
# make test          install everything and run all tests
# make test-pi       test a device's installation on an emulated Raspberry Pi
# make test-streams  test the camera loop against faulty servers
# make docs          build the documentation as a site: site/index.html
# make check         check format, lint, types and the rules of import

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_OUT ?= demo_out
TEST_JOBS ?= 2
# Keep bytecode: without it, the import of torch, torchvision and timm takes 11 s instead of 5 s in every process.
export PYTHONDONTWRITEBYTECODE :=
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)  # GNU Make 3 has no --output-sync

.PHONY: demo test test-edge_mrcnn test-training test-commands test-quantize test-runtimes test-packaging test-pi test-streams docs check setup clean

setup: $(STAMP)

# uv installs in seconds, pip in minutes. uv is a wheel, so pip alone can install it.
$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13) and "edge-mrcnn needs Python 3.10 to 3.13, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet -r requirements.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/edge-mrcnn demo --output $(DEMO_OUT)

# One process for each group: no process of a user imports every converter and runtime. Two groups run at a time, the
# longest first. Each group prints its output at its end. On one core: make test TEST_JOBS=1
test: $(STAMP)
	@echo "six groups of tests, $(TEST_JOBS) at a time; each prints its output at its end"
	@$(MAKE) --no-print-directory --jobs $(TEST_JOBS) $(SYNC) --keep-going \
		test-edge_mrcnn test-training test-quantize test-commands test-packaging test-runtimes

# Tests of the command line and of cameras wait more than they compute, so they run beside the others.
COMMANDS := $(wildcard tests/edge_mrcnn/test_cli*.py tests/edge_mrcnn/test_live*.py)

# Training and pruning, in a group of their own so that no group is much longer than the others.
TRAINING := $(wildcard tests/edge_mrcnn/test_train*.py tests/edge_mrcnn/test_prune*.py tests/edge_mrcnn/test_full_disk.py)

test-edge_mrcnn: $(STAMP)
	$(BIN)/python -m pytest tests/edge_mrcnn tests/test_imports.py tests/test_names.py $(COMMANDS:%=--ignore=%) $(TRAINING:%=--ignore=%)

test-training: $(STAMP)
	$(BIN)/python -m pytest $(TRAINING)

test-commands: $(STAMP)
	$(BIN)/python -m pytest $(COMMANDS)

test-quantize: $(STAMP)
	$(BIN)/python -m pytest tests/quantize

test-runtimes: $(STAMP)
	$(BIN)/python -m pytest tests/runtimes

test-packaging: $(STAMP)
	$(BIN)/python -m pytest tests/test_packaging.py tests/test_people.py tests/test_typing.py tests/test_docs.py tests/test_words.py tests/test_evidence.py tests/test_architecture.py tests/test_gpu_script.py

# On an emulated Raspberry Pi 4 and 5. Without an emulator the tests are skipped with a message.
test-pi: $(STAMP)
	.ci/test-pi

test-streams: $(STAMP)
	.ci/test-streams

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_imports.py -k arrows

clean:
	rm -rf $(VENV) $(DEMO_OUT)
