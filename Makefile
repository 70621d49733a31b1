# `make` lists the targets. Run as root (sudo), a target installs with apt what it needs and what is missing.

# Debian's own Python: bcc's binding belongs to it.
PYTHON := /usr/bin/python3
VENV := .venv/bin
# A process for each core, with a lab of its own. The tests of a file share what is loaded and stay together; files are
# taken in the order of the command line, so that what takes long comes first.
PYTEST := $(VENV)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

needs-demo := dnsmasq-base iproute2 nginx python3-bpfcc
needs-venv := python3-bpfcc python3-prometheus-client python3-rich python3-venv
needs-test := $(sort $(needs-demo) $(needs-venv) bpftool gcc groff-base iptables libc6-dev liburing-dev nodejs procps prometheus strace systemd unbound)
needs-kernels := $(sort $(needs-test) busybox-static debian-archive-keyring kmod qemu-system-x86 xz-utils)
needs-bcc := $(sort $(needs-venv) debian-archive-keyring debootstrap)
needs-lint := $(needs-venv) clang-format-14
needs-deb := debhelper dh-python dpkg-dev
needs-debtest := $(sort $(needs-test) $(needs-deb) lintian mmdebstrap)
needs-bench := $(sort $(needs-venv) dnsperf gcc haproxy iperf3 iproute2 libc6-dev nginx wrk)
needs-fuzz := $(needs-venv)
needs-stress := $(sort $(needs-venv) gcc iproute2 libc6-dev)
needs-bench-count := $(sort $(needs-venv) busybox-static debian-archive-keyring gcc kmod libc6-dev qemu-system-x86 xz-utils)
needs-all := $(sort $(needs-test) $(needs-lint))

# What test-kernels runs: on these of Debian's kernels, this selection (see tests/kernels/selection.py).
KERNELS := 5.10 6.1 6.12 sid
TESTS := representative

FUZZ := 60

C_FILES := $(wildcard bpf/*.[ch] tests/*/*.[ch])

.PHONY: help venv demo test test-kernels test-bcc unit bpf e2e bench bench-quick bench-count faults fuzz floods churn \
	lint format lock audit wheel deb debtest clean
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: packages-demo ## nginx and dnsmasq behind a FULLNAT director, before and after ipvsca (root; 5 s, cleans up)
	@$(PYTHON) -u -m tests.demo

venv: $(VENV)/ipvsca ## make .venv, in which .venv/bin/ipvsca runs this checkout, with all tools for its development

test: packages-test $(VENV)/ipvsca ## run all tests: unit, bpf and e2e (root)
	$(PYTEST) tests/e2e tests/bpf tests/unit

unit: packages-test $(VENV)/ipvsca ## run the tests of pure code
	$(PYTEST) tests/unit

bpf: packages-test $(VENV)/ipvsca ## run the tests of the BPF programs, packet by packet (root)
	$(PYTEST) tests/bpf

e2e: packages-test $(VENV)/ipvsca ## run the tests with real connections, applications and a director (root)
	$(PYTEST) tests/e2e

test-kernels: packages-kernels $(VENV)/ipvsca ## run tests on Debian's kernels, 5.10 to sid, emulated (root; slow; see docs/kernels.md)
	$(VENV)/python -m tests.kernels --tests $(TESTS) $(KERNELS)

test-bcc: packages-bcc $(VENV)/ipvsca ## run tests with the bcc of Debian 13 and Ubuntu 24.04, on this kernel (root)
	$(VENV)/python -m tests.kernels.distributions

faults: packages-test $(VENV)/ipvsca ## kill ipvsca before each system call that changes something, refuse it each (root; half an hour); FAULTS="--every 9" for less
	$(VENV)/python -u -m tests.faults $(FAULTS)

bench: packages-bench $(VENV)/ipvsca ## measure what restoring costs (root; 14 min, cleans up); BENCH="--only tcp,udp" for less
	$(VENV)/python -u -m tests.bench $(BENCH)

bench-quick: packages-bench $(VENV)/ipvsca ## the same with fewer and shorter measurements, for a first look (root; 2 min)
	$(VENV)/python -u -m tests.bench --pairs 2 --seconds 1 --only load,tcp,udp,hooks $(BENCH)

bench-count: packages-bench-count $(VENV)/ipvsca ## count the instructions that restoring adds, in a Debian kernel under qemu (root; 1 min)
	$(VENV)/python -u -m tests.bench.counts $(COUNT)

fuzz: packages-fuzz $(VENV)/ipvsca ## mutated packets through the BPF programs and the reference (root; FUZZ=60 seconds)
	$(VENV)/python -u -m tests.fuzz --seconds $(FUZZ)

floods: packages-stress $(VENV)/ipvsca ## floods of a million forged packets, while clients are served (root; 5 min, cleans up)
	$(VENV)/python -u -m tests.stress.floods

churn: packages-stress $(VENV)/ipvsca ## 500,000 connections while the daemon dies and programs are replaced (root; 5 min)
	$(VENV)/python -u -m tests.stress.churn

lint: packages-lint $(VENV)/ipvsca ## check style and types
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	clang-format-14 --dry-run -Werror $(C_FILES)

format: packages-lint $(VENV)/ipvsca ## format Python and C
	$(VENV)/ruff check --fix --select I
	$(VENV)/ruff format
	clang-format-14 -i $(C_FILES)

wheel: $(VENV)/ipvsca ## build the package into dist/
	rm -rf build
	$(VENV)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# Built beside the checkout, which is left as it is.
DEB_SOURCES := bpf debian docs ipvsca monitoring systemd tools CHANGELOG.md README.md SECURITY.md
DEB_BUILD := build/deb/ipvsca
VERSION = $(shell $(PYTHON) -Bc 'import ipvsca; print(ipvsca.__version__)')
DATE = $(shell git log -1 --format=%cD 2>/dev/null || date -R)

deb: packages-deb ## build the Debian package into dist/
	rm -rf build/deb dist/ipvsca_*_all.deb
	mkdir -p $(DEB_BUILD) dist
	cp -r $(DEB_SOURCES) $(DEB_BUILD)
	find $(DEB_BUILD) -name __pycache__ -prune -exec rm -r {} +
	sed 's/@version@/$(VERSION)/; s/@date@/$(DATE)/' debian/changelog.in >$(DEB_BUILD)/debian/changelog
	cd $(DEB_BUILD) && dpkg-buildpackage --build=binary --unsigned-changes --unsigned-buildinfo
	cp build/deb/ipvsca_$(VERSION)_all.deb dist/

SUITE := bookworm

debtest: packages-debtest $(VENV)/ipvsca ## run the tests of the Debian package, in a fresh Debian that boots (root)
	SUITE=$(SUITE) $(VENV)/pytest tests/packages

# The tools that are named in pyproject.toml and all that they need, each with its version and SHA-256.
LOCK := requirements-dev.txt
UV := uv==0.13.9
PIP_AUDIT := pip-audit==2.10.1

lock: packages-venv ## renew the lock of the tools for development (needs PyPI)
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet $(UV)
	$(PYTHON) -m tools.dependencies | build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --custom-compile-command 'make lock' --output-file $(LOCK) -

audit: packages-venv ## ask PyPI whether what is in the lock has a known vulnerability (fails where it cannot tell)
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet $(PIP_AUDIT)
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement $(LOCK)

clean: ## remove everything that make made
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -r {} +

# Tools are those of the lock, byte by byte. What ipvsca itself imports is Debian's.
$(VENV)/ipvsca: pyproject.toml $(LOCK) | packages-venv
	$(PYTHON) -m venv --system-site-packages .venv
	$(VENV)/pip install --quiet --require-hashes --requirement $(LOCK)
	$(VENV)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What Debian merely recommends stays away, lest kernel headers come along. No service is started: nginx, unbound
# and Prometheus are to lie ready for the demo and the tests, not to serve on this machine's ports.
APT := apt-get -qq -o DPkg::Lock::Timeout=300
NO_SERVICES := /usr/sbin/policy-rc.d
SERVICES := haproxy iperf3 nginx prometheus unbound

packages-%:
	@missing=$$(printf '%s\n' $(needs-$*) | grep -vxF "$$(dpkg-query -W -f '$${db:Status-Status} $${Package}\n' \
		$(needs-$*) 2>/dev/null | sed -n 's/^installed //p')") || exit 0; \
	echo "apt-get install --no-install-recommends" $$missing; \
	[ "$$(id -u)" = 0 ] || { echo "make: that needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }; \
	[ -e $(NO_SERVICES) ] || { trap 'rm -f $(NO_SERVICES)' EXIT; trap 'exit 1' HUP INT TERM; \
		printf '#!/bin/sh\nexit 101\n' >$(NO_SERVICES); chmod +x $(NO_SERVICES); }; \
	export DEBIAN_FRONTEND=noninteractive; \
	$(APT) update && $(APT) install --no-install-recommends $$missing >/dev/null || exit 1; \
	for service in $(SERVICES); do case " "$$missing" " in \
		*[[:space:]]$$service[[:space:]]*) systemctl disable --quiet $$service 2>/dev/null;; esac; done; true
