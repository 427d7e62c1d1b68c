#!/bin/sh
# The machine of kit/box.py, from the outside in: each stage executes the next one in more namespaces of its own.
#
#   power   has the disk, in a mount namespace, for as long as there is power; a reboot is one more pass of its loop
#   boot    is process 1 of the machine, and enters the machine's cgroup, which becomes the root of its tree
#   root    builds the root file system, an overlay over this host's, and becomes systemd
#
# Each stage dies with the process that started it, so that nothing outlives a test that was killed.
#
# DIR (of the machine, on this host): `files` is copied over the root file system before the first boot; `layers` has a
# directory of this host on each line, and where the machine sees it; `pid` gets the number of process 1 on this host.
set -eu
stage=$1 self=$2 DIR=$3 CGROUP=$4

if [ "$stage" = power ]; then
    mount -t tmpfs -o mode=755 polpod-box "$DIR/disk"
    mkdir "$DIR/disk/upper" "$DIR/disk/work" "$DIR/disk/root" "$DIR/disk/layers"
    while :; do
        status=0
        rm -f "$DIR/pid"
        setpriv --pdeathsig KILL unshare --pid --uts --ipc --net --mount --fork --kill-child=KILL \
            sh "$self" boot "$self" "$DIR" "$CGROUP" || status=$?
        # SIGINT is what a pid namespace ends with at a poweroff; without a pid it never came to be
        if [ "$status" = 130 ] || [ ! -e "$DIR/pid" ]; then exit "$status"; fi
    done
fi

if [ "$stage" = boot ]; then
    echo 0 >"$CGROUP/cgroup.procs"
    exec unshare --cgroup sh "$self" root "$self" "$DIR" "$CGROUP"
fi

read -r pid _ </proc/self/stat # this /proc is still the host's
disk=$DIR/disk root=$DIR/disk/root

overlay() { # lower, upper, work, where
    mkdir -p "$2" "$3" "$4"
    mount -t overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" polpod-box "$4"
}

overlay / "$disk/upper" "$disk/work" "$root"
cd "$root"

mount -t proc proc proc
for directory in sys sysrq-trigger irq bus; do # the host's kernel keeps its settings
    [ ! -e "proc/$directory" ] || { mount --bind "proc/$directory" "proc/$directory" && mount -o remount,bind,ro "proc/$directory"; }
done
cat /proc/sys/kernel/random/uuid >"$disk/boot_id"
mount --bind "$disk/boot_id" proc/sys/kernel/random/boot_id
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for node in null zero full random urandom tty; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp

number=0
while read -r from to; do
    number=$((number + 1))
    overlay "$from" "$disk/layers/$number" "$disk/layers/$number.work" "$root$to"
    while [ -n "$to" ]; do # for users who may not enter /root
        chmod o+x ".$to"
        to=${to%/*}
    done
done <"$DIR/layers"

if [ ! -e etc/polpod-box ]; then # nothing that the host would start, but what `files` names
    rm -rf etc/systemd/system usr/lib/systemd/system/*.wants usr/lib/systemd/system-generators var/log/journal etc/fstab
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    cp -rp "$DIR/files/." .
    : >etc/polpod-box
fi

echo "$pid" >"$DIR/pid.new"
mv "$DIR/pid.new" "$DIR/pid"
pivot_root . .
umount -l .
cd /
mount --make-rshared / # as systemd expects it
exec env -i container=polpod-box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set=-sys_module,-sys_rawio,-sys_time,-syslog \
    /lib/systemd/systemd --system --unit=multi-user.target
