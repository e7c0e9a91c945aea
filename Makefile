# make demo      run the pipeline on synthetic images; leaves annotated images and a report in demo_out/
# make test      run the tests
# make quick     run the tests that are not marked slow, in about two minutes
# make coverage  run the tests, and print the share of the lines and branches of rmpe_legacy/ that they reach
# make lint      run ruff and mypy; compiles nothing
# make docs      build the documentation site into build/site (warnings are errors)
# make build     compile what has changed in csrc/
# make wheel     build an sdist, and a wheel from it, into dist/
# make bench     time this package and others on this machine (benchmarks/ contains results)
# make sanitize  run the C++ and CUDA loops on the CPU under AddressSanitizer and UBSan
# make aarch64   run the C++ loops for aarch64: a cross compiler builds them, qemu runs them
# make fuzz      feed mutated files to one reader: make fuzz FORMAT=npz SECONDS=60 (docs/security.md lists the formats)
# Each works in a fresh checkout with Python 3.10 to 3.14, gcc and make; everything else is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN = $(VENV)/bin
PACKAGES = $(VENV)/.packages
READY = $(VENV)/.ready
SOURCES = $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu')
OPENCV4 = build/opencv4

FORMAT ?= caffemodel
SECONDS ?= 60
SEED ?= 1

.PHONY: demo test quick coverage lint docs build wheel bench fuzz sanitize aarch64 cuda clean

demo: $(READY)
	$(BIN)/rmpe reproduce demo --quick --output demo_out

test: $(READY) $(OPENCV4)/.ready
	$(BIN)/python -m pytest

quick: $(READY)
	$(BIN)/python -m pytest -m "not slow"

coverage: $(READY) $(OPENCV4)/.ready
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

docs: $(READY)
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[docs]"
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(PACKAGES)
	$(BIN)/ruff check .
	$(BIN)/python -m mypy

build: $(READY)

wheel: $(PACKAGES)
	$(BIN)/python -m build --no-isolation

bench: $(READY)
	for bench in tools/bench_*.py; do echo; echo "python $$bench"; $(BIN)/python $$bench || exit 1; done

fuzz: $(READY)
	$(BIN)/python tools/fuzz $(FORMAT) $(SECONDS) --seed $(SEED)

# Every instruction set, and the CUDA kernels played by a CPU's threads, on wild maps and odd sizes. No torch.
# -O0: with the sanitizers, -O1 takes three times as long to compile the AVX2 loops.
LOOPS = tests/native/kernels.cpp csrc/cpu/kernels_*.cpp csrc/cpu/winograd_*.cpp csrc/cpu/small_net_*.cpp
CHECKED = -fsanitize=address,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow,bounds,shift
sanitize:
	mkdir -p build/sanitize
	for source in $(LOOPS); do \
	    $(CXX) -std=c++20 -O0 -g1 -ffp-contract=off -Wno-unknown-pragmas $(CHECKED) -fno-sanitize-recover=all \
	        -Icsrc -Itests/native -c $$source -o build/sanitize/$$(basename $$source).o || exit 1; \
	done
	$(CXX) $(CHECKED) build/sanitize/*.o -o build/sanitize/kernels
	ASAN_OPTIONS=detect_stack_use_after_return=0 build/sanitize/kernels 2

# What apt calls g++-aarch64-linux-gnu and qemu-user. All of csrc/ is compiled; the loops also run.
AARCH64_CXX ?= aarch64-linux-gnu-g++
AARCH64_RUN ?= qemu-aarch64 -L /usr/aarch64-linux-gnu
AARCH64_FLAGS = -std=c++20 -O1 -ffp-contract=off -fvisibility=hidden -Wall -Wextra -Wno-unused-parameter -Wno-unknown-pragmas \
	-Icsrc -Itests/native
aarch64: $(PACKAGES)
	mkdir -p build/aarch64
	set -e; include=$$($(BIN)/python tools/include_paths.py); \
	for source in csrc/*.cpp csrc/cpu/*.cpp csrc/host/*.cpp; do \
	    echo "$(AARCH64_CXX) $$source"; \
	    $(AARCH64_CXX) $(AARCH64_FLAGS) -DTORCH_TARGET_VERSION=0x020a000000000000 $$include -c $$source \
	        -o build/aarch64/$$(basename $$source).o; \
	done
	$(AARCH64_CXX) $(AARCH64_FLAGS) $(LOOPS) -o build/aarch64/kernels
	$(AARCH64_RUN) build/aarch64/kernels 8

# Packages only. A torch that is installed already is kept if it has the stable ABI that csrc/ is built against.
$(PACKAGES): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip "setuptools>=77" wheel ninja pybind11 numpy build ruff "mypy>=1.15"
	$(BIN)/python -c "import torch; assert tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 10)" 2>/dev/null \
	    || $(BIN)/python -m pip install -q "$(TORCH)"
	touch $@

# The package, editable, with everything the tests need; afterwards only what changed is compiled.
$(VENV)/.installed: $(PACKAGES) setup.py
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[test]"
	touch $@
$(READY): $(VENV)/.installed $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	$(BIN)/python -m compileall -q rmpe_legacy
	touch $@

# OpenCV 5 no longer imports Caffe's files. Tests that need OpenCV 4 find it here, beside .venv, and are skipped if it
# cannot be installed.
$(OPENCV4)/.ready: | $(PACKAGES)
	-$(BIN)/python -m pip install -q --no-deps --target $(OPENCV4) "opencv-python-headless<5" && touch $@

# Compile every CUDA source for the supported GPUs, with any nvcc and any torch; nothing runs.
NVCC ?= nvcc
CUDA_FLAGS = -std=c++20 -O3 --fmad=false -DUSE_CUDA -DTORCH_TARGET_VERSION=0x020a000000000000 -Icsrc \
	-gencode arch=compute_75,code=sm_75 -gencode arch=compute_80,code=sm_80 \
	-gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90 -Xcompiler -fPIC
cuda: $(READY)
	mkdir -p build/cuda
	include=$$($(BIN)/python tools/include_paths.py); \
	for source in $(wildcard csrc/cuda/*.cu); do \
	    echo "nvcc $$source"; $(NVCC) $(CUDA_FLAGS) $$include -c $$source -o build/cuda/$$(basename $$source).o || exit 1; \
	done

clean:
	rm -rf build dist demo_out rmpe_legacy/*.so *.egg-info
