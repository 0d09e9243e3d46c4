#!/bin/bash
# A Debian trixie under QEMU, without KVM: systemd, udev, a kernel with gpio-sim, a USB serial port that is a socket here.
#   ARCH=amd64|arm64 (default amd64)   APPLIANCE=folder   PORT=first port here (default 2200: ssh, then the dashboard)
#   vm.sh build            kernel, root file system and disk (amd64 a minute, arm64 five; kept)
#   vm.sh snap             boots once and freezes the running machine
#   vm.sh start [fast]     boots the disk as it is | a clean one, from the frozen machine, in seconds
#   vm.sh ssh CMD...       runs a command in it
#   vm.sh put FILE... DIR
#   vm.sh gpio-up [LINES [LABEL]]   a gpio-sim chip; prints its node     vm.sh gpio-down   it vanishes
#   vm.sh pull LINE 0|1    drives an input            vm.sh level LINE   what the guest drives
#   vm.sh uart-send TEXT   a line into /dev/ttyUSB0   vm.sh unplug | replug   the adapter
#   vm.sh net off|on       the network cable          vm.sh powercut     qemu is killed, what wasn't synced is gone
#   vm.sh stop | log
set -euo pipefail
ARCH=${ARCH:-amd64} PORT=${PORT:-2200} SUITE=${SUITE:-trixie}
base=$(realpath -m "${APPLIANCE:-$(dirname "$0")/../../target/appliance/vm}")
D=$base/$ARCH R=$base/$ARCH/run keyring=/usr/share/keyrings/debian-archive-keyring.gpg key=$base/id_ed25519
mkdir -p "$D" "$R"
# The mirror that apt uses here.
mirror() { echo "${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | head -1)}"; }
ssh="ssh -q -p $PORT -i $key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ControlMaster=auto -o ControlPath=$R/cm -o ControlPersist=60"
modules="virtio_mmio virtio_blk virtio_net virtio_rng ext4 crc32c_cryptoapi configfs gpio_sim autofs4 overlay xhci_pci ftdi_sio
 cdc_acm i2c_dev i2c_stub bmp280_i2c iio_trig_hrtimer w1_gpio w1_therm softdog i6300esb"
step() { printf '[%4ds] %s\n' $SECONDS "$*" >&2; }
g() { $ssh root@127.0.0.1 "$@"; }
qmp() {
    python3 - "$R/qmp.sock" "$@" <<'P'
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile('rw')
def do(order):
    f.write(json.dumps(order) + '\n'); f.flush()
    while True:
        answer = json.loads(f.readline())
        if 'return' in answer or 'error' in answer: return answer
f.readline(); do({'execute': 'qmp_capabilities'})
answer = do({'execute': sys.argv[2], **({'arguments': json.loads(sys.argv[3])} if len(sys.argv) > 3 else {})})
print(json.dumps(answer)); sys.exit('error' in answer)
P
}

# Debian's first kernels with gpio-sim are 7.x, in backports.
build_kernel() {
    [ -e "$D/vmlinuz" ] && return
    local a=$D/apt
    mkdir -p "$a"/{lists/partial,cache/archives/partial,etc/apt.conf.d,etc/preferences.d}
    : >"$a/status"
    echo "deb [arch=$ARCH signed-by=$keyring] $(mirror) $SUITE-backports main
deb [arch=$ARCH signed-by=$keyring] $(mirror) $SUITE main" >"$a/etc/sources.list"
    # Folders of its own: a foreign architecture in this machine's apt would be in everybody's way.
    cat >"$a/conf" <<C
Dir::Etc "$a/etc/"; Dir::Etc::sourcelist "$a/etc/sources.list"; Dir::Etc::sourceparts "-";
Dir::State::lists "$a/lists/"; Dir::State::status "$a/status"; Dir::Cache "$a/cache/";
APT::Architecture "$ARCH"; APT::Architectures {"$ARCH";}; Acquire::Languages "none"; APT::Sandbox::User "root";
C
    export APT_CONFIG=$a/conf
    apt-get -qq update
    local v
    v=$(apt-cache show "linux-image-$ARCH" | sed -n 's/.*linux-image-\([0-9][^ ,]*-'"$ARCH"'\) (.*/\1/p' | head -1)
    [ -n "$v" ] || v=$(apt-cache depends "linux-image-$ARCH" | sed -n "s/.*Depends: linux-image-\([0-9].*\)/\1/p" | head -1)
    step "kernel $v"
    (cd "$D" && apt-get -qq download "linux-base-$v" "linux-binary-$v" "linux-modules-$v" busybox-static)
    unset APT_CONFIG
    rm -rf "$D/k" "$D/bb"
    mkdir -p "$D/k" "$D/bb"
    for f in "$D"/linux-{base,binary,modules}-*.deb; do dpkg -x "$f" "$D/k"; done
    dpkg -x "$D"/busybox-static*.deb "$D/bb"
    [ -e "$D/k/lib" ] || ln -s usr/lib "$D/k/lib"
    depmod -b "$D/k" "$v"
    echo "$v" >"$D/kver"
    cp "$D/k/usr/lib/modules/$v/vmlinuz" "$D/vmlinuz"
}

# busybox, and the few modules that mount the disk.
build_initrd() {
    local v i=$D/ird n=10 m
    v=$(cat "$D/kver")
    rm -rf "$i"
    mkdir -p "$i"/{bin,proc,sys,dev,mnt,m}
    cp "$D/bb/usr/bin/busybox" "$i/bin/" 2>/dev/null || cp "$D/bb/bin/busybox" "$i/bin/"
    for m in $(for x in virtio_mmio virtio_blk crc32c_cryptoapi crc32c ext4; do
        modprobe -d "$D/k" -S "$v" --show-depends "$x" 2>/dev/null || true
    done | awk '$1=="insmod"&&!s[$2]++{print $2}'); do
        case $m in *.xz) xz -dc "$m" ;; *) cat "$m" ;; esac >"$i/m/$((n++))-$(basename "${m%.xz}")"
    done
    cat >"$i/init" <<'I'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in /m/*; do insmod $m; done
i=0; while [ ! -e /dev/vda ] && [ $i -lt 200 ]; do sleep 0.1; i=$((i+1)); done
mount -t ext4 -o rw,errors=remount-ro /dev/vda /mnt || exec sh
umount /proc /sys; mount --move /dev /mnt/dev
exec switch_root /mnt /lib/systemd/systemd
I
    chmod +x "$i/init"
    (cd "$i" && find . | cpio -o -H newc --quiet | gzip -1 >"$D/initrd.gz")
}

build_root() {
    [ -e "$D/root.tar" ] && return
    step "mmdebstrap $SUITE $ARCH"
    if [ "$ARCH" != amd64 ] && [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
        mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
    fi
    mmdebstrap --variant=minbase --architectures="$ARCH" --aptopt='Acquire::Languages "none"' \
        --include=systemd-sysv,udev,dbus,iproute2,kmod,openssh-server,gpiod,ca-certificates,curl,procps,sqlite3,python3 \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$SUITE" "$D/new.tar" "deb [signed-by=$keyring] $(mirror) $SUITE main"
    mv "$D/new.tar" "$D/root.tar"
}

build_image() {
    step "disk"
    [ -e "$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$key"
    local r=$D/root v m u
    v=$(cat "$D/kver")
    rm -rf "$r"
    mkdir "$r"
    tar -C "$r" --numeric-owner -xf "$D/root.tar"
    # Only the modules that are needed, unpacked: udev's first round is five times faster.
    local md=$r/usr/lib/modules/$v
    mkdir -p "$md"
    cp "$D/k/usr/lib/modules/$v"/modules.{builtin,order} "$md/"
    for m in $(for x in $modules; do modprobe -d "$D/k" -S "$v" --show-depends "$x" 2>/dev/null || echo "no module $x" >&2; done |
        awk '$1=="insmod"&&!s[$2]++{print $2}'); do
        xz -dc "$m" >"$md/$(basename "${m%.xz}")"
    done
    depmod -b "$r" "$v" 2>/dev/null
    echo pi-vm >"$r/etc/hostname"
    echo '127.0.0.1 localhost pi-vm' >"$r/etc/hosts"
    printf '[Match]\nType=ether\n[Network]\nDHCP=ipv4\n' >"$r/etc/systemd/network/80-test.network"
    printf 'PermitRootLogin prohibit-password\nUseDNS no\nUsePAM no\nMaxSessions 20\nAcceptEnv LANG\n' >"$r/etc/ssh/sshd_config.d/test.conf"
    mkdir -p -m 700 "$r/root/.ssh"
    cp "$key.pub" "$r/root/.ssh/authorized_keys"
    printf 'virtio_net\nconfigfs\ngpio_sim\n' >"$r/etc/modules-load.d/test.conf"
    echo uninitialized >"$r/etc/machine-id"
    ln -sf /lib/systemd/system/systemd-networkd.service "$r/etc/systemd/system/multi-user.target.wants/"
    for u in systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
        ln -sf /dev/null "$r/etc/systemd/system/$u"
    done
    rm -f "$D/base.ext4"
    mke2fs -q -t ext4 -L root -d "$r" "$D/base.ext4" 2G
    rm -rf "$r"
}

uart='{"driver":"usb-serial","bus":"xhci.0","chardev":"uart","id":"uart0","always-plugged":true}'
start() {
    [ "${1:-}" = fresh ] && rm -f "$D/disk.qcow2"
    [ "${1:-}" = fast ] && cp --reflink=auto "$D/booted.qcow2" "$D/disk.qcow2"
    [ -e "$D/disk.qcow2" ] || qemu-img create -q -f qcow2 -b base.ext4 -F raw "$D/disk.qcow2"
    local q con x=() t=$SECONDS
    case $ARCH in
    arm64) q="qemu-system-aarch64 -M virt -cpu cortex-a72" con=ttyAMA0 ;;
    amd64) q="qemu-system-x86_64 -M q35 -cpu max" con=ttyS0 ;;
    esac
    rm -f "$R"/*.sock "$R/cm"
    [ "${1:-}" = fast ] && x+=(-loadvm booted)
    [ "${1:-}" = fast ] || [ "${UART:-1}" = 0 ] || x+=(-device usb-serial,id=uart0,chardev=uart,always-plugged=on,bus=xhci.0)
    [ -z "${RTC:-}" ] || x+=(-rtc "base=$RTC")
    $q -accel tcg,thread=multi -nodefaults -nographic -no-reboot -smp 2 -m 768 \
        -drive "file=$D/disk.qcow2,if=virtio,format=qcow2" -device virtio-rng-pci \
        -netdev "user,id=n0,hostfwd=tcp:127.0.0.1:$PORT-:22,hostfwd=tcp:127.0.0.1:$((PORT + 1))-:8080" \
        -device virtio-net-pci,netdev=n0,romfile= -device qemu-xhci,id=xhci \
        -kernel "$D/vmlinuz" -initrd "$D/initrd.gz" -append "console=$con panic=-1 quiet iomem=relaxed" \
        -chardev socket,id=con,path="$R/console.sock",server=on,wait=off,logfile="$R/console.log" -serial chardev:con \
        -chardev socket,id=uart,path="$R/uart.sock",server=on,wait=off,logfile="$R/uart.log" ${x[@]+"${x[@]}"} \
        -qmp unix:"$R/qmp.sock",server=on,wait=off -pidfile "$R/pid" </dev/null >"$R/qemu.out" 2>&1 &
    until $ssh -o ConnectTimeout=3 root@127.0.0.1 true 2>/dev/null; do
        kill -0 $! 2>/dev/null || { cat "$R/qemu.out"; exit 1; }
        [ $((SECONDS - t)) -lt 300 ] || { tail -50 "$R/console.log"; exit 1; }
        sleep 1
    done
    if [ "${1:-}" = fast ]; then
        qmp device_add "$uart" >/dev/null
        g "date -s @$(date +%s)" >/dev/null
    fi
    step "ssh answers after $((SECONDS - t)) s"
}

sim=/sys/kernel/config/gpio-sim/test
line() { echo "/sys/devices/platform/\$(cat $sim/dev_name)/\$(cat $sim/bank0/chip_name)/sim_gpio$1"; }
case ${1:-help} in
build)
    build_kernel; build_root; build_initrd
    # A disk without the modules that are wanted now is of no use.
    [ "$(cat "$D/modules" 2>/dev/null)" = "$modules" ] || rm -f "$D"/{base.ext4,booted.qcow2,disk.qcow2}
    [ -e "$D/base.ext4" ] || build_image
    echo "$modules" >"$D/modules"
    step "built" ;;
snap)
    [ -e "$D/booted.qcow2" ] && exit 0
    UART=0 start fresh
    for _ in $(seq 120); do [ "$(g systemctl is-system-running || true)" = running ] && break; sleep 1; done
    g 'modprobe gpio-sim ftdi_sio; udevadm settle; sync'
    sleep 3
    qmp human-monitor-command '{"command-line":"savevm booted"}' >&2
    qmp quit >/dev/null || true
    sleep 1
    cp --reflink=auto "$D/disk.qcow2" "$D/booted.qcow2"
    rm -f "$R/pid" "$R/cm"
    step "frozen" ;;
start) start "${2:-}" ;;
ssh) shift; g "$@" ;;
put)
    shift
    mapfile -t files < <(realpath -e "${@:1:$#-1}")
    tar -Pcf - --transform 's#.*/##' "${files[@]}" | g "tar -C ${*: -1} --no-same-owner -xf - && sync" ;;
gpio-up)
    g "set -e; modprobe gpio-sim; mountpoint -q /sys/kernel/config || mount -t configfs c /sys/kernel/config
    [ -d $sim ] || { mkdir -p $sim/bank0; echo ${2:-28} >$sim/bank0/num_lines; echo ${3:-pinctrl-bcm2835} >$sim/bank0/label
      for i in \$(seq 0 $((${2:-28} - 1))); do mkdir $sim/bank0/line\$i; echo GPIO\$i >$sim/bank0/line\$i/name; done; echo 1 >$sim/live; }
    udevadm settle; echo /dev/\$(cat $sim/bank0/chip_name)" ;;
gpio-down) g "echo 0 >$sim/live; rmdir $sim/bank0/line* $sim/bank0 $sim" ;;
pull) case $3 in 1 | up) p=pull-up ;; *) p=pull-down ;; esac; g "echo $p >$(line "$2")/pull" ;;
level) g "cat $(line "$2")/value" ;;
uart-send)
    python3 -c 'import socket,sys,time; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode()+b"\r\n"); time.sleep(.3)' "$R/uart.sock" "$2" ;;
unplug) qmp device_del '{"id":"uart0"}' ;;
replug) qmp device_add "$uart" ;;
net) qmp set_link "{\"name\":\"n0\",\"up\":$([ "$2" = on ] && echo true || echo false)}" ;;
powercut) kill -9 "$(cat "$R/pid")"; rm -f "$R/pid" "$R/cm"; sleep 1 ;;
stop)
    [ -e "$R/pid" ] || exit 0
    p=$(cat "$R/pid")
    g "systemctl poweroff" || true
    for _ in $(seq 60); do kill -0 "$p" 2>/dev/null || exit 0; sleep 1; done
    kill "$p" ;;
log) cat "$R/console.log" ;;
*) sed -n '2,15p' "$0" ;;
esac
