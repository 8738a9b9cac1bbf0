"""A vault on PostgreSQL: what `run` says."""

import os
import random
import subprocess
import threading
import time

import breaks
import drills
import suites
import upgrade
from checks import check, end, want
from cluster import Cluster, either
from host import wait
from world import BIN, SECRET, World, listens, reserve
from writers import put as put_at

# How often each side is killed.
KILLS = 6

cluster = Cluster()


@check
def the_contract_of_the_tables_and_the_servers_tests_hold():
    for of in [["--lib", "conformance"], ["--test", "it", "postgres::"]]:
        suites.run(cluster, *of)


def put(world, value):
    """Returns the version that a write made; nothing if it was refused."""
    return put_at(world, SECRET, value)[0]


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
    primary.wait_for_standby()
    try:
        with World(store=either("vault", primary, standby)) as world:
            follow(world)
            versions = [put(world, str(n)) for n in range(5)]
            primary.kill()
            standby.promote()
            started = time.monotonic()
            versions.append(wait("a write is taken", lambda: put(world, "after")))
            assert time.monotonic() - started < 10, "it takes too long"
            want(versions, list(range(versions[0], versions[0] + 6)))
            assert "is whole" in whole(world)
            world.run("vault", "audit", "verify")
    finally:
        standby.stop()
        primary.stop()


# All of these, or so many by the number.
CHOSEN = 2
seed = None if os.environ.get("MATRIX") == "full" else os.environ.get("MATRIX_SEED")
chance = random.Random(seed) if seed else None
accidents = [*breaks.CHECKS, *drills.CHECKS, *upgrade.CHECKS]
if chance:
    print(f"MATRIX_SEED={seed}: {CHOSEN} of {len(accidents)} accidents are tried, and a file of tests")
    accidents = chance.sample(accidents, CHOSEN)
for accident in accidents:
    check(accident)
suites.checks(cluster, chance)
cluster.stop()
end()
