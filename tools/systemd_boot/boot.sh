#!/usr/bin/env bash
# PID 1 of new namespaces -> systemd as PID 1 of an overlay over this machine's root.
#
# boot.sh FOLDER PYTHON PACKAGES: FOLDER/files is laid over the root, FOLDER/out is what comes back;
# PYTHON and PACKAGES (the interpreter's prefix, its site-packages) are bound below /opt/edgeq,
# where a service with ProtectHome= and PrivateTmp= can read them. Nothing of this machine changes.
set -euo pipefail
folder=$1 python=$2 packages=$3

mount -t tmpfs tmpfs "$folder/overlay"
mkdir "$folder/overlay/"{upper,work,root}
root=$folder/overlay/root
mount -t overlay overlay \
  -o "lowerdir=/,upperdir=$folder/overlay/upper,workdir=$folder/overlay/work" "$root"

# What belongs to this machine, not to the one that boots.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/edgeq* "$root"/var/lib/edgeq
for unit in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
  systemd-networkd.service systemd-networkd.socket systemd-resolved.service \
  systemd-timesyncd.service systemd-logind.service getty@.service console-getty.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

mkdir -p "$root/opt/edgeq/"{python,packages} "$root/out" "$root/oldroot"
cp -a "$folder/files/." "$root/"
mount --bind "$python" "$root/opt/edgeq/python"
mount --bind "$packages" "$root/opt/edgeq/packages"
mount --bind "$folder/out" "$root/out"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
ip link set lo up

cd "$root"
pivot_root . oldroot
umount -l /oldroot
exec env -i container=edgeq-boot PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=edgeq-boot.target >/dev/null 2>/out/systemd.log </dev/null
