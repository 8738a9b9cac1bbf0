"""A server, its owner, and hosts that are reached by a real sshd each: all on this machine, in one folder."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from host import wait
from terminal import type_at

BIN = pathlib.Path(os.environ["BIN"])
PASSPHRASE = "correct horse battery staple"
PATIENCE = 60
PLAIN = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "dumb"}

# Stands before ssh on the owner's host. Counts the steps, and after the one that `fault` names it cuts the connection,
# or kills the program that asked for the step.
SSH = """#!/bin/sh
dir='{dir}'
case " $* " in
*' -M '*) echo $$ >"$dir/master"; exec /usr/bin/ssh -F "$dir/ssh_config" "$@" ;;
*' -O '*) exec /usr/bin/ssh -F "$dir/ssh_config" "$@" ;;
esac
/usr/bin/ssh -F "$dir/ssh_config" "$@"
rc=$?
n=$(($(cat "$dir/steps" 2>/dev/null || echo 0) + 1))
echo $n >"$dir/steps"
[ -e "$dir/fault" ] || exit $rc
read -r at kind <"$dir/fault"
[ "$at" = "$n" ] || exit $rc
rm "$dir/fault"
if [ "$kind" = cut ]; then kill -9 "$(cat "$dir/master")"; exit 255; fi
kill -9 $PPID
exit $rc
"""


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Host:
    """A host with an sshd of its own; whoever logs in is root, with a home and a state folder of this host."""

    def __init__(self, world, name, before=""):
        self.world, self.name = world, name
        self.dir = world.dir / name
        self.home, self.state, self.bin = self.dir / "home", self.dir / "state", self.dir / "bin"
        for folder in (self.home, self.bin):
            folder.mkdir(parents=True)
        self.port = free_port()
        config = self.dir / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {world.dir}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {world.dir}/key.pub\nStrictModes no\nPermitRootLogin yes\nMaxStartups 50\n"
            f"SetEnv HOME={self.home} VAULT_STATE_DIR={self.state} PATH={self.bin}:{PLAIN['PATH']}\n"
        )
        start = ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
        if before:
            start = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{before} && exec \"$@\"", "-", *start]
        log = open(self.dir / "sshd.log", "ab")
        self.sshd = subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=PLAIN)
        with open(world.dir / "ssh_config", "a") as text:
            text.write(f"Host {name}\n  HostName 127.0.0.1\n  Port {self.port}\n  HostKeyAlias world\n")

        def up():
            with socket.socket() as it:
                return it.connect_ex(("127.0.0.1", self.port)) == 0

        wait(f"the sshd of {name}", up)

    def program(self, name, text, folder=None):
        """Puts a program where this host finds it before any other."""
        file = (folder or self.bin) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\n" + text)
        file.chmod(0o755)

    def agent_pid(self):
        try:
            pid = int((self.state / "agent.pid").read_text())
            os.kill(pid, 0)
            return pid
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None

    def stop(self):
        """Ends the agent as a power cut would."""
        if pid := self.agent_pid():
            os.kill(pid, signal.SIGKILL)
            wait("its end", lambda: self.agent_pid() is None or self.is_zombie(pid))

    def is_zombie(self, pid):
        try:
            # Its sockets are open as long as one of its threads is not over.
            threads = len(os.listdir(f"/proc/{pid}/task"))
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            return state == "Z" and threads == 1
        except FileNotFoundError:
            return True

    def end(self):
        self.stop()
        self.sshd.kill()
        self.sshd.wait()


class World:
    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="enrol-", dir="/tmp"))
        self.hosts, self.children = {}, []
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        for key in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / key], check=True)
        host_key = (self.dir / "host_key.pub").read_text()
        (self.dir / "known_hosts").write_text(f"world {host_key}")
        (self.dir / "ssh_config").write_text(
            f"IdentityFile {self.dir}/key\nIdentitiesOnly yes\nUserKnownHostsFile {self.dir}/known_hosts\nUser root\n"
            "StrictHostKeyChecking yes\n"
        )
        self.bin = self.dir / "bin"
        self.bin.mkdir()
        (self.bin / "ssh").write_text(SSH.format(dir=self.dir))
        (self.bin / "ssh").chmod(0o755)
        for name in ("vault", "vault-agent", "vault-server"):
            shutil.copy(BIN / name, self.bin / name)
        self.home = self.dir / "owner"
        self.home.mkdir()
        passphrase = self.dir / "passphrase"
        passphrase.write_text(PASSPHRASE + "\n")
        passphrase.chmod(0o600)
        self.env = {
            **PLAIN,
            "PATH": f"{self.bin}:{PLAIN['PATH']}",
            "HOME": str(self.home),
            "VAULT_STATE_DIR": str(self.dir / "owner-state"),
            "VAULT_PASSPHRASE_FILE": str(passphrase),
        }
        self.port = free_port()
        data = str(self.dir / "server")
        init = ["vault-server", "init", "--data", data, "--listen", f"127.0.0.1:{self.port}"]
        setup = self.run(*init).stdout
        self.spawn("vault-server", "run", "--data", data)
        line = next(word for word in setup.split() if word.startswith("VLTS1-"))
        words = ["vault", "init", "--name", "rtx1080", "--admin", "jonas", "--kit", str(self.dir / "kit"), "--kit-confirmed"]
        wait("the vault", lambda: self.try_run(*words, stdin=line).returncode == 0)
        self.spawn("vault-agent", "run")
        wait("the agent", lambda: (self.dir / "owner-state/agent.sock").exists())

    def spawn(self, program, *words):
        log = open(self.dir / f"{program}.log", "ab")
        child = subprocess.Popen(
            [self.bin / program, *words], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self.children.append(child)

    def host(self, name, before=""):
        self.hosts[name] = Host(self, name, before)
        return self.hosts[name]

    def try_run(self, *words, stdin="", env=None):
        return subprocess.run(
            words, env={**self.env, **(env or {})}, input=stdin, capture_output=True, text=True, timeout=PATIENCE * 2
        )

    def run(self, *words, stdin=""):
        ran = self.try_run(*words, stdin=stdin)
        assert ran.returncode == 0, f"{words[:4]}: {ran.returncode} {ran.stdout}{ran.stderr}"
        return ran

    def typed(self, words, answers, env=None):
        """Runs a command at a terminal, and answers its questions; returns exit code and all it said."""
        return type_at(words, answers, env={**self.env, **(env or {})}, cwd=self.home)

    def entries(self):
        """Number of the newest entry of the log."""
        import json

        return json.loads(self.try_run("vault", "status", "-format=json").stdout)["seq"]

    def steps(self):
        file = self.dir / "steps"
        return int(file.read_text()) if file.exists() else 0

    def end(self):
        for host in self.hosts.values():
            host.end()
        for child in reversed(self.children):
            child.kill()
            child.wait()
        # The owner's own agent, where a command has started it anew.
        if (noted := self.dir / "owner-state/agent.pid").exists():
            try:
                os.kill(int(noted.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)
