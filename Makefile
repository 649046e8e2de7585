# Every target sets up the machine first (cmake/setup.sh); only git and make are assumed.
# build/hearth is a link to the release binary.
PREFIX ?= /usr/local
PYTHON ?= python3
CUDA ?= auto
JOBS := $(shell nproc)

.PHONY: build quickstart test test-asan test-tsan test-long bench-cpu goldens install clean
.DEFAULT_GOAL := build

ifeq ($(CUDA),on)
$(error CUDA=on: this version has no CUDA code yet; leave CUDA out to build for the CPU)
endif

# $(call compile,PRESET,TARGETS)
define compile
	@cmake/setup.sh
	@cmake --preset $(1) --log-level=NOTICE >/dev/null
	@cmake --build build/$(1) -j $(JOBS) --target $(2)
	@ln -sfn cpu/hearth build/hearth
endef

build:
	$(call compile,cpu,hearth)

quickstart: build
	@cmake/quickstart.sh

test:
	$(call compile,cpu,all)
	@tests/run_tests.sh cpu

test-asan test-tsan: test-%:
	$(call compile,cpu-$*,all)
	@tests/run_tests.sh cpu-$*

test-long:
	$(call compile,cpu,all)
	@tests/run_tests.sh cpu long

# These two need torch and transformers in the Python environment that PYTHON names.
bench-cpu: build
	@$(PYTHON) tests/bench/bench_cpu.py --hearth build/hearth

goldens:
	@$(PYTHON) tests/golden/make_goldens.py

install: build
	@cmake --install build/cpu --prefix $(PREFIX)

clean:
	rm -rf build
