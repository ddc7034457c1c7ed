#!/usr/bin/env bash
# Installs the Debian packages that Atoll's demo and tests need, if they are missing; says which.
# "install.sh kubelets": also those of a lab with kubelets, which no other test needs.
# Services of those packages are not started: the lab runs its own, in its own namespaces.
set -euo pipefail

declare -A PACKAGE_OF=(
  [ovsdb-server]=openvswitch-common [ovsdb-tool]=openvswitch-common [ovs-vsctl]=openvswitch-common
  [ovs-vswitchd]=openvswitch-switch [ovn-northd]=ovn-central [ovn-nbctl]=ovn-common
  [ovn-controller]=ovn-host [ip]=iproute2 [ping]=iputils-ping [iptables-restore]=iptables
  [curl]=curl [nft]=nftables [ipset]=ipset [ethtool]=ethtool [tcpdump]=tcpdump [unshare]=util-linux [setpriv]=util-linux
  [busybox]=busybox [nsenter]=util-linux [sysctl]=procps [cc]=gcc [strace]=strace [mkfs.ext4]=e2fsprogs [perl]=perl-base
)
export PATH="$PATH:/usr/sbin:/sbin"

missing=()
case "${1:-}" in
  '') ;;
  kubelets)
    PACKAGE_OF+=([containerd]=containerd [ctr]=containerd [runc]=runc)
    # containerd itself calls its plugin loopback.
    [ -x /usr/lib/cni/loopback ] || missing+=(containernetworking-plugins) ;;
  *) echo "usage: install.sh [kubelets]" >&2; exit 2 ;;
esac
for tool in "${!PACKAGE_OF[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${PACKAGE_OF[$tool]}")
done
if [ "${#missing[@]}" -eq 0 ]; then exit 0; fi
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if [ "$(id -u)" -ne 0 ]; then
  echo "install: missing packages: ${missing[*]}; run as root, or: apt-get install ${missing[*]}" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null; then
  echo "install: missing: ${missing[*]} (Debian's names); install them with your package manager" >&2
  exit 1
fi
echo "install: installing ${missing[*]}"
# The packages would start Open vSwitch and OVN on this host; the lab does not want that.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made_policy=yes
fi
trap '[ -z "$made_policy" ] || rm -f "$policy"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
