# Furnishes a private machine for one test, then runs it: world.sh DAEMON TEST-BINARY ARGS...
# Runs as process 1 of new mount, network, pid, ipc and uts namespaces; everything
# below is gone with them. It stays behind as process 1 to reap orphans.
set -eu
daemon=$1 test=$2
shift 2

mount --make-rprivate /
hostname e2e
ip link set lo up

# Nothing under /mnt may be needed from outside: the executables may live in a
# home directory or in /tmp, which are covered below, so they are bound here first.
mount -t tmpfs -o mode=755 tmpfs /mnt
: >/mnt/rlogind
: >/mnt/test
mount --bind "$daemon" /mnt/rlogind
mount --bind "$test" /mnt/test
if [ -n "${RLOGIND_E2E_INETD:-}" ]; then
    : >/mnt/inetd
    mount --bind "$RLOGIND_E2E_INETD" /mnt/inetd
fi
superservers=$(dirname "$0")/../../target/superservers
if [ -d "$superservers" ]; then
    mkdir /mnt/superservers
    mount --bind "$superservers" /mnt/superservers
fi
# The name that inetd.conf has for rlogin servers.
ln -s rlogind /mnt/in.rlogind

mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc
for dir in /home /root /run /var/log /tmp; do
    mount -t tmpfs -o mode=755 tmpfs "$dir"
done
chmod 1777 /tmp
[ "$(readlink -f /var/run)" = /run ] || mount --bind /run /var/run

# A /dev of its own: /dev/log and the terminals of the machine stay out of reach.
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
bob:x:1002:1002:Bob:/home/bob:/bin/bash
carol:x:1003:1003:Carol:/home/carol:/bin/sh
END
cat >/etc/group <<'END'
root:x:0:
daemon:x:1:
tty:x:5:
utmp:x:43:
nogroup:x:65534:
rlogind:x:990:
alice:x:1001:
bob:x:1002:
carol:x:1003:
staff:x:50:alice,carol
END
# The passwords stand in accounts.rs; few rounds, so that a login costs no time.
cat >/etc/shadow <<'END'
root:$6$rounds=1000$e2esalt$yHgPwpkODDv.h.UY.zGYF58irLCBHPr9delIadpJ.lXv7JXueIdqnJaxYL6Y6Vdfk7EZpvWOpB/EWz9TrRAQx/:19700:0:99999:7:::
daemon:*:19700:0:99999:7:::
nobody:*:19700:0:99999:7:::
rlogind:!:19700:0:99999:7:::
alice:$6$rounds=1000$e2esalt$Lc6Xs9Ckbz5PEpY.auKuv02wERPCKzT9lccM9OBJENgVhQ0yA5dpkPeW8ddsSfsmjMgcphs8ubzNcLjIhf/Cu1:19700:0:99999:7:::
bob:$6$rounds=1000$e2esalt$Tr94k.CqHQF/w4vxWGVNZ5TtiCtqgQba3FHN/IIO5XFL6rgSKi4JESNr1RJ5CEH6LdGZm4NB63OC3hVI0qdNM0:19700:0:99999:7:::
carol:$6$rounds=1000$e2esalt$C5QO7QMTMFkMVcnhi1A4NtxecGKD6TrVrkH0RPZ9K5hK0lNH8QdIIXxGms6gHj9KsuEv4js49Wmt128JxCDXf1:19700:0:99999:7:::
END
chmod 640 /etc/shadow
cat >/etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost6
127.0.0.2 trusted.example.net trusted
127.0.0.3 other.example.net other
END
cat >/etc/nsswitch.conf <<'END'
passwd: files
shadow: files
group: files
hosts: files
netgroup: files
END
: >/etc/resolv.conf
rm -f /etc/hosts.equiv /etc/hosts.allow /etc/hosts.deny /etc/nologin /etc/securetty /etc/motd /etc/hushlogins /etc/rlogind.toml /etc/ld.so.preload
echo "PS1='e2e\$ '" >/etc/profile
: >/etc/bash.bashrc
# Real PAM, without the two seconds that a wrong password costs.
cat >/etc/pam.d/rlogin <<'END'
auth     required pam_unix.so nodelay
account  required pam_unix.so
password required pam_unix.so
session  required pam_unix.so
END
cp /etc/pam.d/rlogin /etc/pam.d/login
# Other servers leave the trust files to PAM.
[ ! -e /mnt/inetd ] || sed -i '1i auth sufficient pam_rhosts.so' /etc/pam.d/rlogin
for user in alice bob carol; do
    mkdir -m 755 "/home/$user"
    chown "$user:$user" "/home/$user"
done
: >/run/utmp
: >/var/log/wtmp
: >/var/log/btmp
chmod 600 /var/log/btmp

cd /
/mnt/test "$@"
exit $?
