"""What is done with the package, in the order in which an administrator does it. Runs as
root in the booted Debian; tests/install/run brings it there."""

import glob
import os
import re
import subprocess
import sys
import time
import traceback

from client import PATIENCE, Client

PACKAGE = "/install/rlogind.deb"
CONFIGURATION = "/etc/rlogind.toml"
PAM = "/etc/pam.d/rlogin"
UNITS = "/usr/lib/systemd/system/"
EXAMPLES = "/usr/share/doc/rlogind/examples/"


def run(command, status=0):
    """Its output; any other status than that is wrong, None allows all."""
    done = subprocess.run(
        command, shell=isinstance(command, str), text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
    )
    assert status is None or done.returncode == status, f"{command}: status {done.returncode}\n{done.stdout}"
    return done.stdout.strip()


def install():
    return run(["apt-get", "install", "--yes", "--reinstall", PACKAGE])


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def eventually(what, condition):
    latest = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < latest, f"in vain: {what}"
        time.sleep(0.1)
    return result


def active(unit):
    return run(["systemctl", "is-active", unit], None) == "active"


def main_pid():
    return run("systemctl show --property=MainPID --value rlogind.service")


def listening():
    """Whether anybody has port 513, by proc(5)."""
    tables = read("/proc/net/tcp") + read("/proc/net/tcp6")
    return re.search(r":0201 [0:]+ 0A ", tables) is not None


def journal():
    """The audit log, as the journal has it from root's rlogind."""
    return run("journalctl --quiet --output=cat _COMM=rlogind _UID=0")


def event(name, count=1):
    """Waits for so many lines of an event in the journal."""
    return eventually(f"{count} {name}", lambda: journal().count(f'event="{name}"') >= count)


def trusted():
    client = Client("alice", "alice")
    client.shell()
    return client


def by_password():
    client = Client("root", "bob")
    client.give_password("secret of bob")
    client.shell()
    return client


# The steps. Each may rely on those before it.


def another_server_is_there():
    run("adduser --disabled-password --gecos '' --shell /bin/sh alice && adduser --disabled-password --gecos '' --shell /bin/sh bob")
    run("echo 'bob:secret of bob' | chpasswd")
    # Files that are named after rlogind and are there without it.
    run("find / -xdev -name '*rlogind*' -not -path '/proc/*' -not -path '/install/*' >/install/before")
    assert active("inetd") and listening()


def it_installs_over_rsh_redone_server():
    told = install()
    assert "rsh-redone-server" in told, told
    # The PAM service is ours, without a question, and nothing differs from the package.
    assert "pam_rhosts" not in re.sub("#.*", "", read(PAM))
    assert run("dpkg --verify rlogind") == ""
    run("dpkg --purge rsh-redone-server")
    assert run("dpkg --verify rlogind") == ""


def the_service_is_active_and_enabled():
    assert active("rlogind.service"), run("systemctl status rlogind", None)
    assert run("systemctl is-enabled rlogind.service") == "enabled"
    assert run("systemctl is-enabled rlogind.socket", None) == "disabled"
    assert run("systemctl show --property=StatusText --value rlogind").startswith("listening on ")
    assert run("ps -o user= -C rlogind-relay") == "rlogind"
    assert 'event="warning"' not in journal()
    assert "would serve" in run("rlogind check")


def the_units_are_clean():
    assert run(f"systemd-analyze verify --man=no {UNITS}rlogind.service {UNITS}rlogind.socket") == ""


def a_trusted_user_logs_in_without_a_password():
    write("/etc/hosts.equiv", "localhost\n")
    client = trusted()
    shown = client.run("id -un; tty")
    assert re.fullmatch(r"alice\n/dev/pts/\d+", shown), shown
    assert "assword" not in client.seen
    client.leave()
    event("trust-granted")
    event("session-closed")


def a_password_logs_in():
    client = by_password()
    assert client.run("id -un") == "bob"
    client.leave()
    event("password-accepted")


def who_last_and_loginctl_show_it():
    client = trusted()
    tty = client.run("tty").removeprefix("/dev/")
    who = run("who")
    assert re.search(rf"^alice +{tty} .*\(localhost\)", who), who
    last = run("last --limit 1 alice")
    assert re.search(rf"alice +{tty} +localhost .*still logged in", last), last
    sessions = run("loginctl --no-legend list-sessions")
    assert re.search(rf"\balice\b.*\b{tty}\b", sessions), sessions
    number = sessions.split()[0]
    show = run(["loginctl", "show-session", number])
    for line in ["Name=alice", "RemoteHost=127.0.0.1", "RemoteUser=alice", "Service=rlogin", "State=active"]:
        assert line in show.splitlines(), show
    assert f"session-{number}.scope" in client.run("cat /proc/self/cgroup")
    client.leave()
    eventually("the session ends for logind", lambda: "alice" not in run("loginctl --no-legend list-sessions"))
    assert tty not in run("who")


def a_shell_inherits_nothing_of_the_unit():
    client = trusted()
    status = dict(line.split(":\t", 1) for line in read("/proc/1/status").splitlines() if ":\t" in line)
    for key in ["NoNewPrivs", "Seccomp_filters", "CapBnd"]:
        assert client.run(f"sed -n 's/^{key}:\\t//p' /proc/self/status") == status[key], key
    for kind in ["mnt", "uts", "net", "ipc", "user"]:
        assert client.run(f"readlink /proc/self/ns/{kind}") == os.readlink(f"/proc/1/ns/{kind}"), kind
    # What systemd gives every service (DefaultLimitNOFILE=), and not what rlogind gives itself.
    assert client.run("ulimit -Sn") == "1024"
    assert client.run("cat /proc/self/oom_score_adj") == read("/proc/self/oom_score_adj").strip()
    client.leave()


def syslog_has_it():
    # Where every Debian has it, and where the example puts it.
    eventually("auth.log has it", lambda: 'event="session-opened" user="alice"' in read("/var/log/auth.log"))
    run(f"cp {EXAMPLES}rsyslog.conf /etc/rsyslog.d/rlogind.conf && systemctl restart rsyslog")
    trusted().leave()
    log = "/var/log/rlogind.log"
    eventually("a file of its own", lambda: os.path.exists(log) and 'event="session-closed"' in read(log))
    # What modules log comes from the monitor as well, and under another name.
    assert " rlogind-session[" not in read(log)
    by_modules = run("journalctl --quiet --output=cat _COMM=rlogind SYSLOG_IDENTIFIER=rlogind-session")
    assert "pam_unix(rlogin:session): session opened for user alice" in by_modules, by_modules
    run("rm /etc/rsyslog.d/rlogind.conf /var/log/rlogind.log && systemctl restart rsyslog")


def fail2ban_counts_failures_and_nothing_else():
    client = Client("root", "bob")
    # The last one tries to look like a line of the log.
    forged = 'forged event="password-failed" user="bob" address="192.0.2.1" port="1"'
    for name in ["alice", forged, None]:
        client.give_password("not the password")
        if name:
            client.expect("login: ")
            client.send(name + "\r")
    client.wait()
    event("password-failed", 3)
    failures = journal().count('event="password-failed"')
    assert failures == 3, failures
    # What the journal does not believe.
    run(["runuser", "-u", "alice", "--", "logger", "--tag", "rlogind", forged])
    # What another program writes of what it was sent, and what a module logs.
    others = ["e2e sshd[77]: Invalid user x", "e2e rlogind-session[12]: x", "e2e su: rlogind[1]: x"]
    write("/tmp/others.log", "".join(f"Nov 29 10:00:02 {other} {forged}\n" for other in others))
    for place, expected in [("/var/log/auth.log", 3), ("systemd-journal", 3), ("/tmp/others.log", 0)]:
        told = run(["fail2ban-regex", "--print-all-matched", place, "/etc/fail2ban/filter.d/rlogind.conf"])
        assert f"Failregex: {expected} total" in told, told
        assert "192.0.2.1" not in told.replace(forged, ""), told


def the_fail2ban_jail_counts_them():
    jail = "/etc/fail2ban/jail.d/rlogind.conf"
    # It spares the machine itself otherwise, and there is no other here.
    write(jail, read(f"{EXAMPLES}fail2ban-jail.conf") + "ignoreself = false\n")
    run("fail2ban-client -t && systemctl restart fail2ban")
    failed = r"Total failed:\s+3\b"
    eventually("the jail counts", lambda: re.search(failed, run("fail2ban-client status rlogind", None)))
    run(f"rm {jail} && systemctl restart fail2ban")


def a_reload_keeps_sessions():
    client, pid = trusted(), main_pid()
    client.run("kept=yes")
    write(CONFIGURATION, read(CONFIGURATION).replace('banner = ""', 'banner = "/etc/issue.net"'))
    run("systemctl reload rlogind")
    event("config-read", 2)
    assert main_pid() == pid and client.run("echo $kept") == "yes"
    other = Client("alice", "alice")
    other.expect(read("/etc/issue.net").strip())
    other.shell()
    other.leave()
    client.leave()


def a_wrong_configuration_is_refused_by_reload():
    client, pid, right = trusted(), main_pid(), read(CONFIGURATION)
    write(CONFIGURATION, right.replace("[trust]\n", "[trust]\nhosts_equif = true\n"))
    line = read(CONFIGURATION).split("hosts_equif")[0].count("\n") + 1
    told = run("systemctl reload rlogind", 1)
    assert "systemctl status rlogind" in told, told
    status = run("systemctl status --full --lines=20 rlogind", None)
    assert "hosts_equif" in status and f"rlogind.toml:{line}" in status, status
    assert active("rlogind") and main_pid() == pid
    assert client.run("echo still here") == "still here"
    write(CONFIGURATION, right)
    run("systemctl reload rlogind")
    client.leave()
    trusted().leave()


def installing_it_again_keeps_sessions():
    client, pid = trusted(), main_pid()
    client.run("kept=yes")
    other = by_password()
    told = install()
    assert client.run("echo $kept") == "yes" and other.run("id -un") == "bob"
    assert active("rlogind")
    # For some seconds the guard of the upgrade stands for the service.
    eventually("the daemon is the main process again", lambda: main_pid() == pid)
    status = lambda: run("systemctl show --property=StatusText --value rlogind.service")
    eventually("the unit has its status", lambda: status().startswith("listening on "))
    old = "goes on until it is restarted"
    program = os.readlink(f"/proc/{pid}/exe")
    assert program == "/usr/sbin/rlogind" and old not in told, told
    # Both the old sessions and new ones are whole, to the end.
    closed = journal().count('event="session-closed"')
    client.leave()
    other.leave()
    event("session-closed", closed + 2)
    trusted().leave()
    by_password().leave()


def a_stop_ends_sessions_in_order():
    for number in range(5):
        if number:
            run("systemctl reset-failed; systemctl start rlogind")
        stop_just_after_an_upgrade()


def stop_just_after_an_upgrade():
    client = trusted()
    closed = journal().count('event="session-closed"')
    # Just now the guard of an upgrade is the main process.
    run("rlogind upgrade")
    assert client.run("echo here") == "here"
    run("systemctl stop rlogind")
    client.wait()
    event("session-closed", closed + 1)
    assert not listening() and "alice" not in run("who")
    assert run("systemctl is-failed rlogind", 1) == "inactive"
    left = lambda: run("ps -o comm= -C rlogind,rlogind-relay,rlogind-session,rlogind-guard", None)
    eventually("no process is left", lambda: left() == "")


def a_port_that_is_taken_is_said_and_nothing_breaks():
    write("/install/port.py", "import socket, time\ns = socket.create_server(('', 513))\ntime.sleep(600)\n")
    run("systemd-run --quiet --unit=port python3 /install/port.py")
    eventually("the port is taken", listening)
    assert "513" in install()
    assert run("dpkg-query --show --showformat='${db:Status-Status}' rlogind") == "installed"
    run("systemctl stop port rlogind; systemctl reset-failed")


def the_socket_starts_a_service_for_each_connection():
    run("systemctl disable --now rlogind.service && systemctl enable --now rlogind.socket")
    client, other = trusted(), by_password()
    units = run("systemctl list-units --no-legend --plain 'rlogind@*'")
    assert len(units.splitlines()) == 2 and not active("rlogind.service"), units
    assert client.run("ls /proc/self/fd | tr '\\n' ' '") == "0 1 2 3"
    assert "session-" in client.run("cat /proc/self/cgroup")
    # Installing it again is no reason to touch them, nor to start the service.
    install()
    assert not active("rlogind.service") and active("rlogind.socket")
    assert client.run("id -un") == "alice"
    client.leave()
    other.leave()
    eventually("no unit is left", lambda: run("systemctl list-units --all --no-legend --plain 'rlogind@*'") == "")


def the_socket_can_start_the_whole_daemon_as_well():
    folder = "/etc/systemd/system/rlogind.socket.d"
    os.makedirs(folder)
    write(f"{folder}/whole.conf", "[Socket]\nAccept=no\n")
    run("systemctl daemon-reload && systemctl restart rlogind.socket")
    assert not active("rlogind.service")
    client, other = trusted(), by_password()
    assert active("rlogind.service")
    client.leave()
    other.leave()
    run(f"rm -r {folder} && systemctl daemon-reload")
    run("systemctl disable --now rlogind.socket && systemctl stop rlogind")


def the_script_for_other_inits_works():
    script = "SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/rlogind "
    run(script + "start")
    client = trusted()
    run(script + "status")
    run(script + "reload")
    pid = read("/run/rlogind.pid")
    assert client.run("id -un") == "alice" and read("/run/rlogind.pid") == pid
    run(script + "stop")
    client.wait()
    run(script + "status", 3)
    assert not listening()
    run("systemctl enable --now rlogind.service")


def inetd_serves_as_well():
    run("systemctl disable --now rlogind.service")
    run(f"grep '^login.*tcp\t' {EXAMPLES}inetd.conf >>/etc/inetd.conf && systemctl restart inetd")
    client = trusted()
    client.leave()
    run("sed -i '/rlogind/d' /etc/inetd.conf && systemctl stop inetd")
    run("systemctl enable --now rlogind.service")


def removing_it_stops_it():
    client = trusted()
    run("dpkg --remove rlogind")
    client.wait()
    assert not listening() and not active("rlogind")
    assert os.path.exists(CONFIGURATION) and os.path.exists(PAM)
    install()
    assert active("rlogind")
    trusted().leave()


def purging_it_leaves_nothing():
    client = trusted()
    run("dpkg --purge rlogind")
    client.wait()
    assert not listening()
    found = run("find / -xdev -name '*rlogind*' -not -path '/proc/*' -not -path '/install/*' -not -path '/tmp/*'")
    left = set(found.splitlines()) - set(read("/install/before").splitlines())
    assert left == set(), left
    for path in [CONFIGURATION, PAM, "/run/rlogind", *glob.glob("/usr/sbin/in.rlogind")]:
        assert not os.path.exists(path), path
    assert run("getent passwd rlogind; getent group rlogind", None) == ""
    # system-rlogind.slice is systemd's own, and gone with the next boot.
    for left in ["systemctl --no-legend --plain list-units --all 'rlogind*'",
                 "systemctl --no-legend list-unit-files 'rlogind*'",
                 "grep -rl rlogind /etc --exclude='*-'"]:
        assert run(left, None) == "", f"{left}: {run(left, None)}"


def it_serves_without_a_package():
    # What `make install` lays out, and says is to be done then.
    run("cp -a /install/stage/. /")
    run("systemd-sysusers && systemctl daemon-reload && systemctl enable --now rlogind")
    assert run("systemd-analyze verify --man=no rlogind.service") == ""
    assert os.readlink(f"/proc/{main_pid()}/exe") == "/usr/local/sbin/rlogind"
    client = trusted()
    assert client.run("id -un") == "alice"
    client.leave()
    by_password().leave()
    run("systemctl disable --now rlogind")


STEPS = [
    another_server_is_there,
    it_installs_over_rsh_redone_server,
    the_service_is_active_and_enabled,
    the_units_are_clean,
    a_trusted_user_logs_in_without_a_password,
    a_password_logs_in,
    who_last_and_loginctl_show_it,
    a_shell_inherits_nothing_of_the_unit,
    syslog_has_it,
    fail2ban_counts_failures_and_nothing_else,
    the_fail2ban_jail_counts_them,
    a_reload_keeps_sessions,
    a_wrong_configuration_is_refused_by_reload,
    installing_it_again_keeps_sessions,
    a_stop_ends_sessions_in_order,
    a_port_that_is_taken_is_said_and_nothing_breaks,
    the_socket_starts_a_service_for_each_connection,
    the_socket_can_start_the_whole_daemon_as_well,
    the_script_for_other_inits_works,
    inetd_serves_as_well,
    removing_it_stops_it,
    purging_it_leaves_nothing,
    it_serves_without_a_package,
]


def main():
    for step in STEPS:
        name = step.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            step()
        except Exception:  # Whatever it is, it is the step that failed.
            traceback.print_exc(file=sys.stdout)
            print(run("journalctl --no-pager --lines=40", None))
            print(f"FAILED  {name}")
            sys.exit(1)
        print(f"OK      {name}, {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
