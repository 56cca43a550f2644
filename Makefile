# make demo    everything once, on real photos: prepare, train, evaluate, promote, restore, one page
# make test    unit tests and the tests that start a local Ray, a few minutes
# make test-cluster   the verbs on a cluster of hosts in namespaces of this machine: root, Linux, Ceph
# make docs    the pages, in site/; make bench    all measurements, one page of ratios
# Each makes its own environment, so that a missing requirement shows.

PYTHON ?= python3
# Where torch comes from; for a CPU build on a machine without GPU for example
# make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# A folder or bucket of photos for the demo; scikit-image's own when empty.
PHOTOS ?=
# STORE=s3 runs the demo on a local S3 server of its own; anything else is a folder or bucket.
STORE ?=
ARGS ?=
# Test files that run at the same time: half of the time of those that start Ray is waiting.
PARALLEL ?= 2

BIN := .venv/bin
TEST := .venv-test/bin
# A file stays in one process, so that its tests share what they start, and long files come first.
XDIST := --numprocesses $(PARALLEL) --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup check format test test-all test-cluster demo bench soak docs constraints clean

setup: .venv/.complete

.venv/.complete: pyproject.toml constraints.txt
	$(PYTHON) infra/check_python.py
	@echo "installing into .venv (torch, Ray and MLflow: about 1 GB, minutes)"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[demo]'
	touch $@

.venv-test/.complete: pyproject.toml constraints.txt
	$(PYTHON) infra/check_python.py
	@echo "installing into .venv-test (torch, Ray, MLflow and the tools: about 1 GB, minutes)"
	$(PYTHON) -m venv --clear .venv-test
	$(TEST)/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[test]'
	touch $@

demo: setup
ifeq ($(STORE),s3)
	$(BIN)/python infra/local_s3.py -- $(BIN)/laformer demo $(if $(PHOTOS),--photos "$(PHOTOS)") $(ARGS)
else
	$(if $(STORE),LAFORMER_STORE="$(STORE)") $(BIN)/laformer demo $(if $(PHOTOS),--photos "$(PHOTOS)") $(ARGS)
endif

check: .venv-test/.complete
	$(TEST)/ruff check .
	$(TEST)/ruff format --check .
	$(TEST)/mypy
	$(TEST)/lint-imports

format: .venv-test/.complete
	$(TEST)/ruff check --fix .
	$(TEST)/ruff format .

test: .venv-test/.complete
	$(TEST)/pytest -m "not slow and not cluster" $(XDIST) $(ARGS)

test-all: .venv-test/.complete
	$(TEST)/pytest -m "not cluster" $(XDIST) --hypothesis-profile=explore $(ARGS)

test-cluster: .venv-test/.complete
	$(TEST)/pytest -m cluster tests/cluster $(ARGS)

bench: .venv-test/.complete
	$(TEST)/python -m tests.perf.bench $(ARGS)

soak: .venv-test/.complete
	$(TEST)/python -m tests.perf.soak $(ARGS)

docs: .venv-test/.docs
	rm -rf site
	$(TEST)/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet docs site
	@echo "open site/index.html"

.venv-test/.docs: .venv-test/.complete
	$(TEST)/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[docs]'
	touch $@

constraints: .venv-test/.docs
	@$(TEST)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'

clean:
	rm -rf .venv .venv-test site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
