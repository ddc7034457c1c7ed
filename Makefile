# One verb per action. `make verify` never writes to the tree; `make fix` may.

CARGO ?= cargo
LAB ?= target/debug/atoll-lab
NAME ?= demo
SEQUENCES ?= 100000

# A failure says in words what was awaited and what was seen; backtraces of async code bury that.
export RUST_BACKTRACE := 0

.PHONY: help install build demo demo-down test verify fix report first-light vectors bench-store \
	properties mutants restore power-loss corruption histories forgetful etcd bench-programs \
	bench-cluster bench-watch bench-southbound bench-projection failover isolation qos dhcp \
	projection-fuzz central-failover gateways mirror kubernetes kubernetes-scenarios kubelets packet-matrix cni-faults bench-cni \
	bench-kubernetes

help: ## Lists the verbs.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: ## Installs missing Debian packages (OVN, Open vSwitch, iproute2, ...); says which.
	@tests/install.sh

build: ## Builds all programs.
	$(CARGO) build --workspace --bins

demo: install build ## A whole pod network on this machine, step by step; leaves it running.
	@tests/demo.sh $(NAME)

demo-down: build ## Ends the demo; nothing is left behind.
	@$(LAB) down --name $(NAME)

verify: ## Read-only: format, lints, docs, layers, unit tests.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p atoll-tests --test kubernetes --test kubelets --test packet_matrix -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	$(CARGO) test --workspace --lib --bins --quiet
	$(CARGO) test -p atoll-tests --test layering --quiet

fix: ## Formats, and applies what clippy can apply by itself.
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# What brings up whole networks also measures time and loss: one after another.
test: install ## All tests: unit, real ovsdb-server, real OVN, packets. Needs root.
	$(CARGO) build --workspace --bins
	$(MAKE) forgetful
	$(CARGO) test --workspace --exclude atoll-tests
	$(CARGO) test -p atoll-tests -- --test-threads=1

first-light: install build ## The report first-light: the whole way of a pod, under every fault.
	$(CARGO) test -p atoll-tests --test first_light -- --test-threads=1 --nocapture

properties: ## 100,000 random sequences of all operations against models; SEQUENCES=N for another number.
	ATOLL_SEQUENCES=$(SEQUENCES) \
		$(CARGO) test --profile properties -p atoll-store --lib many_sequences -- --nocapture

mutants: ## The report mutants: deliberate bugs in the state machine, and the tests that see them.
	$(CARGO) run -p atoll-tests --bin atoll-mutants

restore: install build ## The report restore: a backup that is older than the network, with pods running.
	$(CARGO) test -p atoll-tests --test restore -- --nocapture

projection-fuzz: install build ## The report projection-fuzz: random changes and damage, and a referee. ATOLL_FUZZ_ROUNDS=100 at night.
	$(CARGO) test -p atoll-tests --test projection_fuzz -- --nocapture

# ATOLL_FAILOVER_ROUNDS, ATOLL_FAILOVER_PORTS=2000 (further ports, bound on further chassis),
# ATOLL_FAILOVER_CENTRAL=cluster (databases in clusters; the report central-failover-cluster).
central-failover: install build ## The report central-failover: 20 kills, freezes, cuts and moves of the serving ovn-central.
	ATOLL_FAILOVER_ROUNDS=$${ATOLL_FAILOVER_ROUNDS:-20} \
		$(CARGO) test -p atoll-tests --test central_failover -- --nocapture

qos: install build ## The report qos: how fast pods send and receive at the rates that are set, 1 to 200 Mbit/s, UDP and TCP, and who goes first; 10 minutes.
	ATOLL_QOS_TABLE=1 $(CARGO) test -p atoll-tests --test qos -- --nocapture

mirror: install build ## The report mirror: frames on mirror0 and frames sent, on and off 50 times, after restarts. ATOLL_MIRROR_TOGGLES.
	ATOLL_MIRROR_TOGGLES=$${ATOLL_MIRROR_TOGGLES:-50} \
		$(CARGO) test -p atoll-tests --test mirror -- --nocapture

# ATOLL_CNI_PODS: pods of a full node, and announced ones among the 1,000.
cni-faults: install build ## The report cni-faults: plugin and agent against strangers, crowds, cuts, kills; cleanup.
	ATOLL_CNI_PODS=$${ATOLL_CNI_PODS:-110} \
		$(CARGO) test -p atoll-tests --test cni_faults -- --test-threads=1 --nocapture

isolation: install build ## The reports isolation*: who reaches the pods of a private subnet, also under a flood.
	$(CARGO) test -p atoll-tests --test isolation -- --test-threads=1 --nocapture

# ATOLL_GATEWAY_ROUNDS (of each way to die), ATOLL_GATEWAY_SWITCHES.
gateways: install build ## The reports gateway-*: gateways that die, are cut off or frozen, and are switched while pods talk.
	ATOLL_GATEWAY_ROUNDS=$${ATOLL_GATEWAY_ROUNDS:-20} ATOLL_GATEWAY_SWITCHES=$${ATOLL_GATEWAY_SWITCHES:-50} \
		$(CARGO) test -p atoll-tests --test gateways -- --test-threads=1 --nocapture

power-loss: install build forgetful ## The report power-loss: all members lose power at once. ATOLL_POWER_ROUNDS=200 at night.
	$(CARGO) test -p atoll-tests --test power_loss -- --test-threads=1 --nocapture

corruption: install build forgetful ## The report corruption: a bit, a byte, a file, anywhere on a disk.
	$(CARGO) test -p atoll-tests --test corruption -- --nocapture

histories: install build forgetful ## The report histories: answers under faults fit one order. ATOLL_HISTORY_SECONDS=3600 at night.
	$(CARGO) test -p atoll-tests --test histories -- --test-threads=1 --nocapture

# A member with bugs on demand, for the tests that must see them; cannot be a release build.
forgetful:
	$(CARGO) build -p atolld --bin atolld-mutant --features mutants

vectors: ## The report vectors: recorded answers of another allocator, and ours. ATOLL_VECTORS=DIR adds others.
	$(CARGO) test -p atoll-tests --test vectors -- --nocapture

bench-store: ## The report bench-store: the allocator and the state machine, speed and memory.
	$(CARGO) bench -p atoll-tests --bench heap
	$(CARGO) bench -p atoll-tests --bench store

# A Kubernetes control plane as released, from its Go modules: what a lab with --kubernetes runs. Without
# cgo, or nearly everything would be compiled a second time. The version would otherwise be 0.0.0.
kubernetes: target/kubernetes/kubernetes ## Builds etcd, kube-apiserver, controllers, scheduler, kubelet, kube-proxy and kubectl (once, minutes; needs Go 1.24).

KUBERNETES_VERSION := v1.33.13
KUBERNETES_FLAGS := -s -w $(foreach at,k8s.io/component-base/version k8s.io/client-go/pkg/version, \
	-X $(at).gitVersion=$(KUBERNETES_VERSION) -X $(at).gitMajor=1 -X $(at).gitMinor=33)

target/kubernetes/kubernetes: tests/kubernetes/go.mod tests/kubernetes/main.go
	@command -v go >/dev/null || { echo "Kubernetes is built from its Go modules: install Go 1.24 or newer"; exit 1; }
	cd tests/kubernetes && CGO_ENABLED=0 go build -trimpath -ldflags "$(KUBERNETES_FLAGS)" -o ../../$@ .

# Not in `make test`: that needs no Go and no minutes for its build.
kubernetes-scenarios: install build kubernetes ## What kubectl asks for and what comes back, with a real apiserver and its faults.
	$(CARGO) test -p atoll-tests --test kubernetes -- --test-threads=1 --nocapture

# Installs containerd and runc, which nothing else needs.
kubelets: install build kubernetes ## The report kubelets, and kubelets.txt: what a new user types, with real kubelets and containers, and what comes back.
	@tests/install.sh kubelets
	$(CARGO) test -p atoll-tests --test kubelets -- --test-threads=1 --nocapture

packet-matrix: install build kubernetes ## The report packet-matrix: who reaches whom, every way, both families, with a real kube-proxy's Services.
	$(CARGO) test -p atoll-tests --test packet_matrix -- --test-threads=1 --nocapture

# etcd as released, from its Go modules: what bench-cluster and failover compare with.
etcd: target/etcd/etcd

target/etcd/etcd: tests/etcd/go.mod tests/etcd/main.go
	@command -v go >/dev/null || { echo "etcd is built from its Go modules: install Go 1.24 or newer"; exit 1; }
	cd tests/etcd && go build -trimpath -ldflags "-s -w" -o ../../$@ .

bench-programs: etcd
	$(CARGO) build --release -p atolld -p atoll-tests --bin atolld --bin atoll-bench

# ATOLL_BENCH_SECONDS (of a point), ATOLL_BENCH_ROUNDS, ATOLL_BENCH_TLS=off, ATOLL_BENCH_CLIENTS=64,256.
bench-cluster: bench-programs ## The report bench-cluster: members and etcd side by side, throughput and latency.
	target/release/atoll-bench cluster

# ATOLL_FAILOVER_KILLS, ATOLL_FAILOVER_ETCD_KILLS, ATOLL_FAILOVER_SIZES=10,100000, ATOLL_SOAK_MINUTES.
failover: bench-programs ## The report failover: leaders killed, stopped and frozen; restarts; a load without elections.
	target/release/atoll-bench failover

bench-watch: install ## The report bench-watch: 5,000 agents that watch, and members without work. Release build.
	$(CARGO) build --release -p atolld -p atoll-tests --bin atolld --bin atoll-bench-watch
	target/release/atoll-bench-watch

# ATOLL_BENCH_PORTS=1000 for a quick look, ATOLL_BENCH_ROUNDS, ATOLL_BENCH_SECONDS.
bench-projection: install ## The report bench-projection: the projector alone, up to 50,000 ports, beside a raw insert. Release build.
	$(CARGO) build --release -p atoll-tests --bin atoll-bench-projection
	target/release/atoll-bench-projection

# ATOLL_SOUTHBOUND_CLIENTS, ATOLL_SOUTHBOUND_PORTS=1000,10000, ATOLL_SOUTHBOUND_SECONDS (of a move),
# ATOLL_SOUTHBOUND_WAYS=direct,relays,stay, ATOLL_SOUTHBOUND_TLS=off.
bench-southbound: install ## The report bench-southbound: 1,000 nodes that go to another southbound at once. Release build.
	$(CARGO) build --release -p atoll-tests --bin atoll-bench-southbound
	target/release/atoll-bench-southbound

# ATOLL_BENCH_PODS=10 for a quick look, ATOLL_BENCH_ROUNDS, ATOLL_BENCH_MEMBERS, ATOLL_BENCH_IN_FLIGHT=1,8.
bench-cni: install ## The report bench-cni: ADD of 110 pods beside the floor, netlink and OVSDB alone. Release build.
	$(CARGO) build --release -p atolld -p atoll-node -p atoll-cni -p atollctl -p atoll-tests \
		--bin atolld --bin atoll-node --bin atoll-cni --bin atollctl --bin atoll-bench-cni
	target/release/atoll-bench-cni

# ATOLL_BENCH_PODS=100 for a quick look, ATOLL_BENCH_CLIENTS.
bench-kubernetes: install kubernetes ## The report bench-kubernetes: pods of a real apiserver, to NB and written back. Release build.
	$(CARGO) build --release -p atolld -p atoll-node -p atoll-cni -p atollctl -p atoll-tests \
		--bin atolld --bin atoll-node --bin atoll-cni --bin atollctl --bin atoll-bench-kubernetes
	target/release/atoll-bench-kubernetes

dhcp: install build ## A pod that gets its own address by DHCP, with packets.
	$(CARGO) test -p atoll-tests --test dhcp -- --nocapture

report: ## Prints the reports in target/report.
	@$(CARGO) run --quiet -p atoll-tests --bin atoll-report
