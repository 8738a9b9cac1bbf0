"""A host of its own, in namespaces: real systemd as its first process, and a disk in memory that outlives a power cut."""

import os
import pathlib
import signal
import subprocess
import time

HERE = pathlib.Path(__file__).parent
PATIENCE = 90
SPACES = ["--mount", "--pid", "--cgroup", "--uts", "--net", "--ipc"]
ENV = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "dumb",
    "VAULT_PASSPHRASE_FILE": "/root/passphrase",
}


def wait(what, probe):
    """Looks again and again until `probe` returns something true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(0.02)
    raise TimeoutError(f"{what} did not happen in {PATIENCE} s")


class Host:
    """A machine that is on while `first` is the number of its first process."""

    def __init__(self, disk, name="desk", programs=True, lower=""):
        """Takes an empty folder for the disk; whether $BIN is installed there; and the system on it, else this machine's."""
        self.disk = pathlib.Path(disk)
        self.name = name
        self.env = {key: value for key, value in os.environ.items() if key != "BIN" or (programs and not lower)}
        self.env["LOWER"] = str(lower)
        self.first = None

    def on(self):
        """Boots, and waits until everything that starts by itself has."""
        # Whoever ends this suite takes the power away.
        boot = ["setpriv", "--pdeathsig", "KILL", "unshare", *SPACES, "--fork", "--kill-child", HERE / "boot", self.disk, self.name]
        with open(self.disk / "console", "ab") as console:
            self.outer = subprocess.Popen(boot, env=self.env, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            self.settle()
        except Exception as why:
            raise RuntimeError((self.disk / "console").read_text()) from why

    def settle(self):
        children = pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        child = wait("the first process", lambda: children.read_text().split())
        self.first = child[0]
        name = pathlib.Path(f"/proc/{self.first}/comm")
        wait("systemd", lambda: name.read_text().strip() == "systemd")
        wait("the boot", lambda: self.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"))

    def cut(self):
        """Takes the power away."""
        os.kill(int(self.first), signal.SIGKILL)
        self.outer.wait()
        self.first = None

    def enter(self, *command):
        """Returns the command that runs one on the host."""
        spaces = ["--mount", "--pid", "--uts", "--net", "--ipc"]
        return ["nsenter", "--target", self.first, *spaces, "--", *command]

    def try_run(self, *command, stdin=""):
        """Runs a program on the host."""
        return subprocess.run(
            self.enter(*command), env=ENV, input=stdin, capture_output=True, text=True, timeout=PATIENCE
        )

    def run(self, *command, stdin=""):
        """Runs a program on the host that must succeed; returns what it prints."""
        ran = self.try_run(*command, stdin=stdin)
        assert ran.returncode == 0, f"{command[:3]}: {ran.returncode} {ran.stdout}{ran.stderr}"
        return ran.stdout

    def said(self, *command):
        """As `run`, but returns what it says on standard error."""
        ran = self.try_run(*command)
        assert ran.returncode == 0, f"{command[:3]}: {ran.returncode} {ran.stdout}{ran.stderr}"
        return ran.stderr

    def write(self, path, text, mode="600"):
        self.run("sh", "-c", f'mkdir -p "$(dirname "{path}")"; umask 077; cat > "{path}"; chmod {mode} "{path}"', stdin=text)

    def bring(self, file, path):
        """Copies a file of this machine to the host."""
        there = pathlib.Path(f"/proc/{self.first}/root") / path.lstrip("/")
        there.write_bytes(pathlib.Path(file).read_bytes())

    def show(self, unit, key):
        return self.run("systemctl", "show", "--property", key, "--value", unit).strip()
