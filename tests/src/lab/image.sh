# Makes an image of this machine's busybox, in the form of `docker save`, so that no registry is
# asked. $1: the file to make, $2: the image's name, $3...: programs that go in as well.
set -e
file=$1 name=$2
shift 2

work=$(mktemp -d "$file.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/bin" "$root/etc" "$root/tmp"

# A program, and the libraries with which it was linked, if it was.
take() {
    cp -L "$1" "$root/bin/"
    { ldd "$1" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
    done
}
busybox=$(command -v busybox)
for program in "$busybox" "$@"; do take "$program"; done
for applet in $("$busybox" --list); do
    [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done

case $(uname -m) in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; *) machine=$(uname -m) ;; esac
tar -C "$root" --owner 0 --group 0 --mtime @0 --sort name -cf "$work/layer.tar" .
sum=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
# Without a command it is a pod's first container, which only keeps the pod's namespaces.
cat >"$work/config.json" <<J
{"architecture": "$machine", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:$sum"]},
 "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "2147483647"]}}
J
echo '[{"Config": "config.json", "RepoTags": ["'"$name"'"], "Layers": ["layer.tar"]}]' >"$work/manifest.json"
tar -C "$work" -cf "$work/image.tar" manifest.json config.json layer.tar
mv "$work/image.tar" "$file"
