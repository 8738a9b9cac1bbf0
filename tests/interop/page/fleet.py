"""A vault of three hosts, each a folder and an agent of its own, with all that a page has to tell of it."""

import datetime
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

from host import wait
from world import BIN, listens, reserve

PATIENCE = 60
STRIPE = "secret/shop/stripe"
JECO = "secret/j-jeco"
GHOST = "secret/ghost"
GRAFANA = "secret/grafana"
# What nobody may see who was not let in.
PRIVATE = ["stripe", "j-jeco", "grafana", "rtx1080", "thinkpad", "jonas", "nightly-backup", "sk_live"]
VALUES = {JECO: "OPENAI_API_KEY", GHOST: "database__password", GRAFANA: "GF_SECURITY_ADMIN_PASSWORD", STRIPE: "STRIPE_SECRET_KEY"}
READER = """#!/usr/bin/python3
# Reads a secret as a program does that knows Vault's API.
import socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
there.sendall(f"GET /v1/{sys.argv[2]} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n".encode())
answer = b""
while piece := there.recv(65536):
    answer += piece
sys.exit(0 if answer.startswith(b"HTTP/1.1 200") else answer.decode())
"""


def last_night(now):
    """The newest 03:12 that is over for two hours at least."""
    night = now.replace(hour=3, minute=12, second=0, microsecond=0)
    return night if now - night > datetime.timedelta(hours=2) else night - datetime.timedelta(days=1)


class Host:
    """A host, whose agent runs while `agent` is set."""

    def __init__(self, fleet, name):
        self.fleet, self.name = fleet, name
        self.dir = fleet.dir / name
        self.state, self.home = self.dir / "state", self.dir / "home"
        self.home.mkdir(parents=True)
        self.socket = self.state / "agent.sock"
        self.agent = None

    def env(self):
        passphrase = str(self.fleet.dir / "passphrase")
        return {**self.fleet.env, "HOME": str(self.home), "VAULT_STATE_DIR": str(self.state), "VAULT_PASSPHRASE_FILE": passphrase}

    def try_run(self, program, *args, stdin="", env=None):
        command = [BIN / program, *args]
        env = {**self.env(), **(env or {})}
        return subprocess.run(
            command, env=env, input=stdin, capture_output=True, text=True, timeout=PATIENCE, cwd=self.home
        )

    def run(self, program, *args, stdin=""):
        ran = self.try_run(program, *args, stdin=stdin)
        assert ran.returncode == 0, f"{self.name}: {program} {args[:2]}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def start(self):
        self.agent = self.fleet.spawn(self.dir / "agent.log", self.env(), "vault-agent", "run")
        wait(f"the agent of {self.name}", lambda: self.try_run("vault", "status", "-format=json").stdout)

    def stop(self):
        if self.agent:
            self.agent.send_signal(signal.SIGTERM)
            self.agent.wait(PATIENCE)
        self.agent = None

    def kill(self):
        """Ends the agent as a power cut would."""
        self.agent.kill()
        self.agent.wait()
        self.agent = None

    def status(self):
        return json.loads(self.try_run("vault", "status", "-format=json").stdout)

    def put(self, path, value):
        self.run("vault", "kv", "put", path, f"{VALUES[path]}=-", stdin=value)

    def target(self, name, path, *more):
        file = self.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        self.run("vault-agent", "target", "add", str(file), path, *more)
        wait(f"{name} on {self.name}", file.exists)

    def read_by(self, program, path):
        """Reads a secret by a program of that name."""
        file = self.dir / program
        file.write_text(READER)
        file.chmod(0o755)
        mount, _, below = path.partition("/")
        subprocess.run([file, self.socket, f"{mount}/data/{below}"], env=self.env(), check=True, timeout=PATIENCE)


class Fleet:
    """The server and its hosts: set up last night, by clocks that are set back, and looked at now."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="page-")).resolve()
        passphrase = self.dir / "passphrase"
        passphrase.write_text("correct horse battery staple\n")
        passphrase.chmod(0o600)
        # UTC, so that what the page says and what is expected are in one zone.
        self.env = {"PATH": os.environ["PATH"], "TERM": "dumb", "TZ": "UTC", "LANG": "C.UTF-8"}
        self.children, self.asking = [], None
        self.rtx1080, self.vps, self.thinkpad = (Host(self, name) for name in ("rtx1080", "vps", "thinkpad"))
        now = datetime.datetime.now(datetime.timezone.utc)
        self.night = last_night(now)
        clock = dict(self.env)
        try:
            self.env.update(set_back(now - self.night))
            self.set_up()
            self.live_through_the_night()
            self.env = clock
            self.wake()
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def spawn(self, log, env, program, *args):
        with open(log, "ab") as out:
            child = subprocess.Popen([BIN / program, *args], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.children.append(child)
        return child

    def serve(self):
        self.server = self.spawn(self.dir / "server.log", self.env, "vault-server", "run", "--data", str(self.dir / "server"))
        wait("the server listens", lambda: listens(self.address))

    def set_up(self):
        """A vault, its three machines, and what they keep right."""
        self.port = reserve()
        self.address = f"127.0.0.1:{self.port.getsockname()[1]}"
        owner = self.rtx1080
        out = owner.run("vault-server", "init", "--data", str(self.dir / "server"), "--listen", self.address)
        self.serve()
        setup = re.search(r"VLTS1-\S+", out)[0]
        kit = str(self.dir / "kit.txt")
        owner.run("vault", "init", "--name", "rtx1080", "--admin", "jonas", "--kit", kit, "--kit-confirmed", stdin=setup)
        owner.start()
        for host, more in ((self.vps, []), (self.thinkpad, ["--sleeps"])):
            line = re.search(r"VLTM1-\S+", host.run("vault-agent", "init", "--name", host.name))[0]
            pin = owner.run("vault", "machine", "add", line, "--yes", "--read", "*", *more)
            host.run("vault-agent", "join", re.search(r"VLTP1-\S+", pin)[0])
            host.start()
        for path in VALUES:
            owner.put(path, f"sk_live_{path}_1")

    def live_through_the_night(self):
        """Files, hooks, and a program that reads the Stripe key."""
        for host in (self.rtx1080, self.vps, self.thinkpad):
            host.target("J-Jeco/.env", JECO, "--on-change", "true")
        self.vps.target("opt/ghost/.env", GHOST, "--on-change", "true")
        # It fails from the second version on.
        self.rtx1080.target("grafana/.env", GRAFANA, "--on-change", "! grep -q _2 .env")
        self.vps.read_by("nightly-backup", STRIPE)
        self.rtx1080.read_by("shop", STRIPE)
        for host in (self.rtx1080, self.vps, self.thinkpad):
            wait(f"{host.name} is well", lambda host=host: host.status()["ok"])
            host.run("vault", "audit", "log", "-n", "1")
            host.stop()
        self.server.send_signal(signal.SIGTERM)
        self.server.wait(PATIENCE)

    def wake(self):
        """The morning: the laptop sleeps, a host goes down, secrets change, a hook fails, and a host asks to join."""
        self.serve()
        owner = self.rtx1080
        owner.start()
        self.vps.start()
        wait("the hosts follow", lambda: sum(it["awake"] for it in owner.status()["machines"]) == 2)
        self.vps.kill()
        wait("the host is down", lambda: sum(it["awake"] for it in owner.status()["machines"]) == 1)
        owner.put(JECO, "sk_live_jeco_2")
        owner.put(GRAFANA, "sk_live_grafana_2")
        self.ask_to_join()
        wait("the faults", lambda: {"lags", "E_HOOK"} <= {it["code"] for it in owner.status()["findings"]})

    def ask_to_join(self):
        invite = json.loads(self.rtx1080.run("vault", "machine", "invite", "any", "-format=json"))
        pi = Host(self, "pi")
        with open(pi.dir / "asks", "wb") as out:
            command = [BIN / "vault-agent", "join", "--wait", self.address, "--vault", invite["words"], "--name", "pi"]
            asking = subprocess.Popen(command, env=pi.env(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.children.append(asking)
        shown = wait("six words", lambda: re.search(r"^words: (.+)$", (pi.dir / "asks").read_text(), re.M))
        self.words = shown[1]
        listed = lambda: json.loads(self.rtx1080.run("vault", "machine", "approve", "-format=json"))
        wait("the request", listed)

    def link(self):
        """Returns the one-time link to the page."""
        shown = self.rtx1080.run("vault", "ui", "--print")
        return re.search(r"http://\S+/open/\S+", shown)[0]

    def records(self, *filters):
        """Returns the audit records that the command line finds."""
        return json.loads(self.rtx1080.run("vault", "audit", "log", "-format=json", *filters))

    def newest_entry(self):
        return self.rtx1080.status()["seq"]

    def end(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
                child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def set_back(by):
    """Returns the environment in which programs have their clocks set back."""
    library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")[0]
    back = f"-{int(by.total_seconds())}"
    return {"LD_PRELOAD": library, "FAKETIME": back, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}
