# make run              a shell in a container (make run CMD='echo hello': one command)
# make test             every check and every test; as root, or with sudo
# make check            the linters alone
# make bench            speed against its peers, written to benchmarks/out/
# make fuzz             a million inputs for all that parses (make fuzz MINIBOX_FUZZ=100000)
# make vm-test          the tests under systemd and cgroup v2, in a machine made for them (root; ARGS=…)
# make load             1,000 containers alive at once, written to benchmarks/out/
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES := $(shell find minibox csrc rootfs/etc -type f -not -path '*__pycache__*') setup.py pyproject.toml
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
export CMD
.SILENT:
.PHONY: run setup test check lint-c lint-vm fuzz bench load vm-test clean

run: setup
	if [ -n "$$CMD" ]; then exec $(BIN)/minibox run ./rootfs /bin/sh -c "$$CMD"; \
	else exec $(BIN)/minibox run ./rootfs /bin/sh; fi

setup: .venv/installed rootfs/bin/busybox

.venv/created:
	PYTHON=$(PYTHON) tools/setup run </dev/null
	$(PYTHON) -m venv .venv
	$(PIP) install 'setuptools>=77' 'cffi>=1.15' wheel
	touch $@

.venv/installed: .venv/created $(SOURCES)
	rm -rf build # or a module that was moved would be installed from there
	$(PIP) install --no-build-isolation --force-reinstall --no-deps .
	$(PIP) install --no-build-isolation .
	touch $@

rootfs/bin/busybox: .venv/installed
	$(BIN)/minibox rootfs build rootfs
	touch -c $@

.venv/tested: .venv/installed
	PYTHON=$(PYTHON) tools/setup test </dev/null
	$(PIP) install --no-build-isolation '.[test,check,plots]'
	touch $@

test: setup .venv/tested check
	$(SUDO) $(BIN)/pytest tests

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*.[ch] csrc/lab/*.[ch] benchmarks/*.c \
		tests/escape/*.[ch] tests/escape/preload/*.c
	$(MAKE) lint-c lint-vm

# The C code as the compiler's analyser, a linter and the other architecture see it.
lint-c: .venv/tested
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability,performance \
		--inline-suppr --suppress=missingIncludeSystem csrc/*.c csrc/lab/*.c
	for file in csrc/*.c csrc/lab/*.c; do \
		gcc -std=gnu11 -Wall -Wextra -Werror -fanalyzer -O2 -c $$file -o /dev/null || exit 1; \
		aarch64-linux-gnu-gcc -std=gnu11 -Wall -Wextra -Werror -O2 -c $$file -o /dev/null || exit 1; \
	done

# Where there is Vagrant. What it makes of its own goes where it is not in the way.
lint-vm: .venv/tested
	if command -v vagrant >/dev/null; then \
		export VAGRANT_HOME=$$PWD/.venv/vagrant VAGRANT_DOTFILE_PATH=$$PWD/.venv/vagrant/machine; \
		export VAGRANT_CHECKPOINT_DISABLE=1; \
		vagrant plugin list | grep -q libvirt || how=--ignore-provider; \
		vagrant validate $$how; \
	fi

vm-test: setup .venv/tested
	PYTHON=$(PYTHON) tools/setup vm-test $(ARCH) </dev/null
	$(SUDO) $(BIN)/python tools/vm $(or $(ARCH),$(shell dpkg --print-architecture)) $(ARGS)

fuzz: setup .venv/tested
	$(SUDO) env MINIBOX_FUZZ=$(or $(MINIBOX_FUZZ),1000000) $(BIN)/python tests/fuzz/million.py

bench: setup
	PYTHON=$(PYTHON) tools/setup bench </dev/null
	$(PIP) install matplotlib
	$(SUDO) $(BIN)/python benchmarks/bench.py
	$(SUDO) $(BIN)/python benchmarks/throughput.py

load: setup
	$(SUDO) $(BIN)/python benchmarks/load.py
	$(SUDO) $(BIN)/python benchmarks/load.py --net bridge --containers 250

clean:
	rm -rf .venv build dist *.egg-info benchmarks/out minibox/_core.c minibox/_lab.c minibox/_trace.c minibox/_seccomp.py
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
