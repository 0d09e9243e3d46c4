#!/bin/bash
# A Debian "machine" without a virtual one: systemd as PID 1 in namespaces of its own, at native speed. No GPIO, no
# serial port and no kernel of its own: for those there is vm.sh. Needs root.
#   container.sh build          a Debian trixie by mmdebstrap (half a minute, kept)
#   container.sh fresh          a fresh copy of it
#   container.sh start [read-only]   boots it, with a network of its own: guest 10.77.0.2, host 10.77.0.1
#   container.sh run CMD...     runs a command in it
#   container.sh put FILE... DIR
#   container.sh stop | kill    in good order | as a power cut does
set -euo pipefail
base=$(realpath -m "${APPLIANCE:-$(dirname "$0")/../../target/appliance/container}") root=$base/root name=${NAME:-tidemill}
packages=systemd-sysv,udev,dbus,iproute2,ca-certificates,curl,procps,sqlite3,python3,e2fsprogs
here=$(realpath "$0")

case ${1:-help} in
build)
    mkdir -p "$base"
    if [ ! -e "$base/root.tar" ]; then
        # The mirror that apt uses here.
        mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | head -1)}
        mmdebstrap --variant=minbase --include=$packages --aptopt='Acquire::Languages "none"' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            trixie "$base/new.tar" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main"
        mv "$base/new.tar" "$base/root.tar"
    fi ;;
fresh)
    rm -rf --one-file-system "$root"
    mkdir "$root"
    tar -C "$root" --numeric-owner -xf "$base/root.tar"
    echo uninitialized >"$root/etc/machine-id"
    echo pi-container >"$root/etc/hostname"
    # There is no hardware to ask and no terminal to log in at.
    for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket \
        systemd-udevd-control.socket getty@tty1.service console-getty.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer systemd-firstboot.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    mkdir -p "$root/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=persistent\n' >"$root/etc/systemd/journald.conf.d/test.conf" ;;
start)
    cgroup=/sys/fs/cgroup/unified
    [ -e $cgroup/cgroup.procs ] || cgroup=/sys/fs/cgroup
    mkdir -p "$cgroup/$name"
    read_only=:
    # As a card that is never written to: what must change is on mounts of their own.
    [ "${2:-}" != read-only ] || read_only="for d in /var/lib/tidemill /var/log /var/tmp; do mount --bind \$d \$d; done
mount -t tmpfs tmpfs /var/lib/systemd; mount -o remount,bind,ro /"
    # Device nodes of its own: of a bind mount tmpfiles would change the host's.
    cat >"$base/init.sh" <<I
set -e
echo \$\$ >$cgroup/$name/cgroup.procs
exec unshare -C -m -p -f -u -i -n --propagation private bash -e -c '
mount --bind $root $root; cd $root; hostname pi-container
mount -t proc proc proc; mount -t sysfs -o ro sysfs sys; mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev; mount -t tmpfs -o mode=755 tmpfs run; mount -t tmpfs tmpfs tmp
for d in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "console 1 3"; do
  mknod -m 666 dev/\${d%% *} c \${d#* }
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx; mount -t tmpfs tmpfs dev/shm
ln -s /proc/self/fd dev/fd; ln -s /proc/self/fd/0 dev/stdin; ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr; ip link set lo up
mkdir -p .old; pivot_root . .old; umount -l /.old
$read_only
mount --make-rshared /  # systemd leaves that to whoever makes the container; credentials need it
exec env -i container=lab PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --log-target=journal'
I
    setsid bash "$base/init.sh" </dev/null >"$base/init.log" 2>&1 &
    outer=$!
    for _ in $(seq 50); do
        pid=$(pgrep -P "$outer" | head -1 || true)
        [ -n "$pid" ] && break
        sleep .1
    done
    echo "$pid" >"$base/pid"
    sleep .5
    ip link del "ve-$name" 2>/dev/null || true
    ip link add "ve-$name" type veth peer name eth0 netns "$pid"
    ip addr add 10.77.0.1/24 dev "ve-$name"
    ip link set "ve-$name" up
    nsenter -t "$pid" -n sh -c 'ip addr add 10.77.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.77.0.1'
    for _ in $(seq 120); do
        state=$("$here" run systemctl is-system-running 2>/dev/null || true)
        case $state in running | degraded) break ;; esac
        sleep .5
    done
    echo "systemd: ${state:-no answer}" ;;
run)
    shift
    exec nsenter -t "$(cat "$base/pid")" -m -p -u -i -n -C -- \
        env -i PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 "$@" ;;
put) shift; cp "${@:1:$#-1}" "$root${*: -1}/" ;;
stop | kill)
    pid=$(cat "$base/pid")
    if [ "$1" = stop ]; then "$here" run systemctl poweroff || true; else kill -9 "$pid"; fi
    for _ in $(seq 40); do
        kill -0 "$pid" 2>/dev/null || break
        sleep .5
    done
    kill -9 "$pid" 2>/dev/null || true
    ip link del "ve-$name" 2>/dev/null || true
    find /sys/fs/cgroup/{unified/,}"$name" -depth -type d -exec rmdir {} + 2>/dev/null || true ;;
*) sed -n 2,9p "$0" ;;
esac
