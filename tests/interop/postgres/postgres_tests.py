"""A vault on PostgreSQL: what `run` says."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

from checks import check, end, want
from host import wait
from world import BIN, World, listens, reserve

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAMS = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
# How often each side is killed.
KILLS = 6


class Cluster:
    """A cluster of its own behind a unix socket, of a user who may run one: root may not."""

    def __init__(self, of=None):
        """Makes it anew, or as a standby `of` another one, which waits for it at each commit from then on."""
        self.more = ""
        self.dir = pathlib.Path(tempfile.mkdtemp())
        self.dir.chmod(0o755)
        self.user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        if self.user:
            os.chown(self.dir, 65534, 65534)
        if of:
            self.do("pg_basebackup", "-h", of.dir, "-U", "postgres", "-D", self.data, "-R", "--no-sync")
        else:
            self.do("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync")
        self.start()

    @property
    def data(self):
        return self.dir / "data"

    def do(self, program, *args):
        ran = subprocess.run(
            [*self.user, PROGRAMS / program, *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
            cwd=self.dir,
        )
        assert ran.returncode == 0, f"{program}: {ran.stdout}"
        return ran.stdout

    def start(self):
        options = f"-k {self.dir} -c listen_addresses= {self.more}"
        log = self.dir / "log"
        # What it starts keeps no pipe of ours.
        subprocess.run(
            [*self.user, PROGRAMS / "pg_ctl", "-D", self.data, "-o", options, "-l", log, "-w", "start"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=True,
            cwd=self.dir,
        )

    def kill(self):
        """Ends it as a crash does: nothing is written any more."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                os.kill(int(child), signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.kill(pid, signal.SIGKILL)
        wait("the database is gone", lambda: not pathlib.Path(f"/proc/{pid}").exists())
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self):
        self.do("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.dir)

    def new(self, name):
        """Makes a database; returns its URL."""
        self.do("createdb", "-h", self.dir, "-U", "postgres", name)
        return f"postgres://postgres@/{name}?host={self.dir}"


cluster = Cluster()


@check
def the_contract_of_the_tables_and_the_servers_tests_hold():
    env = {**os.environ, "VAULT_TEST_POSTGRES": cluster.new("contract")}
    for of in [["--lib", "conformance"], ["--test", "it", "postgres::"]]:
        ran = subprocess.run(
            ["cargo", "test", "--locked", "-p", "vault-server", *of],
            cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800,
        )
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
        assert " 0 passed" not in ran.stdout, ran.stdout


def put(world, value):
    """Returns the version that a write made; nothing if it was refused."""
    ran = subprocess.run(
        [BIN / "vault", "kv", "put", "-format=json", "secret/app", "A=-"],
        env=world.env, input=value, capture_output=True, text=True, timeout=120,
    )
    return json.loads(ran.stdout)["data"]["version"] if ran.returncode == 0 else None


def follow(world):
    """Starts the agent, and writes once it answers."""
    world.configure("")
    world.follow()
    wait("the agent answers", lambda: put(world, "first"))


def whole(world):
    return world.run("vault-server", "check", "--data", str(world.dir / "server"))


@check
def an_agent_writes_and_reads_through_a_server_on_postgresql():
    with World(store=cluster.new("one")) as world:
        follow(world)
        for n in range(3):
            world.put(f"value {n}")
        want(world.run("vault", "kv", "get", "-field=A", "secret/app").strip(), "value 2")
        world.run("vault", "audit", "verify")
        assert not (world.dir / "server" / "vault.db").exists()
        assert "is whole" in whole(world)


@check
def an_agent_goes_on_with_a_second_server_where_the_first_ends():
    url = cluster.new("two")
    with World(store=url) as world:
        second, port = world.dir / "second", reserve()
        address = f"127.0.0.1:{port.getsockname()[1]}"
        world.prepare(second, url, address)
        key = str(world.dir / "server" / "server.key")
        data = ["--data", str(second)]
        world.run("vault-server", "init", *data, "--join", key)
        other = world.start("vault-server", "run", *data)
        try:
            wait("the second server listens", lambda: listens(address))
            follow(world)
            first = f"127.0.0.1:{world.port.getsockname()[1]}"
            world.run("vault", "server", "move", first, address, "--yes")
            world.server.terminate()
            world.server.wait(60)
            wait("a write is taken", lambda: put(world, "by the second"))
            want(world.run("vault", "kv", "get", "-field=A", "secret/app").strip(), "by the second")
            world.run("vault", "audit", "verify")
        finally:
            other.kill()
            other.wait()
        assert "is whole" in world.run("vault-server", "check", *data)


@check
def what_is_acknowledged_outlives_the_end_of_server_and_database():
    with World(store=cluster.new("killed")) as world:
        follow(world)
        stop, versions = threading.Event(), []

        def write():
            while not stop.is_set():
                if made := put(world, str(len(versions))):
                    versions.append(made)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            data = ["--data", str(world.dir / "server")]
            for n in range(2 * KILLS):
                before = len(versions)
                wait("writes go on", lambda: len(versions) > before + 2)
                time.sleep(0.01 * n)
                if n % 2:
                    cluster.kill()
                    cluster.start()
                else:
                    world.server.kill()
                    world.server.wait()
                    world.server = world.start("vault-server", "run", *data)
        finally:
            stop.set()
            writer.join(150)
        assert not writer.is_alive(), "a write hangs"
        want(sorted(set(versions)), versions, "each is acknowledged once, in order:")
        current = world.version()
        assert current >= versions[-1], f"{current} {versions[-1]}"
        wait("the server is whole", lambda: "is whole" in whole(world))
        world.run("vault", "audit", "verify")


@check
def it_says_what_keeps_it_from_its_database():
    url = cluster.new("faults")
    with World(store=url) as world:
        world.server.terminate()
        world.server.wait(60)
        cluster.kill()
        ran = subprocess.run(
            [BIN / "vault-server", "run", "--data", world.dir / "server"],
            env=world.env, capture_output=True, text=True, timeout=60,
        )
        want(ran.returncode, 1)
        for part in ["cannot use database `postgres://postgres@/faults`", "is the server up"]:
            assert part in ran.stderr, ran.stderr
        cluster.start()
        world.server = world.start("vault-server", "run", "--data", str(world.dir / "server"))
        wait("the server listens", lambda: listens(f"127.0.0.1:{world.port.getsockname()[1]}"))


@check
def a_promoted_standby_has_all_that_was_acknowledged():
    primary = Cluster()
    primary.new("vault")
    standby = Cluster(of=primary)
    primary.do("pg_ctl", "-D", primary.data, "-m", "fast", "-w", "stop")
    primary.more = "-c synchronous_standby_names=*"
    primary.start()
    try:
        hosts = ",".join(urllib.parse.quote(str(one.dir), safe="") for one in (primary, standby))
        with World(store=f"postgres://postgres@{hosts}/vault") as world:
            follow(world)
            versions = [put(world, str(n)) for n in range(5)]
            primary.kill()
            standby.do("pg_ctl", "-D", standby.data, "-w", "promote")
            started = time.monotonic()
            versions.append(wait("a write is taken", lambda: put(world, "after")))
            assert time.monotonic() - started < 10, "it takes too long"
            want(versions, list(range(versions[0], versions[0] + 6)))
            assert "is whole" in whole(world)
            world.run("vault", "audit", "verify")
    finally:
        standby.stop()
        shutil.rmtree(primary.dir)


cluster.stop()
end()
