# make demo   the main job, from a fresh checkout: it leaves a page and pictures in demo_out/
# make test   the tests, from a fresh checkout
# Both need Python 3.10 to 3.13, gcc and make; everything else goes into .venv.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN = $(VENV)/bin
SOURCES = $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu') setup.py pyproject.toml
READY = $(VENV)/.ready
OPENCV4 = build/opencv4

.PHONY: demo test lint bench cuda clean

demo: $(READY)
	$(BIN)/rmpe reproduce demo --quick --output demo_out

test: $(READY) $(OPENCV4)/.ready
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .

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
