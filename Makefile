# One .venv at the root, made from pyproject.toml and constraints.txt, with the Rust extension built into it.
# Needs Rust (cargo) and Python 3.10 or newer, and nothing else that was installed by hand.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
REPORT := benches/report
RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)

# Waiting OpenMP threads that spin take the cores from whoever works.
export OMP_WAIT_POLICY := PASSIVE
# One interpreter for every cargo call; a changing one would rebuild PyO3 each time.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.PHONY: accuracy demo test test-slow test-arm bench check docs clean
.DEFAULT_GOAL := test

demo: $(BUILT)
	$(BIN)/python examples/digits.py $(DEMO_FLAGS)

test: check
	cargo test --locked --workspace --exclude nashquant-python
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(BUILT)
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -m "slow or hypothesis"

# The kernels on an emulated ARM CPU; the extension is compiled for it, and not run.
ARM := aarch64-unknown-linux-gnu
test-arm: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
test-arm: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := qemu-aarch64 -L /usr/aarch64-linux-gnu
test-arm: $(INSTALLED)
	@if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null \
	    && test -e /usr/aarch64-linux-gnu/lib/libc.so.6 \
	    && test -d "$$(rustc --print target-libdir --target $(ARM))"; then \
	    cargo clippy --locked --workspace --target $(ARM) -- -D warnings \
	    && cargo test --locked --target $(ARM) -p nashquant-kernels; \
	else \
	    echo "ARM: not tested, it needs Rust's target $(ARM) (rustup target add) and Debian's packages" \
	        "gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user"; \
	fi

# The short version: under five minutes on two quiet cores, under six with all other packages.
# BENCH_FLAGS=--benchmark-disable runs every bench once and times nothing.
bench: $(BUILT)
ifneq ($(findstring --benchmark-disable,$(BENCH_FLAGS)),)
	cargo test --locked --quiet -p nashquant-kernels --benches
endif
	$(BIN)/python -m pytest benches/bench_*.py -q --report=$(REPORT) $(BENCH_FLAGS)

# Ten minutes or so; goes on where it was stopped.
accuracy: $(BUILT)
	$(BIN)/python -m benches.accuracy $(ACCURACY_FLAGS)

check: $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest nashquant._core
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(BIN)/python benches/instructions.py

docs: $(BUILT)
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean: ## everything built; the downloaded packages in .venv stay
	rm -rf target build docs/_build $(INSTALLED) $(BUILT) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f python/nashquant/_core*.so

$(INSTALLED): pyproject.toml constraints.txt
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust first (https://rustup.rs)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is $$($(PYTHON) -V); Python 3.10 or newer is needed (make PYTHON=python3.12)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt maturin
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

$(BUILT): $(INSTALLED) $(RUST)
	$(BIN)/maturin develop --release --locked --skip-install --quiet
	@touch $@
