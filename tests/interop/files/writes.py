"""The agent's own system calls: a target gets its name by a rename, whole, owned and synced; and a kill at any of them
leaves the old file or the new."""

import os
import pathlib
import random
import re
import signal
import subprocess

from world import SECRET, World, wait

OWNER, MODE = 65534, 0o640

CALLS = (
    "open,openat,openat2,creat,write,pwrite64,writev,truncate,ftruncate,chmod,fchmod,fchmodat,chown,fchown,fchownat,"
    "lchown,fsync,fdatasync,link,linkat,symlink,symlinkat,rename,renameat,renameat2,unlink,unlinkat"
)


def content(n):
    return f"A={'-'.join([str(n)] * 2000)}-end\n"


class Target:
    """A machine with one target, whose hook copies what it found."""

    def __init__(self, world):
        self.world, self.folder, self.seen = world, world.home / "app", world.home / "seen"
        self.folder.mkdir()
        self.file = self.folder / ".env"
        self.n = 0
        world.configure(
            f'[[target]]\npath = "{self.file}"\nsecrets = ["{SECRET}"]\nheader = false\n'
            f'owner = "{OWNER}"\nmode = "{MODE:04o}"\non_change = ["cp", ".env", "{self.seen}"]\n'
        )

    def change(self):
        self.n += 1
        self.world.put(content(self.n).strip()[2:])

    def is_new(self):
        return self.file.exists() and self.file.read_text() == content(self.n)

    def is_whole(self):
        """Checks that the file is absent, or holds one whole version with its owner and mode."""
        if self.file.exists():
            found = self.file.stat()
            assert self.file.read_text() in [content(n) for n in range(self.n + 1)], "half a file"
            assert (found.st_uid, found.st_mode & 0o7777) == (OWNER, MODE), oct(found.st_mode)


def traced():
    """Twenty changes under strace: every appearance of the target's name is accounted for."""
    changes = 20
    with World() as world:
        target, logs = Target(world), world.dir / "strace"
        logs.mkdir()
        target.change()
        world.follow(["strace", "-ff", "-qq", "-y", "-s", "64", "-e", f"trace={CALLS}", "-o", str(logs / "log")])
        wait("the file is written", target.is_new)
        for _ in range(changes - 1):
            target.change()
            wait("the file is written", target.is_new)
        world.stop()
        threads = [log.read_text().splitlines() for log in logs.iterdir()]
        named = [write for lines in threads for write in writes(lines, target.file)]
        assert len(named) == changes, f"{len(named)} renames for {changes} changes"


def writes(lines, file):
    """Follows one thread; yields each write of the target, and fails at any other way to touch its name."""
    steps = []  # what happened to the file without a name that is being made
    name, new = file.name, f".{file.name}.vault-new"
    here = re.escape(str(file.parent))
    for line in lines:
        call, ok = line.split("(", 1)[0], not re.search(r" = -1 E", line)
        if not ok:
            continue
        unnamed = re.search(rf"<{here}/(#\d+|{re.escape(new)})( \(deleted\))?>", line)
        if call == "openat" and "O_TMPFILE" in line and unnamed:
            assert line.rstrip().split(" = ")[-1].startswith(tuple("0123456789")) and "0600" in line, line
            steps = ["open"]
        elif call in ("write", "pwrite64", "writev", "fchown", "fchmod", "fsync", "fdatasync", "ftruncate") and unnamed:
            steps.append("write" if "write" in call else call)
        elif call == "linkat" and f'"{new}"' in line:
            assert f"<{here}>" in line, line
            steps.append("link")
        elif call in ("rename", "renameat", "renameat2") and f'"{name}"' in line:
            wanted = ["open", "write", "fchown", "fchmod", "fsync", "link"]
            assert [step for n, step in enumerate(steps) if steps[n - 1 : n] != [step]] == wanted, steps
            assert re.search(rf'<{here}>, "{re.escape(new)}", \d+<{here}>, "{re.escape(name)}"', line), line
            steps = ["renamed"]
        elif call in ("fsync", "fdatasync") and f"<{here}>" in line and steps == ["renamed"]:
            steps = []
            yield line
        elif re.search(rf'"({here}/)?{re.escape(name)}"', line) and f"{here}" in line:
            reading = call.startswith("open") and not re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", line)
            assert reading, f"the name is touched otherwise: {line}"
    assert steps in ([], ["open"]), f"a write without its end: {steps}"


class Kills:
    """Kills the agent when it enters a system call of a write, so that the one before was the last to be done."""

    # How many calls of one kind a thread may have made before.
    MOST_BEFORE = 60

    def __init__(self, world):
        self.world, self.target = world, Target(world)
        self.log = world.dir / "killed"
        here = ["-P", str(self.target.folder)]
        self.ways = {
            "openat": lambda: self.scan("openat", "O_TMPFILE", here),
            "write": self.held_before_write,
            "fchown": self.attached,
            "fchmod": lambda: self.scan("fchmod", "/#"),
            "fsync": lambda: self.scan("fsync", "/#"),
            "linkat": lambda: self.scan("linkat", ".vault-new", here),
            "renameat2": lambda: self.scan("renameat2", ".vault-new", here),
            "fsync of the folder": lambda: self.scan("fsync", "/app>)", here),
        }

    def strace(self, call, what, *more):
        return ["strace", "-f", "-qq", "-y", "-s", "8", "-e", f"trace={call}", "-e", f"inject={call}:{what}", "-o", str(self.log), *more]

    def at(self, name):
        self.ways[name]()
        self.world.stop()
        self.target.is_whole()
        self.world.follow()
        wait("the new version is there, and its hook has run", self.ready)
        self.target.is_whole()
        left = sorted(path.name for path in self.target.folder.iterdir())
        assert left == [".env"], left
        self.world.stop()

    def scan(self, call, mark, more=()):
        """Kills at the first call of any thread, then at the second, until it is the one of our target. Which thread writes,
        and after how many calls, differs from run to run: who has looked at all numbers in vain begins again. What is
        written is noted beside it, by a thread of its own: which of the two comes first differs as well."""
        for before in [1, 2, 3] * 10 + [*range(1, self.MOST_BEFORE)] * 3:
            self.target.change()
            self.world.follow(self.strace(call, f"signal=KILL:when={before}", *more))
            wait("it ends or writes", lambda: self.world.agent.poll() is not None or self.ready())
            if self.world.agent.poll() is not None and self.was_at(call, mark):
                return
            self.world.stop()
            self.target.is_whole()
        raise AssertionError(f"no {call} of a write was reached")

    def attached(self):
        """Kills at the first fchown of a running agent: at its start SQLite gives its own files away."""
        self.target.change()
        self.world.follow()
        wait("it is ready", self.ready)
        agent = self.world.agent
        tracer = subprocess.Popen(self.strace("fchown", "signal=KILL", "-p", str(agent.pid)))
        status = pathlib.Path(f"/proc/{agent.pid}/status")
        wait("strace is there", lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text())
        self.target.n += 1
        # The answer may be lost with the agent.
        self.world.try_put(content(self.target.n).strip()[2:])
        wait("it is killed", lambda: agent.poll() is not None)
        tracer.wait()
        assert self.was_at("fchown", "/#"), self.log.read_text()
        self.target.is_whole()
        self.world.stop()
        self.world.put(content(self.target.n).strip()[2:])

    def held_before_write(self):
        """Holds every openat in the folder, and kills as soon as the file without a name is there."""
        self.target.change()
        self.world.follow(self.strace("openat", "delay_exit=5000000", "-P", str(self.target.folder)))
        made = f"{self.target.folder}/#"
        pid = wait("it has made the file", lambda: next((p for p in self.world.pids() if holds(p, made)), None))
        os.kill(pid, signal.SIGKILL)
        wait("it is killed", lambda: self.world.agent.poll() is not None)

    def ready(self):
        return self.target.is_new() and self.target.seen.exists() and self.target.seen.read_text() == content(self.target.n)

    def was_at(self, call, mark):
        """Tells whether the call that was cut short is the one of our target."""
        lines = [line for line in self.log.read_text().splitlines() if f"{call}(" in line]
        cut = [line for line in lines if re.search(r"= \?|unfinished|INJECTED", line)] or lines[-1:]
        folder = str(self.target.folder)
        return any(mark in line and folder in line for line in cut)


def holds(pid, start):
    """Tells whether a process has a file open whose path starts so."""
    try:
        return any(os.readlink(fd).startswith(start) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False


def checks():
    yield "strace: a name appears by a rename only, after owner, mode and sync", traced
    with World() as world:
        kills = Kills(world)
        ways = list(kills.ways)
        # All of them, or the one that a number chooses.
        if seed := os.environ.get("MATRIX_SEED"):
            ways = [random.Random(seed).choice(ways)]
        for name in ways:
            yield f"kill -9 at {name}: whole file, nothing left behind, hook run", lambda name=name: kills.at(name)
