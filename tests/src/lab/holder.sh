# Furnishes a node's mount namespace and then holds it. $1: the node's directory, $2: its name.
# Runs inside a new mount namespace, whose mounts are seen by nobody else and go with it.
set -e
node=$1

# A mount point that the host lacks is made in a copy-on-write view of its parent, so that nothing
# is left behind on the host.
mount -t tmpfs tmpfs "$node/cow"
mount_point() {
    [ -d "$1/$2" ] && return
    mkdir -p "$node/cow$1/upper" "$node/cow$1/work"
    mount -t overlay overlay \
        -o "lowerdir=$1,upperdir=$node/cow$1/upper,workdir=$node/cow$1/work" "$1"
    mkdir "$1/$2"
}
mount_point /etc cni
mount_point /opt cni

mount --bind "$node/run" /run
mount --bind "$node/lib" /var/lib
mount --bind "$node/log" /var/log
mount --bind "$node/etc-cni" /etc/cni
mount --bind "$node/opt-cni" /opt/cni
# A node with a kubelet needs the machine's cgroups, which the next mount would hide.
if [ -d "$node/sysctl" ]; then
    mkdir "$node/cow/cgroup"
    mount --rbind /sys/fs/cgroup "$node/cow/cgroup"
fi
# /sys/class/net is to show the interfaces of the node, not of the host.
mount -t sysfs sysfs /sys
if [ -d "$node/sysctl" ]; then
    mount --move "$node/cow/cgroup" /sys/fs/cgroup
    # What a kubelet would set for the whole machine is here what it wants already.
    (cd "$node/sysctl" && find . -type f) | while read -r key; do
        mount --bind "$node/sysctl/$key" "/proc/sys/$key"
    done
fi

echo ready
exec sleep infinity >/dev/null 2>&1
