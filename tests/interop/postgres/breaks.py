"""The way to the database breaks or stalls amid a commit, or its disks are full: an error at most, nothing lost, nothing
doubled, and it goes on by itself."""

import errno
import json
import pathlib
import subprocess
import tempfile
import threading

from checks import want
from cluster import Cluster
from host import wait
from proxy import Far, Proxy
from world import BIN, SECRET, World, listens, reserve
from writers import put

# How long a commit stalls, in seconds.
STALL = 3
# More writes than a small disk takes.
MANY = 500
# What is said of a write while the database is away, has no room, or is down.
UNKNOWN = "the write was sent, but its answer did not come: it is kept and sent again"
UNANSWERED = "the server cannot be reached: it gives no answer to a change that was sent before"
FULL = "the server's disk is full: nothing was written"
DOWN = "the server's database failed"
# What the server says in its own log.
LOST = "the database is not reached"


def resets(_, way):
    way.end(True)


def ends(_, way):
    way.end(False)


def stalls(proxy, _):
    proxy.stall()
    timer = threading.Timer(STALL, proxy.go_on)
    timer.daemon = True
    timer.start()


def amid(proxy, how, made):
    """Has the way break at the next commit: before it reaches the database, or once it is `made`, before that is told."""

    def fault(way, piece):
        if made:
            proxy.stall()
            way.server.sendall(piece)
            way.answers()
        how(proxy, way)
        if how is not stalls:
            proxy.go_on()
        return b"" if made else piece

    proxy.at(b"COMMIT", fault)


def proxied(cluster, proxy):
    """Makes a world whose server reaches its database through a proxy."""
    cluster.new("vault")
    return World(store=proxy.url("vault"))


def follow(world):
    world.configure("")
    world.follow()
    wait("the agent answers", lambda: put(world, SECRET, "first")[0])


def goes_on(world):
    """Waits until a write is taken; returns its version."""
    return wait("writes go on", lambda: put(world, SECRET, "on")[0])


def each_once(world):
    """Looks whether every version is on record, once."""
    log = json.loads(world.run("vault", "audit", "log", "--op", "put", "-n", "100000", "--format", "json"))
    versions = [record["ver"] for record in log if record["op"] == "put"]
    want(sorted(versions), list(range(1, world.version() + 1)))
    world.run("vault", "audit", "verify")
    assert "is whole" in world.run("vault-server", "check", "--data", str(world.dir / "server"))


def a_way_that_breaks_amid_a_commit_is_not_noticed_by_who_writes():
    with Cluster() as cluster, Proxy(cluster.socket) as proxy, proxied(cluster, proxy) as world:
        follow(world)
        known = world.version()
        for how in (resets, ends, stalls):
            for made in (False, True):
                amid(proxy, how, made)
                known += 1
                want(put(world, SECRET, f"{how.__name__} {made}"), (known, ""))
                assert proxy.watched is None, "no commit broke"
        each_once(world)


def a_write_that_stalls_is_told_kept_and_made_once():
    with Cluster() as cluster, Proxy(cluster.socket) as proxy, proxied(cluster, proxy) as world:
        follow(world)
        known = world.version()
        proxy.stall()
        version, said = put(world, SECRET, "stalled")
        assert version is None and UNKNOWN in said and "hint: read the secret" in said, said
        # Nothing is said to a server that asks how the commit ended.
        proxy.cut()
        version, said = put(world, SECRET, "more")
        assert version is None and UNANSWERED in said and "hint: " in said, said
        proxy.go_on()
        want(goes_on(world), known + 2)
        got = world.run("vault", "kv", "get", "-field=A", f"-version={known + 1}", SECRET)
        want(got.strip(), "stalled")
        each_once(world)


class Disk:
    """A small file system in memory, seen by this suite alone."""

    def __init__(self, size):
        self.dir = pathlib.Path(tempfile.mkdtemp())
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "test", self.dir], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "--lazy", self.dir], check=True)
        self.dir.rmdir()

    def fill(self):
        with open(self.dir / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(1 << 12)):
                    pass
            except OSError as why:
                assert why.errno == errno.ENOSPC, why

    def make_room(self):
        (self.dir / "filler").unlink()


def a_database_whose_network_vanishes_is_given_up_in_time_and_found_again():
    with Cluster() as cluster, Far(cluster.socket) as proxy, proxied(cluster, proxy) as world:
        follow(world)
        known = world.version()
        proxy.vanish()
        version, said = put(world, SECRET, "vanished")
        assert version is None and UNKNOWN in said, said
        # The kernel alone would try for a quarter of an hour.
        wait("it gives the connection up", lambda: LOST in (world.dir / "vault-server.log").read_text())
        proxy.come_back()
        want(goes_on(world), known + 2)
        each_once(world)


def a_pooler_is_told_from_a_database():
    for more in ("", "ignore_startup_parameters = options"):
        with Cluster() as cluster, reserve() as port, tempfile.TemporaryDirectory() as folder:
            cluster.new("vault")
            address = port.getsockname()
            config = cluster.dir / "pgbouncer.ini"
            config.write_text(
                f"[databases]\nvault = host={cluster.dir} user=postgres\n[pgbouncer]\nlisten_addr = {address[0]}\n"
                f"listen_port = {address[1]}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n{more}\n"
            )
            pooler = subprocess.Popen([*cluster.user, "pgbouncer", "-q", config], stdin=subprocess.DEVNULL)
            try:
                wait("the pooler listens", lambda: listens(f"{address[0]}:{address[1]}"))
                data = pathlib.Path(folder) / "server"
                World.prepare(data, f"postgres://postgres@{address[0]}:{address[1]}/vault?sslmode=disable")
                ran = subprocess.run(
                    [BIN / "vault-server", "init", "--data", data], capture_output=True, text=True, timeout=60
                )
            finally:
                pooler.kill()
                pooler.wait()
            way = "hint: name the address of the database's own server in `url`"
            assert ran.returncode == 1 and way in ran.stderr, ran.stderr


def refused(world, size):
    """Writes until that is refused; returns what is said."""
    for n in range(MANY):
        version, said = put(world, SECRET, str(n).zfill(size))
        if version is None:
            return said
    raise AssertionError(f"a full disk takes {MANY} writes")


def tables_on_a_full_disk_take_no_write_until_there_is_room():
    with Disk("40m") as disk, Cluster() as cluster:
        place = disk.dir / "tables"
        place.mkdir()
        cluster.own(place)
        cluster.ask("postgres", f"CREATE TABLESPACE small LOCATION '{place}'")
        cluster.ask("postgres", "CREATE DATABASE small TABLESPACE small")
        with World(store=cluster.url("small")) as world:
            follow(world)
            disk.fill()
            said = refused(world, 3000)
            assert FULL in said and "hint: make room on the server" in said, said
            known = world.version()
            disk.make_room()
            want(goes_on(world), known + 1)
            each_once(world)


def a_cluster_that_goes_down_for_want_of_room_goes_on_when_it_is_up():
    # Each piece of its log is a new file.
    more = "-c min_wal_size=2MB -c max_wal_size=1GB"
    with Disk("16m") as disk, Cluster(log=disk.dir / "log", more=more) as cluster:
        with World(store=cluster.new("vault")) as world:
            follow(world)
            disk.fill()
            said = refused(world, 30_000)
            assert DOWN in said or UNKNOWN in said, said
            wait("it is down", lambda: not (cluster.data / "postmaster.pid").exists())
            disk.make_room()
            cluster.start()
            goes_on(world)
            each_once(world)


CHECKS = [
    a_way_that_breaks_amid_a_commit_is_not_noticed_by_who_writes,
    a_write_that_stalls_is_told_kept_and_made_once,
    a_database_whose_network_vanishes_is_given_up_in_time_and_found_again,
    tables_on_a_full_disk_take_no_write_until_there_is_room,
    a_cluster_that_goes_down_for_want_of_room_goes_on_when_it_is_up,
    a_pooler_is_told_from_a_database,
]
