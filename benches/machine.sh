#!/bin/sh
# Furnishes a private machine for one measurement, then runs it:
# machine.sh TARGET-DIRECTORY TOOL RATE TOOL-ARGUMENTS...
# RATE: "-", or the speed of a link to a network namespace for the server, e.g. "10mbit".
# Runs as process 1 of new mount, network, pid, ipc and uts namespaces; everything
# below is gone with them. It stays behind as process 1 to reap orphans.
set -eu
target=$1 tool=$2 rate=$3
shift 3

mount --make-rprivate /
hostname bench
ip link set lo up

# What is needed from outside may live in a home directory or in /tmp, which are
# covered below, so it is bound here first.
mount -t tmpfs -o mode=755 tmpfs /mnt
: >/mnt/bench
mount --bind "$tool" /mnt/bench
: >/mnt/rlogind
mount --bind "$target/release/rlogind" /mnt/rlogind
for dir in peers superservers; do
    [ -d "$target/$dir" ] || continue
    mkdir "/mnt/$dir"
    mount --bind "$target/$dir" "/mnt/$dir"
done

mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc
for dir in /home /root /run /var/log /tmp; do
    mount -t tmpfs -o mode=755 tmpfs "$dir"
done
chmod 1777 /tmp
[ "$(readlink -f /var/run)" = /run ] || mount --bind /run /var/run

mkdir /mnt/dev
mount -t tmpfs -o mode=755 tmpfs /mnt/dev
for node in null zero full random urandom tty; do
    cp -a "/dev/$node" /mnt/dev/
done
mkdir /mnt/dev/pts /mnt/dev/shm
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts /mnt/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /mnt/dev/shm
ln -s pts/ptmx /mnt/dev/ptmx
ln -s /proc/self/fd /mnt/dev/fd
mount --move /mnt/dev /dev

cat >/etc/passwd <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
rlogind:x:990:990:rlogind:/nonexistent:/usr/sbin/nologin
alice:x:1001:1001:Alice:/home/alice:/bin/sh
END
cat >/etc/group <<'END'
root:x:0:
daemon:x:1:
tty:x:5:
utmp:x:43:
nogroup:x:65534:
rlogind:x:990:
alice:x:1001:
END
printf '%s:!:19700:0:99999:7:::\n' root daemon nobody rlogind alice >/etc/shadow
chmod 640 /etc/shadow
mkdir -m 755 /home/alice
chown alice:alice /home/alice
{
    echo 127.0.0.1 localhost
    for last in 2 3 4 5 6 7 8 9; do echo "127.0.0.$last client$last.example.net client$last"; done
    echo 10.0.0.1 far.example.net far
} >/etc/hosts
{
    for last in 2 3 4 5 6 7 8 9; do echo "client$last.example.net"; done
    echo far.example.net
} >/etc/hosts.equiv
chmod 644 /etc/hosts.equiv
cat >/etc/nsswitch.conf <<'END'
passwd: files
shadow: files
group: files
hosts: files
netgroup: files
services: files
END
echo 'login 513/tcp' >/etc/services
: >/etc/resolv.conf
rm -f /etc/nologin /etc/securetty /etc/motd /etc/hushlogins /etc/rlogind.toml /etc/ld.so.preload
echo "PS1='ready> '" >/etc/profile

# The same short stack for all. Servers that leave hosts.equiv to PAM have it in
# "rlogin"; login(1), which most of them run, is told that the user is known.
cat >/etc/pam.d/login <<'END'
auth     required pam_unix.so nodelay
account  required pam_unix.so
password required pam_unix.so
session  required pam_unix.so
END
{ echo 'auth sufficient pam_rhosts.so'; cat /etc/pam.d/login; } >/etc/pam.d/rlogin

: >/run/utmp
: >/var/log/wtmp
: >/var/log/btmp
chmod 600 /var/log/btmp

if [ "$rate" != - ]; then
    mkdir /run/netns
    ip netns add far
    ip link add near0 type veth peer name far0 netns far
    ip addr add 10.0.0.1/24 dev near0
    ip link set near0 up
    ip -n far addr add 10.0.0.2/24 dev far0
    ip -n far link set far0 up
    ip -n far link set lo up
    # What is on its way may wait in a queue of 32 KB, as in a modest router.
    tc qdisc add dev near0 root tbf rate "$rate" burst 5kb limit 32kb
    tc -n far qdisc add dev far0 root tbf rate "$rate" burst 5kb limit 32kb
fi

# For the clients; the servers get the usual limit.
ulimit -S -n "$(ulimit -H -n)"
cd /
/mnt/bench "$@"
exit $?
