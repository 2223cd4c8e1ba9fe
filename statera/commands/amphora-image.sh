#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# amphora-image.sh OUT.qcow2 STATERA PIP LABEL: makes the machine image of an amphora, by `statera image build`.
#
# Debian minimal by debootstrap, with HAProxy, keepalived, nftables and statera-agent with what it imports; no
# compiler, no SSH (unless $SSH is set), no systemd: one shell script brings up the first interface, takes the agent's configuration from
# the config drive and keeps the agent running. STATERA is the package's folder, PIP a pip of Python 3.11.
set -euo pipefail
out=$1 statera=$2 pip=$3 label=$4
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
suite=bookworm
work=${WORK:-/var/cache/statera-image}
mkdir -p "$work" "$(dirname "$out")"
cd "$work"
began=$(date +%s)
say() { printf '[%3ds] %s\n' $(($(date +%s) - began)) "$*"; }

missing=
for package in debootstrap busybox-static extlinux syslinux-common cpio e2fsprogs qemu-utils kmod fdisk; do
  dpkg-query -W -f '${Status}' $package 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  say "apt-get install$missing"
  apt-get install -y -qq --no-install-recommends $missing >apt.log 2>&1
fi
mirror=${MIRROR:-$(sed -n 's/^URIs: *//p;s/^deb \([^ ]*\) .*/\1/p' /etc/apt/sources.list.d/debian.sources \
  /etc/apt/sources.list 2>/dev/null | grep http | head -1 || true)}

if ! ls kernel/boot/vmlinuz-* >/dev/null 2>&1; then
  say "kernel"
  mkdir -p packages; chmod 777 packages; rm -f packages/*
  ( cd packages
    apt-get -qq download linux-image-cloud-amd64
    apt-get -qq download "$(dpkg -I linux-image-cloud-amd64*.deb | sed -n 's/.*Depends: \([^ ,]*\).*/\1/p')"
    rm linux-image-cloud-amd64*.deb; dpkg -x linux-image-*.deb ../kernel )
fi
version=$(basename kernel/lib/modules/*)

if [ ! -e root/.done ]; then
  say "debootstrap of $suite from $mirror"
  rm -rf root
  debootstrap --variant=minbase \
    --include=haproxy,keepalived,nftables,conntrack,iproute2,iputils-ping,kmod,procps,python3,ca-certificates \
    $suite root "$mirror" >debootstrap.log 2>&1
  rm -rf root/var/cache/apt/* root/var/lib/apt/lists/* root/usr/share/{doc,man,locale,info}/*
  touch root/.done
fi

say "statera-agent"
if [ ! -e libraries/.done ]; then
  rm -rf libraries
  $pip install -q --target libraries --python-version 3.11 --only-binary :all: --no-compile \
    aiohttp msgspec cryptography pyroute2 oslo.config oslo.log prometheus-client >pip.log 2>&1
  touch libraries/.done
fi
rm -rf root/opt/statera
mkdir -p root/usr/local/sbin
cp -r libraries root/opt/statera
cp -r "$statera" root/opt/statera/
find root/opt/statera -name __pycache__ -prune -exec rm -rf {} +
rm -rf root/opt/statera/bin
cat >root/usr/local/sbin/statera-agent <<'E'
#!/bin/sh
PYTHONPATH=/opt/statera exec /usr/bin/python3 -c 'from statera.commands.agent import main; main()' "$@"
E
chmod 755 root/usr/local/sbin/statera-agent
chroot root /usr/bin/python3 -m compileall -q /opt/statera >/dev/null || true
chroot root /usr/local/sbin/statera-agent run --help >/dev/null
echo "$label" >root/etc/statera-image

rm -f root/usr/sbin/dropbear
if [ -n "${SSH:-}" ]; then
  say "SSH server"
  rm -rf ssh; mkdir -m 777 ssh
  ( cd ssh; apt-get -qq download dropbear-bin libtomcrypt1 libtommath1; for each in *.deb; do dpkg -x "$each" ../root; done )
fi

say "modules and init"
rm -rf root/lib/modules; mkdir -p root/lib/modules root/boot
cp -a "kernel/lib/modules/$version" root/lib/modules/
( cd "root/lib/modules/$version/kernel"
  rm -rf drivers/{gpu,nvme,infiniband,hv,xen,nvdimm,target,md,usb,media,input,video,net/ethernet,net/wireless} \
    net/{rds,tipc} sound )
depmod -b root "$version" 2>/dev/null
cp /bin/busybox root/bin/busybox
rm -f root/etc/resolv.conf; echo amphora >root/etc/hostname
printf '127.0.0.1 localhost amphora\n::1 localhost\n' >root/etc/hosts
cat >root/sbin/amphora-init <<'E'
#!/bin/sh
# Brings up the management interface, reads the config drive, runs the agent for ever.
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts; mount -t tmpfs tmp /run; mount -t tmpfs tmp /tmp; mount -t cgroup2 cgroup /sys/fs/cgroup
mount -o remount,rw /
now() { cut -d' ' -f1 /proc/uptime; }
echo "amphora: init at $(now) s, image $(cat /etc/statera-image)"
for module in virtio_net virtio-rng ata_piix sr_mod isofs sctp; do modprobe $module 2>/dev/null; done
ip link set lo up
cat >/run/udhcpc <<'S'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr replace $ip/$mask dev $interface
[ -n "$mtu" ] && ip link set $interface mtu $mtu
for r in $router; do ip route replace default via $r dev $interface; done
set -- $staticroutes
while [ $# -ge 2 ]; do ip route replace $1 via $2 dev $interface; shift 2; done
S
chmod 755 /run/udhcpc
ip link set eth0 up
busybox udhcpc -b -t 20 -T 1 -O mtu -O staticroutes -i eth0 -s /run/udhcpc >/dev/null 2>&1
tries=0
while [ $tries -lt 50 ] && [ ! -b /dev/sr0 ]; do sleep 0.1; tries=$((tries+1)); done
mkdir -p /mnt/config; mount -o ro /dev/sr0 /mnt/config 2>/dev/null || mount -o ro LABEL=config-2 /mnt/config
drive=/mnt/config/openstack/latest
hostname "$(sed -n 's/.*"hostname": *"\([^"]*\)".*/\1/p' $drive/meta_data.json | cut -d. -f1)"
mkdir -p /etc/octavia /var/lib/statera; chmod 700 /var/lib/statera
cp $drive/user_data /etc/octavia/octavia.conf; chmod 600 /etc/octavia/octavia.conf
if [ -x /usr/sbin/dropbear ]; then  # for the key pair of the server alone, at the management address alone
  mkdir -p -m 700 /root/.ssh /etc/dropbear
  python3 -c 'import json, sys; print(*json.load(open(sys.argv[1])).get("public_keys", {}).values(), sep="\n")' \
    $drive/meta_data.json >/root/.ssh/authorized_keys
  dropbear -R -s -p "$(ip -br -4 addr show eth0 | awk '{print $3}' | cut -d/ -f1):22"
fi
umount /mnt/config
# HAProxy makes tables for all descriptors that it may open
ulimit -n $(($(sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo) / 8))
echo "amphora: agent at $(now) s, $(ip -br -4 addr show eth0)"
trap '' HUP INT
while :; do
  statera-agent run --config-file /etc/octavia/octavia.conf
  echo "amphora: the agent ended with $? at $(now) s"; sleep 2
done
E
chmod 755 root/sbin/amphora-init

rm -rf initrd; mkdir -p initrd/{bin,proc,sys,dev,new,lib/modules}; cp /bin/busybox initrd/bin/; ln -s busybox initrd/bin/sh
for module in virtio_pci virtio_blk; do modprobe -d "$PWD/root" -S "$version" -D $module; done | awk '/^insmod/{print $2}' |
  sort -u | while read -r file; do
  folder=initrd/${file#"$PWD"/root/}; mkdir -p "$(dirname "$folder")"; cp "$file" "$folder"
done
depmod -b initrd "$version" 2>/dev/null
cat >initrd/init <<'E'
#!/bin/busybox sh
/bin/busybox --install -s /bin; export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
modprobe virtio_pci; modprobe virtio_blk
tries=0
while [ $tries -lt 200 ] && [ ! -b /dev/vda1 ]; do sleep 0.05; tries=$((tries+1)); done
mount -t ext4 /dev/vda1 /new || mount -t ext2 /dev/vda1 /new || exec sh
umount /proc /sys; mount --move /dev /new/dev
exec switch_root /new /sbin/amphora-init
E
chmod 755 initrd/init
( cd initrd; find . | cpio -o -H newc --quiet | gzip -1 ) >root/boot/initrd.img
cp "kernel/boot/vmlinuz-$version" root/boot/vmlinuz
mkdir -p root/boot/extlinux
cat >root/boot/extlinux/extlinux.conf <<'E'
SERIAL 0 115200
DEFAULT amphora
PROMPT 0
TIMEOUT 0
LABEL amphora
 KERNEL /boot/vmlinuz
 INITRD /boot/initrd.img
 APPEND root=/dev/vda1 console=tty0 console=ttyS0 net.ifnames=0 mitigations=off tsc=unstable quiet
E

say "disk"
# ext2: extlinux reads no ext4 of today's mke2fs. The file system is filled without a mount; only extlinux needs one.
size=$(($(du -sm root | cut -f1) + 300))
rm -f root.raw disk.raw
mke2fs -q -t ext2 -d root -F root.raw ${size}M
truncate -s $((size + 2))M disk.raw
printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q disk.raw
dd if=/usr/lib/syslinux/mbr/mbr.bin of=disk.raw conv=notrunc bs=440 count=1 status=none
dd if=root.raw of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none
folder=$(mktemp -d)
mount -o loop,offset=1048576 disk.raw "$folder"
extlinux --install "$folder/boot/extlinux" >extlinux.log 2>&1 || { umount "$folder"; cat extlinux.log; exit 1; }
umount "$folder"; rmdir "$folder"
qemu-img convert -c -O qcow2 disk.raw "$out.part"
mv "$out.part" "$out"
rm -f disk.raw root.raw
say "$(du -m "$out" | cut -f1) MB in $out, label $label"
