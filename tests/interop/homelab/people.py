"""Who lives there: one user, `jonas`, who logs in from the server's host to the other two."""

import pathlib
import subprocess
import threading

from host import PATIENCE, wait
from network import LAN, PUBLIC

NAMES = f"{PUBLIC} vps\n{LAN['thinkpad']} thinkpad\n"
UID = "4000"
PASSWORD = "password-of-jonas"
# How what opens a secret begins.
KEY_WORDS = ("AGE-SECRET-KEY-", "VLTS1-")


def move_in(lab):
    """Makes the user on every host, with services that go on, sshd, and sudo; returns how to type as that user.

    On the laptop sudo asks for the password, on a terminal; on the others it asks for nothing.
    """
    for name, host in lab.hosts.items():
        host.run("useradd", "--create-home", "--uid", UID, "--shell", "/bin/bash", "jonas")
        host.run("chpasswd", stdin=f"jonas:{PASSWORD}\n")
        # `sudo` looks its host up.
        host.run("sh", "-c", "cat >>/etc/hosts", stdin=f"127.0.1.1 {name}\n")
        ask = "" if name == "thinkpad" else "NOPASSWD: "
        host.write("/etc/sudoers.d/jonas", f"jonas ALL=(ALL) {ask}ALL\n", mode="440")
        host.run("ssh-keygen", "-A")
        host.run("mkdir", "-p", "/run/sshd")
        host.run("systemctl", "start", "ssh")
    home = lab.hosts["rtx1080"]
    home.run("loginctl", "enable-linger", "jonas")
    home.run("sh", "-c", "cat >>/etc/hosts", stdin=NAMES)
    typing = Typing(lab)
    typing("rtx1080", "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 && ssh-keyscan vps thinkpad >~/.ssh/known_hosts 2>/dev/null")
    public = typing("rtx1080", "cat ~/.ssh/id_ed25519.pub")
    for name in ("vps", "thinkpad"):
        typing(name, "mkdir -m 700 ~/.ssh && cat >~/.ssh/authorized_keys", stdin=public)
    return typing


class Typing:
    """What the user types on a host, in a shell."""

    def __init__(self, lab):
        self.lab = lab

    def __call__(self, name, line, stdin=""):
        ran = self.attempt(name, line, stdin)
        assert ran.returncode == 0, f"{name}$ {line}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def until(self, name, line):
        """Types it again and again until it succeeds."""
        ran = None

        def works():
            nonlocal ran
            ran = self.attempt(name, line)
            return ran.returncode == 0

        try:
            wait(line, works)
        except TimeoutError as why:
            raise TimeoutError(f"{why}: {ran.stdout}{ran.stderr}") from None
        return ran.stdout

    def attempt(self, name, line, stdin=""):
        command = self.command(name, line)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=2 * PATIENCE)

    def command(self, name, line):
        """Returns what runs a line in the user's shell on a host."""
        host = self.lab.hosts[name]
        keep = [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "HOME=/home/jonas",
            "USER=jonas",
            "LANG=C.UTF-8",
            "TERM=xterm",
            f"XDG_RUNTIME_DIR=/run/user/{UID}",
        ]
        # As at a login, the user's own folder of programs comes first where there is one.
        shell = ["env", "-i", *keep, "bash", "-c", f"cd; PATH=~/.local/bin:$PATH; {line}"]
        return host.enter("runuser", "-u", "jonas", "--", *shell)


class Watch:
    """Looks at the arguments and environments of every process, as long as it is entered."""

    def __init__(self, words):
        self.words = words
        self.seen = set()

    def __enter__(self):
        self.over = threading.Event()
        self.looks = threading.Thread(target=self.look)
        self.looks.start()

    def __exit__(self, *_):
        self.over.set()
        self.looks.join()

    def look(self):
        words = [(word, word.encode()) for word in self.words]
        while not self.over.wait(0.01):
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        text = (process / name).read_bytes()
                    except OSError:
                        continue
                    self.seen |= {f"{word} in {name}: {text[:80]}" for word, found in words if found in text}
