# The two commands: `make demo` runs the main job with everything embedded; `make test` passes all tests.
# Both set up what they need: Debian packages (as root), a virtual environment, the native parts.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAGE := $(CURDIR)/build/stage
JOBS ?= $(shell nproc)
SANITIZE := address,undefined
CCACHE := $(shell command -v ccache)
CMAKE_FLAGS := -G Ninja -DCMAKE_MAKE_PROGRAM=$(BIN)/ninja -DPython3_EXECUTABLE=$(BIN)/python \
  $(if $(CCACHE),-DCMAKE_CXX_COMPILER_LAUNCHER=$(CCACHE) -DCMAKE_C_COMPILER_LAUNCHER=$(CCACHE))

.DEFAULT_GOAL := help
.PHONY: help demo test venv native native-sanitize wheel check format lock clean packages test-packages

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: native test-packages  ## the main job, from nothing, with everything embedded
	$(BIN)/python -m demo $(DEMO_FLAGS)

test: check native native-sanitize test-packages  ## all tests
	GPUFERRY_WAYS=sanitized,sanitized-forwarded $(BIN)/python -m pytest -q -n $(JOBS) tests/programs/test_cuda_programs.py
	setup/run-tests $(BIN)/python $(JOBS) $(PYTEST_FLAGS)

packages:
	@setup/system-packages build

test-packages:
	@setup/system-packages test

venv: $(VENV)/.ready  ## the virtual environment, pinned by constraints.txt
$(VENV)/.ready: pyproject.toml constraints.txt | packages
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt pip
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --group build --group test
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation \
	  -C wheel.cmake=false -e '.[client,gpuserver,vcenter,appliance,postgresql,console]'
	touch $@

native: venv  ## the native parts, installed under build/stage
	@mkdir -p build
	$(BIN)/cmake -S . -B build/native $(CMAKE_FLAGS) -DCMAKE_BUILD_TYPE=Release >build/native-configure.log 2>&1 \
	  || { cat build/native-configure.log; exit 1; }
	$(BIN)/cmake --build build/native -j $(JOBS)
	$(BIN)/cmake --install build/native --prefix $(STAGE) >/dev/null

wheel: native  ## the wheel of all parts, of what `make native` has built, under dist
	$(BIN)/python -m pip wheel . -q --disable-pip-version-check --no-build-isolation --no-deps -w dist \
	  -C build-dir=build/wheel-prebuilt -C cmake.define.GPUFERRY_PREBUILT=$(STAGE)

native-sanitize: venv  ## the same with $(SANITIZE), under build/stage-sanitize
	@mkdir -p build
	$(BIN)/cmake -S . -B build/sanitize $(CMAKE_FLAGS) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	  -DGPUFERRY_SANITIZE=$(SANITIZE) >build/sanitize-configure.log 2>&1 || { cat build/sanitize-configure.log; exit 1; }
	$(BIN)/cmake --build build/sanitize -j $(JOBS)
	$(BIN)/cmake --install build/sanitize --prefix $(STAGE)-sanitize >/dev/null

check: venv  ## ruff, mypy strict, import contracts, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/vermin -q --no-tips --eval-annotations --target=3.9- --violations clientagent gpuserver/protocol/control gpuserver/protocol/version.py appliance/deploy/on_target
	git ls-files '*.cpp' '*.h' | xargs -r $(BIN)/clang-format --dry-run -Werror

format: venv  ## rewrite the sources in the agreed format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.cpp' '*.h' | xargs -r $(BIN)/clang-format -i

lock:  ## renew constraints.txt from what pyproject.toml allows today
	rm -rf build/lock && mkdir -p build && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -q --disable-pip-version-check -U pip
	build/lock/bin/python -m pip install -q --disable-pip-version-check --group build --group test
	build/lock/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation -C wheel.cmake=false \
	  -e '.[client,gpuserver,vcenter,appliance,postgresql,console]'
	{ echo '# Written by `make lock`.'; build/lock/bin/python -m pip freeze --all --exclude-editable; } >constraints.txt

clean:  ## remove what the build made
	rm -rf build dist
