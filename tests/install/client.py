"""A person at an rlogin client, on a terminal of its own."""

import os
import pty
import pwd
import select
import signal
import time

PATIENCE = 20


class Client:
    """`rsh-redone-rlogin`, run by a user of this machine."""

    def __init__(self, local_user, user):
        account = pwd.getpwnam(local_user)
        self.seen = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "vt100"
            os.initgroups(local_user, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            os.execvp("rsh-redone-rlogin", ["rsh-redone-rlogin", "-l", user, "127.0.0.1"])

    def expect(self, text):
        """Reads until the text has come, and forgets what came up to there."""
        latest = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert self._read(latest), f"no {text!r} in {self.seen!r}"
        before, self.seen = self.seen.split(text, 1)
        return before

    def _read(self, latest):
        ready, _, _ = select.select([self.terminal], [], [], max(0, latest - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self.terminal, 4096)
        except OSError:
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def send(self, text):
        os.write(self.terminal, text.encode())

    def shell(self):
        """Makes the prompt one that nothing else looks like."""
        # In two pieces, so that the echo of the command is not taken for it.
        self.send("stty -echo; PS1='>>''> '\r")
        self.expect(">>> ")

    def run(self, command):
        """What a command prints, without the ends."""
        self.send(command + "\r")
        return self.expect(">>> ").replace("\r\n", "\n").strip()

    def give_password(self, password):
        self.expect("Password: ")
        self.send(password + "\r")

    def leave(self):
        self.send("exit\r")
        self.wait()

    def wait(self):
        """Until the client has ended."""
        latest = time.monotonic() + PATIENCE
        while self._read(latest):
            pass
        while time.monotonic() < latest:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                os.close(self.terminal)
                return
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("the client does not end")
