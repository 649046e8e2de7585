# Every target sets up the machine first (cmake/setup.sh); only git and make are assumed.
# build/hearth is a link to the release binary.
PREFIX ?= /usr/local
CUDA ?= auto
JOBS := $(shell nproc)

.PHONY: build quickstart test test-asan test-tsan test-long install clean
.DEFAULT_GOAL := build

ifeq ($(CUDA),on)
$(error CUDA=on: this version has no CUDA code yet; leave CUDA out to build for the CPU)
endif

# $(call compile,PRESET,TARGETS)
define compile
	@cmake --preset $(1) --log-level=NOTICE
	@cmake --build build/$(1) -j $(JOBS) --target $(2)
endef

build:
	@cmake/setup.sh
	$(call compile,cpu,hearth)
	@ln -sfn cpu/hearth build/hearth

quickstart: build
	@cmake/quickstart.sh

test: build
	$(call compile,cpu,all)
	@tests/run_tests.sh cpu

test-asan test-tsan: test-%:
	@cmake/setup.sh
	$(call compile,cpu-$*,all)
	@tests/run_tests.sh cpu-$*

test-long: build
	$(call compile,cpu,all)
	@tests/defects/run.sh
	@tests/run_tests.sh cpu long

install: build
	@cmake --install build/cpu --prefix $(PREFIX)

clean:
	rm -rf build
