# Run a command in another distribution's file system, on this kernel: sh enter.sh ROOT REPOSITORY COMMAND...
# To be run in mounts of its own. A mere chroot would not do: the lab changes how its root is mounted.
set -e
root=$1 repository=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/media"
mkdir "$root/media/repository"
mount --bind "$repository" "$root/media/repository"
cd "$root"
pivot_root . mnt
umount --lazy /mnt
cd /media/repository
export PYTHONDONTWRITEBYTECODE=1
exec "$@"
