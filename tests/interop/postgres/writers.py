"""A vault of two servers on one database, and writers who note what was acknowledged to them."""

import collections
import itertools
import json
import subprocess
import threading

from host import wait
from world import BIN, World, listens, reserve

WRITERS = 3


def put(world, path, value, patience=120):
    """Returns the version that a write made, or nothing and what was said if it was refused."""
    ran = subprocess.run(
        [BIN / "vault", "kv", "put", "-format=json", path, "A=-"],
        env=world.env, input=value, capture_output=True, text=True, timeout=patience,
    )
    return (json.loads(ran.stdout)["data"]["version"] if ran.returncode == 0 else None), ran.stderr


class Pair(World):
    """A world whose vault has a second server, on the same database."""

    def __init__(self, store):
        super().__init__(store)
        self.folders = [self.dir / "server", self.dir / "second"]
        self.ports = [self.port, reserve()]
        self.prepare(self.folders[1], store, self.address(1))
        self.run(
            "vault-server", "init", "--data", str(self.folders[1]), "--join", str(self.folders[0] / "server.key")
        )
        self.servers = [self.server, None]
        # By the names that tests give to programs which may go by another version.
        self.version = [None, None]
        self.serve(1)
        self.configure("")
        self.follow()
        wait("the agent answers", lambda: put(self, "secret/first", "x")[0])
        self.run("vault", "server", "move", self.address(0), self.address(1), "--yes")

    def address(self, n):
        return f"127.0.0.1:{self.ports[n].getsockname()[1]}"

    def serve(self, n):
        """Starts a server, and waits until it listens."""
        version = self.version[n]
        under = ["env", f"VAULT_E2E_VERSION={version}"] if version else []
        program = "e2e-vault-server" if version else "vault-server"
        self.servers[n] = self.start(program, "run", "--data", str(self.folders[n]), under=under)
        self.server = self.servers[0]
        wait("the server listens", lambda: listens(self.address(n)))

    def kill(self, n):
        self.servers[n].kill()
        self.servers[n].wait()

    def revive(self):
        """Starts servers that have ended by themselves, as their units do."""
        for n, server in enumerate(self.servers):
            if server.poll() is not None:
                self.serve(n)

    def __exit__(self, *of):
        self.kill(1)
        super().__exit__(*of)

    def is_whole(self):
        """Looks at all that there is."""
        for folder in self.folders:
            assert "is whole" in self.run("vault-server", "check", "--data", str(folder))
        self.run("vault", "audit", "verify")

    def log(self):
        """What servers and agent have said, for whoever looks for a reason."""
        files = sorted(self.dir.glob("*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text()[-1500:]}" for file in files)


class Writers:
    """Several that write a new secret each time, whatever goes on, until the end of the block."""

    rounds = itertools.count()

    def __init__(self, world):
        self.world = world
        self.folders = [f"secret/round-{next(self.rounds)}-{n}" for n in range(WRITERS)]
        self.acknowledged = [[] for _ in range(WRITERS)]
        self.refused = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.write, args=[n]) for n in range(WRITERS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(150)
        assert not any(thread.is_alive() for thread in self.threads), "a write hangs"

    def write(self, n):
        number = 0
        while not self.over.is_set():
            number += 1
            path = f"{self.folders[n]}/{number}"
            version, _ = put(self.world, path, path)
            if version is None:
                self.refused += 1
                continue
            assert version == 1, f"{path} is written twice"
            self.acknowledged[n].append(path)

    def go_on(self, more=2):
        """Waits until each has written some more."""
        before = [len(one) for one in self.acknowledged]

        def are_further():
            self.world.revive()
            return all(len(one) >= had + more for one, had in zip(self.acknowledged, before))

        try:
            wait("writes go on", are_further)
        except TimeoutError as why:
            raise TimeoutError(f"{why}\n{self.world.log()}") from why

    def are_there(self):
        """Looks whether everything that was acknowledged is there, and the last of each is what was written."""
        for n, known in enumerate(self.acknowledged):
            known = list(known)
            names = json.loads(self.world.run("vault", "kv", "list", "-format=json", self.folders[n] + "/"))
            lost = set(known) - {f"{self.folders[n]}/{name}" for name in names}
            assert not lost, f"acknowledged and lost: {sorted(lost)}"
            for path in known[-2:]:
                assert self.world.run("vault", "kv", "get", "-field=A", path).strip() == path, path

    def are_once(self):
        """Looks whether every write is on record, and was made once."""
        log = self.world.run("vault", "audit", "log", "--op", "put", "-n", "100000", "--format", "json")
        made = collections.Counter((record["path"], record["ver"]) for record in json.loads(log) if record["op"] == "put")
        assert set(made.values()) == {1}, made.most_common(3)
        lacking = {path for known in self.acknowledged for path in known} - {path for path, _ in made}
        assert not lacking, f"acknowledged and not on record: {sorted(lacking)}"
