"""Real editors save a master file: each save is exactly one version, whatever way the editor writes."""

import os
import pty
import select
import subprocess
import time

from world import SECRET, World, wait

START = "# keys of the lab\nA=0   # Jonas\nB='two words'\n"


class Desk:
    """A master file that is followed, and a target of the same secret that shows when a version is there."""

    def __init__(self, world):
        self.world = world
        self.file, self.copy = world.home / "master" / ".env", world.home / "copy.env"
        self.file.parent.mkdir()
        self.file.write_text(START)
        world.configure(
            f'[[source]]\npath = "{self.file}"\nsecret = "{SECRET}"\n'
            f'[[target]]\npath = "{self.copy}"\nsecrets = ["{SECRET}"]\nheader = false\n'
        )
        world.follow()
        self.published("0", 1)

    def published(self, value, version):
        line = f"A={value}"
        wait(line, lambda: self.copy.exists() and line in self.copy.read_text().splitlines())
        got = self.world.version()
        assert got == version, f"version {got}, not {version}"
        text = self.file.read_text()
        assert text == START.replace("A=0 ", f"A={value} "), text


def type_into(world, command, keys):
    """Runs a program of the terminal and types, a burst at a time, each when the screen has come to rest."""
    pid, screen = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, world.env)
    try:
        for burst in keys:
            rest(screen)
            os.write(screen, burst)
        rest(screen)
        deadline = time.monotonic() + 20
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            rest(screen)
            assert time.monotonic() < deadline, f"{command[0]} does not end"
    finally:
        os.close(screen)


def rest(screen):
    """Reads what a program draws until it has drawn nothing for a moment."""
    while select.select([screen], [], [], 0.3)[0]:
        try:
            if not os.read(screen, 65536):
                return
        except OSError:
            return


def nano(*flags):
    def save(desk, old, new):
        # Home, replace the value under the cursor, write out, confirm the name, exit.
        down, wipe = b"\x1b[B", b"\x1b[3~" * len(f"A={old}")
        keys = [down, wipe, f"A={new}".encode(), b"\x0f", b"\r", b"\x18"]
        type_into(desk.world, ["nano", "--ignorercfiles", *flags, str(desk.file)], keys)

    return save


def vim(*settings):
    def save(desk, old, new):
        commands = [f"set {setting}" for setting in settings] + [f"%s/^A={old} /A={new} /", "wq"]
        args = [word for command in commands for word in ("-c", command)]
        subprocess.run(["vim", "-u", "NONE", "-N", "-es", *args, str(desk.file)], env=desk.world.env, check=True, timeout=60)

    return save


def shell(script):
    def save(desk, old, new):
        subprocess.run(["sh", "-euc", script, "sh", desk.file, old, new], env=desk.world.env, check=True, timeout=60)

    return save


EDITORS = {
    "nano": nano(),
    "nano with a backup": nano("--backup"),
    "nano with a lock file": nano("--locking"),
    "vim backupcopy=yes": vim("backupcopy=yes", "writebackup"),
    "vim backupcopy=no": vim("backupcopy=no", "writebackup"),
    "vim backupcopy=auto and a backup": vim("backupcopy=auto", "backup"),
    "vim without a backup": vim("nobackup", "nowritebackup"),
    "sed -i": shell('sed -i "s/^A=$2 /A=$3 /" "$1"'),
    "sed and cp": shell('sed "s/^A=$2 /A=$3 /" "$1" > "$1.new"; cp "$1.new" "$1"; rm "$1.new"'),
    "perl -i": shell('perl -i -pe "s/^A=$2 /A=$3 /" "$1"'),
    "a rename over it, as VS Code can": shell('sed "s/^A=$2 /A=$3 /" "$1" > "$1.tmp"; mv "$1.tmp" "$1"'),
    "a shell that empties and fills it": shell('new=$(sed "s/^A=$2 /A=$3 /" "$1"); printf "%s\\n" "$new" > "$1"'),
}


def checks():
    """Yields a name and a check for each editor, all on one file, so that a version too many would be seen."""
    with World() as world:
        desk, old = Desk(world), "0"
        for version, (name, save) in enumerate(EDITORS.items(), start=2):
            new = f"way-{version}"

            def check(old=old, new=new, version=version, save=save):
                save(desk, old, new)
                desk.published(new, version)

            yield f"{name}: one save is one version", check
            old = new
