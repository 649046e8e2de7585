# Every target sets up the machine first (cmake/setup.sh); only git and make are assumed.
# build/hearth is a link to the release binary.
PREFIX ?= /usr/local
PYTHON ?= python3
CUDA ?= auto
JOBS := $(shell nproc)

.PHONY: build quickstart test test-asan test-tsan test-long test-gpu portable bench-cpu bench-gpu goldens install \
  package clean
.DEFAULT_GOAL := build

# CUDA is compiled where there are a toolkit and a working GPU, for that GPU; CUDA=on: for all that
# Hearth supports, wherever there is a toolkit; CUDA=off: not at all.
NVCC := $(shell cmake/find_nvcc.sh)
ifeq ($(CUDA),auto)
PRESET := $(if $(NVCC),$(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu),cpu)
else ifeq ($(CUDA),on)
$(if $(NVCC),,$(error CUDA=on: no nvcc 12.8 or later in PATH, CUDA_HOME or /usr/local/cuda))
PRESET := cuda
ARCHITECTURES := -DHEARTH_CUDA_ARCHITECTURES="80;86;89;90;120"
else
PRESET := cpu
endif

# $(call compile,PRESET,TARGETS)
define compile
	@cmake/setup.sh
	@cmake --preset $(1) $(if $(filter cuda%,$(1)),-DHEARTH_NVCC=$(NVCC)) $(ARCHITECTURES) \
	  --log-level=NOTICE >/dev/null
	@cmake --build build/$(1) -j $(JOBS) --target $(2)
endef

build:
	$(call compile,$(PRESET),hearth)
	@ln -sfn $(PRESET)/hearth build/hearth

quickstart: build
	@cmake/quickstart.sh

test:
	$(call compile,cpu,all)
	@tests/run_tests.sh cpu

test-asan test-tsan: test-%:
	$(call compile,cpu-$*,all)
	@tests/run_tests.sh cpu-$*

# The kernel, golden, property and resume tests on the first GPU.
test-gpu:
	$(if $(NVCC),,$(error test-gpu: no nvcc 12.8 or later in PATH, CUDA_HOME or /usr/local/cuda))
	$(call compile,cuda,hearth hearth-gpu-tests)
	@tests/run_tests.sh cuda gpu

# What a machine needs that has CUDA and Open MPI but not the rest, in one folder.
portable:
	$(if $(NVCC),,$(error portable: no nvcc 12.8 or later in PATH, CUDA_HOME or /usr/local/cuda))
	$(call compile,cuda-portable,hearth hearth-gpu-tests)
	@cmake/stage.sh build/cuda-portable

# libFuzzer comes with clang.
test-long:
	@cmake/setup.sh clang libclang-rt-dev
	$(call compile,cpu,all)
	@tests/run_tests.sh cpu long

# These need torch, and all but bench-gpu transformers, in the Python environment that PYTHON names.
bench-cpu: build
	@$(PYTHON) tests/bench/bench_cpu.py --hearth build/hearth

# make bench-gpu BENCH="--size 7b --precision fp8 bf16"
bench-gpu: build
	@$(PYTHON) tests/bench/bench_gpu.py --hearth build/hearth $(BENCH)

goldens:
	@$(PYTHON) tests/golden/make_goldens.py
	@$(PYTHON) -B tests/golden/make_chat_goldens.py

# DESTDIR=FOLDER puts it below that folder.
install: build
	@cmake --install build/$(PRESET) --prefix $(PREFIX)

# A tarball, and of a CPU build a Debian package, in build/packages/.
package: build
	@cmake/setup.sh dpkg-dev
	@cpack --config build/$(PRESET)/CPackConfig.cmake -B build/packages
	@rm -rf build/packages/_CPack_Packages

clean:
	rm -rf build
