# make run     the headline case under real threads, about a minute
# make test    the default test suite, in parallel
# make tsan    the engine under ThreadSanitizer, on threads and on explored schedules, four minutes
# make coverage  how much of the engine and of the Python code the suite runs, some minutes
# Everything is installed in .venv; the first call sets it up. PYTHON=python3.12 chooses the interpreter.

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py ptstress/builds.py $(shell find cy -name '*.pxd' -o -name '*.pyx' -o -name '*.pxi')
INSTALLED := $(VENV)/.installed
# A name for them, because commas part the arguments of `call`.
SANITIZED := tsan,tsan_sched,explore
export CC

.PHONY: run test test-long tsan coverage build wheel clean
.DELETE_ON_ERROR:

run: build
	@$(BIN)/ptstress run workloads/headline.toml

test: build
	@$(BIN)/python -m pytest -n auto --dist worksteal

test-long: build
	@$(BIN)/python -m pytest -m long

tsan: build/.built-tsan
	@$(BIN)/python tests/tsan/lane.py

coverage: build
	@$(BIN)/python tests/coverage/lane.py

build: build/.built
	@:

wheel: $(INSTALLED)
	@rm -rf build/lib.* build/bdist.*
	@$(call quietly,build/wheel.log,$(BIN)/python -m build --no-isolation --outdir dist)
	@ls dist

clean:
	@rm -rf build dist ptstress.egg-info ptstress/*.so

# Runs $(2) with its output in the file $(1), which is shown only if it fails.
quietly = mkdir -p $(dir $(1)); $(2) >$(1) 2>&1 || { cat $(1); exit 1; }

build/.built: $(INSTALLED) $(SOURCES)
	@$(call quietly,build/build.log,$(BIN)/python setup.py build_ext --inplace)
	@touch $@

build/.built-tsan: $(INSTALLED) $(SOURCES)
	@$(call quietly,build/build-tsan.log,PTSTRESS_BUILDS=$(SANITIZED) $(BIN)/python setup.py build_ext --inplace)
	@touch $@

# The build requirements stand in pyproject.toml only. The install makes no extension: `build` does.
$(INSTALLED): pyproject.toml
	@missing=$$(sh .ci/missing $(PYTHON)); case "$$missing" in \
	  "") ;; \
	  python*3.11) echo "ptstress needs Python 3.11 or newer, $(PYTHON) is older; get one and say: make PYTHON=python3.12"; exit 1 ;; \
	  *) echo "ptstress needs packages that are not installed: apt-get install -y $$missing"; exit 1 ;; esac
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  >$(VENV)/build-requires.txt
	@$(call quietly,build/install.log,$(BIN)/python -m pip install -q -r $(VENV)/build-requires.txt)
	@$(call quietly,build/install.log,PTSTRESS_BUILDS= $(BIN)/python -m pip install -q --no-build-isolation -e '.[test]')
	@touch $@
