"""A server and an agent of the suite's own, in a folder that goes with it."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from host import wait

BIN = pathlib.Path(os.environ["BIN"])
SECRET = "secret/app"
PATIENCE = 60


def reserve():
    """A socket on a port that the system has chosen, and gives to nobody else while it is bound."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    return bound


def listens(address):
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


class World:
    """A vault with one machine, whose agent runs while `agent` is set; `store` is the URL of its server's database,
    if that is elsewhere."""

    def __init__(self, store=None):
        self.dir = pathlib.Path(tempfile.mkdtemp()).resolve()
        self.state, self.home = self.dir / "state", self.dir / "home"
        self.home.mkdir()
        passphrase = self.dir / "passphrase"
        passphrase.write_text("correct horse battery staple\n")
        passphrase.chmod(0o600)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TERM": "xterm",
            "VAULT_STATE_DIR": str(self.state),
            "VAULT_PASSPHRASE_FILE": str(passphrase),
        }
        self.agent = None
        data = ["--data", str(self.dir / "server")]
        self.port = reserve()
        address = f"127.0.0.1:{self.port.getsockname()[1]}"
        if store:
            self.prepare(self.dir / "server", store, address)
        out = self.run("vault-server", "init", *data, "--listen", address)
        self.server = self.start("vault-server", "run", *data)
        wait("the server listens", lambda: listens(address))
        setup = re.search(r"VLTS1-\S+", out)[0]
        kit = str(self.dir / "kit.txt")
        self.run("vault", "init", "--name", "desk", "--admin", "jonas", "--kit", kit, "--kit-confirmed", stdin=setup)

    @staticmethod
    def prepare(data, store, listen="127.0.0.1:1"):
        """Writes the configuration of a server that is to be made."""
        data.mkdir(mode=0o700)
        config = data / "server.toml"
        config.write_text(f'listen = "{listen}"\ndata = "{data}"\n[store]\nurl = "{store}"\n')
        config.chmod(0o600)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.server.kill()
        self.server.wait()
        shutil.rmtree(self.dir)

    def run(self, program, *args, stdin=""):
        ran = subprocess.run(
            [BIN / program, *args], env=self.env, input=stdin, capture_output=True, text=True, timeout=PATIENCE
        )
        assert ran.returncode == 0, f"{program} {args[:2]}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def start(self, program, *args, under=()):
        log = open(self.dir / f"{program}.log", "ab")
        return subprocess.Popen(
            [*under, BIN / program, *args], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def configure(self, text):
        config = self.state / "agent.toml"
        config.write_text(text)
        config.chmod(0o600)

    def follow(self, under=()):
        """Starts the agent, with `under` in front of its command."""
        self.wrapped = bool(under)
        self.agent = self.start("vault-agent", "run", under=under)

    def pids(self):
        """The agent's process, which may have another one in front of it."""
        if not self.wrapped:
            return [self.agent.pid]
        try:
            children = pathlib.Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children")
            return [int(pid) for pid in children.read_text().split()]
        except FileNotFoundError:
            return []

    def stop(self):
        if self.agent:
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
            self.agent.wait(PATIENCE)
        self.agent = None

    def try_put(self, value):
        """As `put`, but may fail."""
        command = [BIN / "vault", "kv", "put", SECRET, "A=-"]
        subprocess.run(command, env=self.env, input=value, capture_output=True, text=True, timeout=PATIENCE)

    def put(self, value):
        self.run("vault", "kv", "put", SECRET, "A=-", stdin=value)

    def version(self):
        shown = self.run("vault", "kv", "metadata", "get", "-format=json", SECRET)
        return json.loads(shown)["data"]["current_version"]
