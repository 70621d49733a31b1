# What the guest does once it has its root: mount what a machine has, run the command, say how it ended, power off.
# The harness puts the variables MODULES, FOLDER and COMMAND in front of this.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mkdir -p "/lib/modules/$(uname -r)"
mount --bind "$MODULES" "/lib/modules/$(uname -r)"
mkdir -p /mnt/checkout
mount --bind "$FOLDER" /mnt/checkout
for folder in /dev/shm /run /tmp; do
	mount -t tmpfs tmpfs "$folder"
done
if [ ! -d "$FOLDER" ]; then # it is in /tmp
	mkdir -p "$FOLDER"
	mount --bind /mnt/checkout "$FOLDER"
fi
modprobe tun # the kernel loads all others when they are asked for
ip link set lo up
ulimit -Hn 524288 # as systemd does: the kernel's own 4,096 are too few for 10,000 sockets
stty -F /dev/ttyS1 raw
(cd "$FOLDER" && eval "$COMMAND") </dev/null >/dev/ttyS1 2>&1
echo "exit status $?" >/dev/ttyS1
sync
echo o >/proc/sysrq-trigger
sleep infinity
