# make demo      run the pipeline on synthetic images; leaves annotated images and a report in demo_out/
# make test      run the tests
# make docs      build the documentation site into build/site (warnings are errors)
# make bench     time this package and others on this machine (benchmarks/ contains results)
# make sanitize  run the C++ and CUDA loops on the CPU under AddressSanitizer and UBSan
# make fuzz      feed mutated files to one reader: make fuzz FORMAT=npz SECONDS=60 (docs/security.md lists the formats)
# Each works in a fresh checkout with Python 3.10 to 3.13, gcc and make; everything else is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN = $(VENV)/bin
SOURCES = $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu') setup.py pyproject.toml
READY = $(VENV)/.ready
OPENCV4 = build/opencv4

FORMAT ?= caffemodel
SECONDS ?= 60
SEED ?= 1

.PHONY: demo test docs lint bench fuzz sanitize cuda clean

demo: $(READY)
	$(BIN)/rmpe reproduce demo --quick --output demo_out

test: $(READY) $(OPENCV4)/.ready
	$(BIN)/python -m pytest

docs: $(READY)
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[docs]"
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(READY)
	$(BIN)/ruff check .

bench: $(READY)
	for bench in tools/bench_*.py; do echo; echo "python $$bench"; $(BIN)/python $$bench || exit 1; done

fuzz: $(READY)
	$(BIN)/python tools/fuzz $(FORMAT) $(SECONDS) --seed $(SEED)

# Every instruction set, and the CUDA kernels by turns of a CPU's threads, on wild maps and odd sizes. No torch.
# -O0: with the sanitizers, the AVX2 loops compile in 14 s of CPU time, and in 42 s with -O1.
CHECKED = -fsanitize=address,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow,bounds,shift
sanitize:
	mkdir -p build/sanitize
	for source in tests/native/kernels.cpp csrc/cpu/kernels_*.cpp; do \
	    $(CXX) -std=c++20 -O0 -g1 -ffp-contract=off -Wno-unknown-pragmas $(CHECKED) -fno-sanitize-recover=all \
	        -Icsrc -Itests/native -c $$source -o build/sanitize/$$(basename $$source).o || exit 1; \
	done
	$(CXX) $(CHECKED) build/sanitize/*.o -o build/sanitize/kernels
	ASAN_OPTIONS=detect_stack_use_after_return=0 build/sanitize/kernels 2

# A torch that is there already serves if it has the stable ABI that csrc/ is built against.
$(READY): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip "setuptools>=77" wheel ninja pybind11 numpy
	$(BIN)/python -c "import torch; assert tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 10)" 2>/dev/null \
	    || $(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[test]"
	touch $(READY)

# OpenCV 5 has no importer of Caffe's files any more. Tests that ask one find OpenCV 4 here, beside .venv; where it
# cannot be had, they are skipped.
$(OPENCV4)/.ready: | $(READY)
	-$(BIN)/python -m pip install -q --no-deps --target $(OPENCV4) "opencv-python-headless<5" && touch $@

# Compile every CUDA source for the supported GPUs, with any nvcc and any torch; nothing runs.
NVCC ?= nvcc
CUDA_FLAGS = -std=c++20 -O3 --fmad=false -DUSE_CUDA -DTORCH_TARGET_VERSION=0x020a000000000000 -Icsrc \
	-gencode arch=compute_75,code=sm_75 -gencode arch=compute_80,code=sm_80 \
	-gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90 -Xcompiler -fPIC
cuda: $(READY)
	mkdir -p build/cuda
	include=$$($(BIN)/python -c "from torch.utils.cpp_extension import include_paths as p; print(*('-I' + d for d in p()))"); \
	for source in $(wildcard csrc/cuda/*.cu); do \
	    echo "nvcc $$source"; $(NVCC) $(CUDA_FLAGS) $$include -c $$source -o build/cuda/$$(basename $$source).o || exit 1; \
	done

clean:
	rm -rf build demo_out rmpe_legacy/*.so *.egg-info
