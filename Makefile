# Tandem. `make demo` and `make test` are all that a newcomer needs.
#
# RocksDB is compiled once, by storage/build-rocksdb. One Cargo profile (release) serves build, test and clippy.
# Under CI the build goes to a folder outside the checkout, which may be kept between runs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

ifneq ($(CI),)
export CARGO_TARGET_DIR ?= $(HOME)/.cache/tandem-target
# What is built once is not built faster the next time.
export CARGO_INCREMENTAL ?= 0
ROCKSDB_DIR ?= $(CARGO_TARGET_DIR)/rocksdb
endif
ROCKSDB_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tandem-rocksdb
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/release

# What a build and the tests need of Debian: package names, and how each is recognised.
PACKAGES := libclang-dev clang g++ cmake pkg-config libssl-dev sip-tester nftables iproute2 faketime

# Simulated runs of the core: two halves, for two cores.
SIM_SEEDS ?= 0..2500 2500..5000

# Peers that are not ours: baresip of this Debian, and Asterisk, which Debian 12 lacks, in a Debian 11 outside
# of the checkout. CI hears a minute of each conversation with them.
ASTERISK_ROOT ?= /var/tmp/tandem-peers/bullseye
ASTERISK_S_MAX := 900
INTEROP_CI_SECONDS ?= 60
# etcd of this Debian, beside which commits are measured: unpacked there, not installed, so that none is started.
ETCD_ROOT ?= /var/tmp/tandem-peers/etcd
# promtool of this Debian, which checks and tests the alert rules: unpacked there, not installed, so that no Prometheus is started.
PROMETHEUS_ROOT ?= /var/tmp/tandem-peers/prometheus
export TANDEM_PROMTOOL ?= $(PROMETHEUS_ROOT)/usr/bin/promtool

# Installs those of the Debian packages $(1) that this machine lacks.
define install
	missing=""; \
	for package in $(1); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "== installing what this machine lacks:$$missing"; \
	  as_root=""; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq; \
	  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

.PHONY: demo build test check fix ci bench bench-peers interop interop-ci baresip asterisk promtool clean tools

demo: build ## start a cluster, call it, kill its leader, show what happened
	@$(BIN)/tandem-demo $(DEMO_FLAGS)

build: tools
	@echo "== building Tandem (a first build takes about twenty minutes on two cores)"
	cargo build --release --locked --workspace --bins

test: build promtool
	@echo "== unit, property and conformance tests, black-box tests over real processes"
	cargo test --release --locked --workspace -- --quiet
	@echo "== the core in a simulator: seeds $(SIM_SEEDS)"
	@printf '%s\n' $(SIM_SEEDS) | xargs -P 2 -I{} $(BIN)/tandem-sim --core --seeds {} --require-coverage

check: tools ## never writes
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

fix:
	cargo clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

ci: check test interop-ci

bench: build bench-peers ## measures, asserts nothing; BENCH_FLAGS="consensus --json FILE" is one of them, its figures in a file
	@$(BIN)/tandem-bench --etcd $(ETCD_ROOT)/usr/bin/etcd $(BENCH_FLAGS)

bench-peers:
	@if [ ! -x $(ETCD_ROOT)/usr/bin/etcd ]; then \
	  echo "== etcd of this Debian into $(ETCD_ROOT)"; \
	  as_root=""; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  rm -rf --one-file-system $(ETCD_ROOT).new; mkdir -p $(ETCD_ROOT).new; cd $(ETCD_ROOT).new; \
	  apt-get download -qq etcd-server 2>/dev/null || { $$as_root apt-get update -qq; apt-get download -qq etcd-server; }; \
	  dpkg-deb -x etcd-server_*.deb .; rm etcd-server_*.deb; \
	  rm -rf --one-file-system $(ETCD_ROOT); mv $(ETCD_ROOT).new $(ETCD_ROOT); \
	fi

promtool:
	@if [ ! -x $(TANDEM_PROMTOOL) ]; then \
	  echo "== promtool of this Debian into $(PROMETHEUS_ROOT)"; \
	  as_root=""; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  rm -rf --one-file-system $(PROMETHEUS_ROOT).new; mkdir -p $(PROMETHEUS_ROOT).new; cd $(PROMETHEUS_ROOT).new; \
	  apt-get download -qq prometheus 2>/dev/null || { $$as_root apt-get update -qq; apt-get download -qq prometheus; }; \
	  dpkg-deb -x prometheus_*.deb .; rm prometheus_*.deb; \
	  rm -rf --one-file-system $(PROMETHEUS_ROOT); mv $(PROMETHEUS_ROOT).new $(PROMETHEUS_ROOT); \
	fi

interop: build baresip asterisk ## phones and a PBX that are not ours: a table of what works; INTEROP_FLAGS="--seconds 60" listens longer
	@as_root=""; [ "$$(id -u)" = 0 ] || as_root="sudo -E"; \
	$$as_root $(BIN)/tandem-interop --asterisk $(ASTERISK_ROOT) $(INTEROP_FLAGS)

# A mirror that is out of reach, or no root, is no fault of ours: then Asterisk is left out, and the table says so.
interop-ci: build baresip ## the same with a minute of audio for each
	@as_root=""; [ "$$(id -u)" = 0 ] || as_root="sudo -nE"; \
	if $$as_root true && $(MAKE) --no-print-directory asterisk; then \
	  set -- $$as_root $(BIN)/tandem-interop --asterisk $(ASTERISK_ROOT); \
	else \
	  set -- $(BIN)/tandem-interop --without-asterisk "Debian 11 with Asterisk could not be installed on this machine"; \
	fi; \
	"$$@" --seconds $(INTEROP_CI_SECONDS)

baresip:
	@$(call install,baresip-core)

asterisk:
	@$(call install,debootstrap)
	@as_root=""; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	if [ ! -e $(ASTERISK_ROOT)/usr/sbin/asterisk ]; then \
	  echo "== Debian 11 with Asterisk into $(ASTERISK_ROOT) (some minutes)"; \
	  $$as_root rm -rf --one-file-system $(ASTERISK_ROOT).new; $$as_root mkdir -p $(dir $(ASTERISK_ROOT)); \
	  $$as_root timeout $(ASTERISK_S_MAX) debootstrap --variant=minbase --include=asterisk bullseye $(ASTERISK_ROOT).new \
	    http://deb.debian.org/debian >/dev/null; \
	  $$as_root mv $(ASTERISK_ROOT).new $(ASTERISK_ROOT); \
	fi

clean: ## RocksDB's library stays, in $(ROCKSDB_DIR)
	cargo clean

tools:
	@$(call install,$(PACKAGES))
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup (https://rustup.rs), then run this again"; exit 1; }
	@storage/build-rocksdb $(ROCKSDB_DIR) || { \
	  echo "== RocksDB could not be compiled in parts: Cargo will compile it file by file, which takes longer"; rm -f .cargo/config.toml; }
