"""Who lives there: one user, `jonas`, who logs in from the server's host to the other two."""

import subprocess

from host import PATIENCE
from network import LAN, PUBLIC

UID = "4000"
NAMES = f"{PUBLIC} vps\n{LAN['thinkpad']} thinkpad\n"


def move_in(lab):
    """Makes the user on every host, with a session that stays, sshd, and sudo; returns how to type as that user."""
    for name, host in lab.hosts.items():
        host.run("useradd", "--create-home", "--uid", UID, "--shell", "/bin/bash", "jonas")
        host.run("chpasswd", stdin="jonas:password-of-jonas\n")
        host.run("loginctl", "enable-linger", "jonas")
        ask = "" if name == "thinkpad" else "NOPASSWD: "
        host.write("/etc/sudoers.d/jonas", f"jonas ALL=(ALL) {ask}ALL\n", mode="440")
        host.run("ssh-keygen", "-A")
        host.run("mkdir", "-p", "/run/sshd")
        host.run("systemctl", "start", "ssh")
    home = lab.hosts["rtx1080"]
    home.run("sh", "-c", 'cat >>/etc/hosts', stdin=NAMES)
    typed = Typing(lab)
    typed("rtx1080", "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 && ssh-keyscan vps thinkpad >~/.ssh/known_hosts 2>/dev/null")
    public = typed("rtx1080", "cat ~/.ssh/id_ed25519.pub")
    for name in ("vps", "thinkpad"):
        typed(name, "mkdir -m 700 ~/.ssh && cat >~/.ssh/authorized_keys", stdin=public)
    return typed


class Typing:
    """What the user types on a host, in a shell."""

    def __init__(self, lab):
        self.lab = lab

    def __call__(self, name, line, stdin=""):
        ran = self.attempt(name, line, stdin)
        assert ran.returncode == 0, f"{name}$ {line}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def attempt(self, name, line, stdin="", env=()):
        host = self.lab.hosts[name]
        keep = [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "HOME=/home/jonas",
            "USER=jonas",
            "LANG=C.UTF-8",
            "TERM=dumb",
            f"XDG_RUNTIME_DIR=/run/user/{UID}",
            *env,
        ]
        shell = ["env", "-i", *keep, "bash", "-c", f"cd && {line}"]
        command = host.enter("runuser", "-u", "jonas", "--", *shell)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=2 * PATIENCE)
