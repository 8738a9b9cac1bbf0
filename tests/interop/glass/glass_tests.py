"""The script of `guide/break-glass.md` against databases of every kind, and kits however they were typed."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import tempfile

from checks import check, end, want
from terminal import type_at
from world import World

GUIDE = pathlib.Path(__file__).parents[3] / "docs/src/guide"
SCRIPT = GUIDE / "break-glass.sh"
PREFIX = "AGE-SECRET-KEY-1"
BINARY = bytes(range(256)) * 2800 + b"\n\0\n"
VALUES = {
    "secret/app": [{"K": "one"}, {"K": "two", "N": {"x": [1, None, "it's \"quoted\" \\ $HOME `id`\n"]}}],
    # A folder as well, and names that would sort between it and what is in it.
    "secret/app/db": [{"K": "in the folder"}],
    "secret/app/db/3": [{"K": "deeper"}],
    "secret/app db": [{"K": "a space"}],
    "secret/app-db": [{"K": 12345678901234567890}],
    "secret/binary": [b"\xff\0first", BINARY],
    "secret/small": [b"\xff"],
    "secret/-rf": [{"K": "an option"}],
    "secret/...": [{"K": "dots"}],
    "secret/.hidden/x..y": [{"K": "dots"}],
    "secret/1": [{"K": "a version's number"}],
    "secret/Größe/鍵/🔑": [{"schlüssel": "Größe 鍵 🔑"}],
    "secret/two  spaces; $(id) `id` * ? [a-z] ~ & | < > # %s %00 '": [{"K": "a shell's"}],
    'secret/"quoted"/\\back\\\\slash\\n': [{"K": "JSON's"}],
    "/".join(["secret", *("s" * 31 for _ in range(31))]): [{"K": "the most segments"}],
    "/".join(["secret", "ü" * 127, *["x" * 255] * 2, "y" * 250]): [{"K": "the most bytes"}],
}
GONE = {"secret/deleted": [{"K": "marked"}], "secret/destroyed": [{"K": "of the first"}, {"K": "of the second"}]}


class Vault(World):
    """A vault with all of these secrets, whose server was killed and never tidied up; and what reads it."""

    def __init__(self):
        super().__init__()
        for path, values in {**VALUES, **GONE}.items():
            for value in values:
                self.keep(path, value)
        self.old, self.kit = self.dir / "kit.txt", self.dir / "new-kit.txt"
        self.sheet = self.renew()
        self.run("vault", "kv", "delete", "secret/deleted")
        self.run("vault", "kv", "destroy", "-versions=2", "secret/destroyed")
        self.backup = self.dir / "backup"
        self.run("vault-server", "backup", "--data", str(self.dir / "server"), str(self.backup))
        self.keep("secret/late", {"K": "after the backup"})
        self.server.kill()
        self.server.wait()
        self.database = self.dir / "server/vault.db"
        self.key = re.search(rf"^{PREFIX}\w+$", self.kit.read_text(), re.M)[0]

    def keep(self, path, value):
        if isinstance(value, bytes):
            (self.dir / "value").write_bytes(value)
            self.run("vault", "kv", "put", path, f"file=@{self.dir}/value")
        else:
            self.run("vault", "kv", "put", path, "-", stdin=json.dumps(value))

    def renew(self):
        """Makes a new kit at a terminal; writes it as lines, and returns its rows as they stand on the screen."""

        def end_of(prefix):
            return lambda screen: secret(screen, prefix)[-6:]

        renew = [self.bin("vault"), "recovery", "renew", "--kit", str(self.old)]
        roots = "VAULT-ROOT-SECRET-1"
        answers = [
            (f"characters of the line {roots}…", end_of(roots)),
            (f"characters of the line {PREFIX}…", end_of(PREFIX)),
            ("Sign this? [y/N]", "y"),
        ]
        code, screen = type_at(renew, answers, env=self.env)
        assert code == 0, screen
        self.kit.write_text(f"# a kit\n# {roots}{secret(screen, roots)}\n\n{PREFIX}{secret(screen, PREFIX)}\n")
        return screen

    @staticmethod
    def bin(name):
        return os.path.join(os.environ["BIN"], name)


def secret(screen, prefix):
    """Reads the groups of a secret from the screen."""
    rows = screen.rpartition(f"{prefix}\n")[2].split("\n#\n")[0]
    return "".join(re.sub(r"^#\s+\d+|\(..\)", "", rows, flags=re.M).split())


class Read:
    """One run of the script: in a home and a folder of its own, with nothing else in its environment."""

    def __init__(self, dir, *args, shell=("sh",), stdin="", env=None):
        self.dir, self.home = dir, dir / "home"
        self.home.mkdir(exist_ok=True)
        self.out = dir / "out"
        ran = subprocess.run(
            [*shell, SCRIPT, *args, self.out], cwd=self.home, env={"HOME": str(self.home), **(env or {})},
            input=stdin, capture_output=True, text=True, timeout=300,
        )
        self.code, self.said = ran.returncode, ran.stderr
        want(ran.stdout, "")
        want(sorted(os.listdir(self.home)), [], "the home")
        assert set(os.listdir(dir)) <= {"home", "out"}, f"left over: {os.listdir(dir)}"

    def tree(self):
        """Returns every file's content, by its path from the folder; nobody else may read one."""
        found = {}
        for folder, folders, files in os.walk(self.out):
            for name in folders + files:
                mode = os.lstat(os.path.join(folder, name)).st_mode & 0o7777
                want(mode, 0o600 if name in files else 0o700, name)
            for name in files:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, self.out)] = open(path, "rb").read()
        return found


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name).resolve()


def file_of(path, paths):
    """Returns where a secret is written."""
    return f"{path}/ value" if any(other.startswith(f"{path}/") for other in paths) else path


def content(value):
    return value if isinstance(value, bytes) else json.loads(json.dumps(value))


def parsed(tree):
    """Returns what was read, JSON taken apart where it is some."""
    return {name: bytes_or_json(text) for name, text in tree.items()}


def bytes_or_json(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


KEPT = {**VALUES, "secret/deleted": GONE["secret/deleted"], "secret/destroyed": GONE["secret/destroyed"][:1]}
LATE = {**KEPT, "secret/late": [{"K": "after the backup"}]}


def newest(kept):
    return {file_of(path, kept): content(values[-1]) for path, values in kept.items()}


def state_of(*files):
    return [(file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).digest()) for file in files]


def rows(*keep):
    """Returns the recovery key's rows as they stand on the sheet, or some of them."""
    lines = vault.sheet.rpartition(f"{PREFIX}\n")[2].split("\n#\n")[0].split("\n")
    return [lines[at] for at in keep or range(len(lines))]


vault = Vault()


@check
def every_secret_of_a_server_that_was_killed_is_read_to_the_byte_and_nothing_is_changed():
    log = vault.database.with_name("vault.db-wal")
    assert log.stat().st_size > 0, "what was written last is in the database already"
    before = state_of(vault.database, log)
    for shell in (["sh"], ["dash"], ["bash"], ["bash", "--posix"]):
        with folder() as dir:
            read = Read(dir, vault.database, vault.kit, shell=shell)
            want((read.code, read.said), (0, f"break-glass: {len(LATE)} read, 0 not\n"), shell)
            want(parsed(read.tree()), newest(LATE), shell)
            want(read.tree()["secret/binary"], BINARY)
    want(state_of(vault.database, log), before)


@check
def all_versions_are_read_but_those_that_were_destroyed():
    expected = {}
    for path, values in LATE.items():
        for version, value in enumerate(values, 1):
            there = [other for other, values in LATE.items() if len(values) >= version]
            expected[f"{version}/{file_of(path, there)}"] = content(value)
    with folder() as dir:
        read = Read(dir, "--all-versions", vault.database, vault.kit)
        want(read.code, 0, read.said)
        want(parsed(read.tree()), expected)


@check
def a_backup_is_read():
    with folder() as dir:
        read = Read(dir, vault.backup, vault.kit)
        want(read.code, 0, read.said)
        want(parsed(read.tree()), newest(KEPT))


@check
def the_database_of_a_host_is_read():
    with folder() as dir:
        read = Read(dir, vault.state / "agent.db", vault.kit)
        want(read.code, 0, read.said)
        there = newest(LATE)
        assert read.tree().keys() >= there.keys() - {"secret/deleted", "secret/destroyed"}, read.said
        for name, value in parsed(read.tree()).items():
            want(value, there[name], name)


@check
def the_kit_is_read_however_it_was_typed():
    whole = rows()
    bare = [line.rpartition("  (")[0] for line in whole]
    for page in (
        vault.key,
        vault.key.lower() + "\r\n",
        vault.sheet,
        "\n".join([PREFIX, *whole]),
        "\n".join(["<html><p>a kit</p>", f"<pre>  {PREFIX}", *(line.strip("#") for line in whole)]) + "</pre></html>",
        "\n\n".join([PREFIX.lower(), *(line.strip("# ").lower() for line in whole)]) + "\n",
        "\n".join([PREFIX, *(re.sub(r"^#\s+(\d) +", r"\1.", line) for line in bare)]),
        "\n".join([PREFIX, *(re.sub(r"(\w{4}) (?=\w)", r"\1-", line.strip("# ")) for line in bare)]),
    ):
        with folder() as dir:
            read = Read(dir, vault.backup, "-", stdin=page)
            want((read.code, len(read.tree())), (0, len(KEPT)), f"{page}: {read.said}")


@check
def a_kit_with_a_mistake_is_refused_and_the_row_named():
    whole = rows()
    wrong = re.sub(r"(?<=2  )\w", lambda right: "P" if right[0] == "Q" else "Q", whole[1])
    bare = wrong.rpartition("  (")[0]
    for page, why in (
        ("", f"the kit has no line {PREFIX}…"),
        ("\n".join([PREFIX, whole[0], wrong, *whole[2:]]), f"row 2 of {PREFIX}… was mistyped"),
        ("\n".join([PREFIX, whole[0], *whole[2:]]), f"row 2 of {PREFIX}… is missing"),
        ("\n".join([PREFIX, whole[0], bare, *whole[2:]]), f"the line {PREFIX}… was cut or mistyped"),
        ("\n".join([PREFIX, *whole[:3]]), f"the line {PREFIX}… was cut or mistyped"),
        (vault.key[:40], f"the line {PREFIX}… was cut or mistyped"),
    ):
        with folder() as dir:
            read = Read(dir, vault.backup, "-", stdin=page)
            want((read.code, read.said, read.out.exists()), (2, f"break-glass: {why}\n", False), page)


@check
def the_kit_of_before_opens_nothing_and_says_so_of_each():
    with folder() as dir:
        read = Read(dir, vault.backup, vault.old)
        want((read.code, read.said.count("no identity matched"), read.out.exists()), (1, len(KEPT), False), read.said)
        assert re.search(r'version 2 of "secret/app", blob [0-9a-f]{64}: age: error: no identity', read.said), read.said


@check
def what_cannot_be_tried_is_refused():
    with folder() as dir:
        text = dir / "text"
        text.write_text("no database\n" * 100)
        for args, why in (
            ([vault.backup], "usage: "),
            ([dir / "nothing", vault.kit], "there is no file "),
            ([vault.backup, dir / "nothing"], "cannot read the kit "),
            ([text, vault.kit], f"{text} is no database of a vault"),
        ):
            ran = subprocess.run(["sh", SCRIPT, *args, dir / "out"], env={}, capture_output=True, text=True)
            want((ran.returncode, why in ran.stderr, os.listdir(dir)), (2, True, ["text"]), ran.stderr)


@check
def a_folder_that_is_there_is_left_alone():
    with folder() as dir:
        (dir / "out/secret").mkdir(parents=True)
        (dir / "out/secret/app").write_text("mine")
        ran = subprocess.run(["sh", SCRIPT, vault.backup, vault.kit, dir / "out"], env={}, capture_output=True, text=True)
        want((ran.returncode, "has to be a new one" in ran.stderr), (2, True), ran.stderr)
        want((dir / "out/secret/app").read_text(), "mine")
        want((os.listdir(dir), os.listdir(dir / "out")), (["out"], ["secret"]))


def changed(*statements):
    """Returns a copy of the backup that somebody has changed."""
    copy = vault.dir / "changed.db"
    shutil.copy(vault.backup, copy)
    with contextlib.closing(sqlite3.connect(copy)) as database, database:
        for statement, *values in statements:
            assert database.execute(statement, values).rowcount > 0, statement
    return copy


@check
def a_damaged_blob_is_named_and_all_others_are_read():
    other = "CAST(substr(bytes, 1, length(bytes) - 9) || x'00' || substr(bytes, -8) AS BLOB)"
    flip = f"UPDATE blob SET bytes = {other} WHERE path = ? AND ver = ?"
    cut = "UPDATE blob SET bytes = substr(bytes, 1, 60) WHERE path = ?"
    with folder() as dir:
        database = changed((flip, "secret/binary", 2), (cut, "secret/small"))
        read = Read(dir, database, vault.kit)
        want((read.code, read.said.count("\n")), (1, 3), read.said)
        assert f"break-glass: {len(KEPT) - 2} read, 2 not\n" in read.said
        for line in (r'version 2 of "secret/binary", blob \w+: age: error: ', r'version 1 of "secret/small", blob \w+: age: error: '):
            assert re.search(line, read.said), read.said
        expected = newest(KEPT)
        del expected["secret/binary"], expected["secret/small"]
        want(parsed(read.tree()), expected)


@check
def a_database_that_lies_leads_nowhere_else():
    lies = ["secret/../../outside", "/outside", "../outside", "secret//x", "secret/\x1b[2Jx", "secret/\x9bx", "secret/a\nb", ".", ""]
    paths = [path for path in KEPT if len(KEPT[path]) == 1 and path != "secret/deleted"][: len(lies)]
    rename = "UPDATE blob SET path = ? WHERE path = ?"
    with folder() as dir:
        database = changed(*((rename, lie, path) for lie, path in zip(lies, paths)))
        read = Read(dir, database, vault.kit)
        want((read.code, len(read.tree())), (1, len(KEPT) - len(lies)), read.said)
        want(read.said.count("\n"), len(lies) + 1, read.said)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", read.said), ascii(read.said)
    # One secret's blob under the name of another is not taken for it.
    with folder() as dir:
        database = changed((rename, "secret/other", "secret/small"))
        read = Read(dir, database, vault.kit)
        assert 'of "secret/other"' in read.said and "holds another secret or version" in read.said, read.said
        want((read.code, "secret/other" in read.tree()), (1, False))


@check
def the_kit_is_in_no_process_list_and_nothing_is_written_elsewhere():
    with folder() as dir:
        trace = vault.dir / "trace"
        under = ["strace", "-f", "-v", "-qq", "-s", "100000", "-e", "trace=execve,openat,open,creat", "-o", str(trace), "/bin/sh"]
        read = Read(dir, vault.backup, "-", shell=under, stdin=vault.sheet)
        want(read.code, 0, read.said)
        lines = trace.read_text(errors="replace").splitlines()
        ran = [line for line in lines if "execve(" in line]
        assert len(ran) > 100, len(ran)
        pieces = [vault.key[len(PREFIX) :], *(re.findall(r"\b[A-Z0-9]{4}\b", " ".join(rows())))]
        for line in ran:
            assert not any(piece in line for piece in pieces), line
        written = {m[1] for line in lines if "O_WRONLY" in line or "O_RDWR" in line or "O_CREAT" in line
                   for m in [re.search(r'"([^"]*)"', line)] if "= -1" not in line}
        elsewhere = {name for name in written if name.startswith("/") and not name.startswith(f"{read.out}") and name not in ("/dev/null", "/dev/tty")}
        want(elsewhere, set())


@check
def a_run_that_is_ended_wipes_what_it_had_opened():
    for signal in ("TERM", "INT", "HUP"):
        with folder() as dir:
            bin = vault.dir / f"bin-{signal}"
            bin.mkdir()
            # Ends the script once it has the first payload.
            (bin / "age").write_text(f'#!/bin/sh\n{shutil.which("age")} "$@"\ntouch {bin}/opened\nkill -{signal} $PPID\n')
            (bin / "age").chmod(0o700)
            read = Read(dir, vault.backup, vault.kit, env={"PATH": f"{bin}:{os.environ['PATH']}"})
            assert read.code > 128 and (bin / "opened").exists(), f"{read.code} {read.said}"
            want(os.listdir(dir), ["home"])


@check
def the_page_shows_the_very_script():
    assert "```sh\n{{#include break-glass.sh}}\n```" in (GUIDE / "break-glass.md").read_text()


vault.__exit__()
end()
