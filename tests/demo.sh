#!/usr/bin/env bash
# The whole way of a pod, step by step, on this machine: `make demo`. Every step is a command that
# is shown first; the first one that fails ends the demo with its message. Leaves the network
# running; `make demo-down` ends it. Ctrl-C takes down what was built.
set -euo pipefail

name=${1:-demo}
cd "$(dirname "$0")/.."
bin=target/debug
lab() { "$bin/atoll-lab" "$@" --name "$name"; }
in_lab() { "$bin/atoll-lab" "$1" --name "$name" "${@:2}"; }

bold="" plain=""
if [ -t 1 ]; then bold=$(tput bold) plain=$(tput sgr0); fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
shown() { printf '%s$ %s%s\n' "$bold" "$1" "$plain"; shift; "$@"; }

end() {
  trap - INT TERM ERR
  printf '\ndemo: %s; taking the network down\n' "$1" >&2
  lab down >&2 || true
  exit 1
}
trap 'end interrupted' INT TERM
trap 'end "step failed (above)"' ERR

if [ "$(id -u)" -ne 0 ]; then
  echo "demo: needs root, because it makes network namespaces; try: sudo make demo" >&2
  exit 1
fi
if lab status >/dev/null 2>&1; then
  echo "demo: a demo is running already; it makes way for this one"
  lab down
fi

step "Three members, real OVN, three nodes as network namespaces"
began=$(date +%s.%N)
shown "atoll-lab up --members 3 --nodes 3" lab up --members 3 --nodes 3
printf 'network up after %.1f s\n' "$(echo "$(date +%s.%N) $began" | awk '{print $1-$2}')"
eval "$(lab env)"
shown "atollctl status" "$bin/atollctl" status
shown "atollctl get nodes" "$bin/atollctl" get nodes

step "Everybody has a certificate: this one looks, and changes nothing"
pki=$(dirname "$ATOLL_CA")/../..
shown "atolld pki show viewer/atoll-lab/tls.crt" "$bin/atolld" pki show "$pki/viewer/atoll-lab/tls.crt"
as_viewer() { ATOLL_CERT=$pki/viewer/atoll-lab/tls.crt ATOLL_KEY=$pki/viewer/atoll-lab/tls.key "$@"; }
shown "atollctl get nodes -o name" as_viewer "$bin/atollctl" get nodes -o name
shown "atollctl delete node n1" as_viewer "$bin/atollctl" delete node n1 && end "a viewer deleted a node"

step "Two subnets, one per team: the manifests that kubectl would take"
manifests=$(cat <<'YAML'
apiVersion: kubeovn.io/v1
kind: Subnet
metadata: { name: blue }
spec:
  cidrBlock: 10.1.0.0/16,fd00:1::/64
  namespaces: [team-blue]
  natOutgoing: true
---
apiVersion: kubeovn.io/v1
kind: Subnet
metadata: { name: green }
spec:
  cidrBlock: 10.2.0.0/16,fd00:2::/64
  namespaces: [team-green]
  natOutgoing: true
YAML
)
printf '%s\n' "$manifests"
shown "atollctl create -f -" "$bin/atollctl" create -f - <<<"$manifests"
shown "atollctl get subnets" "$bin/atollctl" get subnets

step "Pods: announced, then plugged in by the CNI plugin as kubelet would"
run() { shown "atoll-lab pod run $1 --node $2" in_lab pod run "$1" --node "$2"; }
run team-blue/a 1
run team-blue/b 1
run team-blue/c 2
run team-green/d 3
shown "atollctl get ips" "$bin/atollctl" get ips

address() { "$bin/atollctl" get ip "$1" -o json | tr -d ' ",' | awk -F: -v k="$2" '$1==k{sub(k":","");print}'; }
ping_to() { # WHAT FROM-PLACE TO
  printf '%s: %s -> %s\n' "$1" "$2" "$3"
  in_lab exec "$2" -- ping -n -c 2 -i 0.2 -W 2 "$3" | tail -2
}
step "Pings over IPv4 and IPv6"
for key in v4IpAddress v6IpAddress; do
  ping_to "same node       " team-blue/a "$(address b.team-blue $key)"
  ping_to "across nodes    " team-blue/a "$(address c.team-blue $key)"
  ping_to "across subnets  " team-blue/a "$(address d.team-green $key)"
  ping_to "node to pod     " node/1 "$(address c.team-blue $key)"
  ping_to "pod to its node " team-blue/a "$(address node-n1 $key)"
done
step "A pod reaches the outside with its node's address"
capture=$(mktemp)
"$bin/atoll-lab" exec --name "$name" outside -- \
  timeout 5 tcpdump -nn -l -c 1 'icmp[icmptype]==8' >"$capture" 2>/dev/null &
watcher=$!
for _ in $(seq 50); do [ -d "/proc/$watcher" ] && break; done
ping_to "pod to outside  " team-blue/c 203.0.113.1
ping_to "pod to outside  " team-blue/c 203.0.113.1
wait "$watcher" || true
echo "seen outside: $(cat "$capture")"
rm -f "$capture"

step "The leader dies; another pod comes"
leader=$("$bin/atollctl" status | awk '$3=="leader"{print substr($1,2)}')
shown "atoll-lab fault kill member/$leader" in_lab fault kill "member/$leader"
run team-green/e 1
ping_to "the new pod     " team-green/e "$(address a.team-blue v4IpAddress)"
shown "atollctl status" "$bin/atollctl" status

trap - INT TERM ERR
cat <<EOT

${bold}The network is up and stays up.${plain} To look around:
  eval "\$($bin/atoll-lab env --name $name)"      # points the tools at it
  $bin/atollctl status
  $bin/atollctl get subnets -o yaml
  ovn-nbctl show
  $bin/atoll-lab exec --name $name team-blue/a -- ip addr
  $bin/atoll-lab pod run team-blue/mine --node 2 --name $name
  $bin/atoll-lab fault restart member/$leader --name $name
To end it:
  make demo-down
EOT
