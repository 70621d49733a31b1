#!/bin/busybox sh
# The guest's process 1, from its initial RAM disk. This machine's file system becomes its root: read-only, and a RAM
# disk on top takes what is written.
/bin/busybox mkdir -p /proc /dev /lower /upper /root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module; do
	insmod "/modules/$module"
done </modules/order
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 host /lower
mount -t tmpfs upper /upper
mkdir /upper/changes /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work root /root
umount /dev /proc
exec switch_root /root /bin/sh -c "$(cat /guest)"
