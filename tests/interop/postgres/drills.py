"""Drills: a server, the primary or both are killed amid commits, and nothing acknowledged is lost."""

import os
import random
import subprocess
import time

from cluster import Cluster, either
from host import wait
from proxy import Proxy
from world import BIN
from writers import Pair, Writers, put

FULL = os.environ.get("MATRIX") == "full" or "MATRIX_SEED" not in os.environ
SEED = os.environ.get("MATRIX_SEED") or str(random.randrange(1 << 16))
# How many there are with a standby that commits wait for, and with one that they do not.
SYNCHRONOUS, ASYNCHRONOUS = (100, 25) if FULL else (2, 1)


class Stage:
    """A primary and a standby, which follows it through a proxy, and two servers on them."""

    def __init__(self, synchronous):
        self.primary = Cluster()
        self.primary.new("vault")
        self.way = Proxy(self.primary.socket)
        self.standby = Cluster(of=self.primary, through=self.way)
        self.synchronous = synchronous
        if synchronous:
            self.primary.wait_for_standby()
        self.url = either("vault", self.primary, self.standby)

    def __enter__(self):
        self.world = Pair(self.url)
        return self

    def __exit__(self, *of):
        self.world.__exit__(*of)
        self.way.stop()
        self.primary.stop()
        self.standby.stop()

    def fail_over(self):
        """Makes the standby the primary, and a standby of the one that was killed."""
        self.way.stop()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def follow(self):
        """Gives the primary a standby again."""
        self.way = Proxy(self.primary.socket)
        self.standby.follow(self.primary, self.way)
        if self.synchronous:
            self.primary.wait_for_standby()


def server(stage, chance):
    one = chance.randrange(2)
    stage.world.kill(one)
    stage.world.serve(one)


def primary(stage, _):
    stage.primary.kill()
    stage.primary.start()


def primary_for_good(stage, _):
    stage.primary.kill()
    stage.fail_over()
    stage.follow()


def both(stage, chance):
    one = chance.randrange(2)
    stage.world.kill(one)
    stage.primary.kill()
    stage.fail_over()
    stage.world.serve(one)
    stage.follow()


KINDS = [server, primary, primary_for_good, both]


def a_synchronous_standby_loses_nothing_that_was_acknowledged():
    chance = random.Random(SEED)
    with Stage(synchronous=True) as stage:
        with Writers(stage.world) as writers:
            for n in range(SYNCHRONOUS):
                writers.go_on()
                kind = KINDS[n % len(KINDS)] if FULL else chance.choice(KINDS)
                print(f"MATRIX_SEED={SEED}: drill {n}, {kind.__name__}", flush=True)
                time.sleep(chance.random() / 5)
                kind(stage, chance)
                writers.go_on()
                writers.are_there()
        writers.are_once()
        stage.world.is_whole()


def heal(world):
    """Gives back what the servers lack, as an owner does who is told how; returns what was said."""
    said = []

    def tell(*words, given=""):
        ran = subprocess.run(
            [BIN / "vault", *words], env=world.env, input=given, capture_output=True, text=True, timeout=60
        )
        said.append(ran.stderr)
        return ran.stderr

    def healed():
        # They stop when they find less than they have committed.
        world.revive()
        told = tell("heal")
        # If a machine has come first that knew of more than the first server to start.
        if "vault resume" in told:
            for code in (folder / "resume-code" for folder in world.folders):
                if code.exists():
                    tell("resume", "--code", "-", "--yes", given=code.read_text())
        if "E_AUDIT_REWRITTEN" in told:
            tell("heal", "--clear", "E_AUDIT_REWRITTEN")
        return put(world, "secret/healed", "x")[0]

    try:
        wait("the vault goes on", healed)
    except TimeoutError as why:
        raise TimeoutError("\n".join([str(why), *said[-3:]])) from why
    return "\n".join(said)


def an_asynchronous_standby_loses_nothing_once_it_is_healed():
    chance = random.Random(SEED)
    with Stage(synchronous=False) as stage:
        for n in range(ASYNCHRONOUS):
            with Writers(stage.world) as writers:
                writers.go_on()
                stage.way.stall()
                time.sleep(chance.random() / 5)
                writers.go_on(1)
                stage.primary.kill()
            stage.fail_over()
            stage.follow()
            said = heal(stage.world)
            assert "given back: " in said, f"nothing was lost: {said}"
            writers.are_there()
        stage.world.is_whole()


def waits_for_standby(stage, what="%"):
    """Tells whether a commit waits for the standby, of such statements."""
    waits = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '{what}'"
    return stage.primary.ask("vault", waits) != "0"


def stuck_write(stage):
    """Stalls the way to the standby, and returns a write whose commit waits for that."""
    for n in range(20):
        stage.way.stall()
        late = subprocess.Popen(
            [BIN / "vault", "kv", "put", f"secret/late-{n}", "A=late"], env=stage.world.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait("a commit waits", lambda: waits_for_standby(stage))
        # Others wait for one of audit records alone.
        if waits_for_standby(stage, "%NOTIFY%"):
            return f"late-{n}", late
        stage.way.go_on()
        late.wait(60)
    raise AssertionError("no write is the first to wait")


def what_only_a_dead_primary_has_committed_is_acknowledged_once_a_standby_has_it():
    with Stage(synchronous=True) as stage:
        world = stage.world
        name, late = stuck_write(stage)
        stage.primary.kill()
        stage.primary.start()
        # The entry is on the primary's disk, and nowhere else: whoever asks how it ended finds it.
        assert late.wait(60) != 0, "it is acknowledged, and would be lost with the primary"
        stage.way.go_on()
        stage.primary.kill()
        stage.fail_over()
        stage.follow()

        def is_there():
            world.revive()
            return put(world, "secret/after", "x")[0] and name in world.run("vault", "kv", "list", "secret/")

        wait("the agent sends it again", is_there)
        world.is_whole()


CHECKS = [
    a_synchronous_standby_loses_nothing_that_was_acknowledged,
    an_asynchronous_standby_loses_nothing_once_it_is_healed,
    what_only_a_dead_primary_has_committed_is_acknowledged_once_a_standby_has_it,
]
