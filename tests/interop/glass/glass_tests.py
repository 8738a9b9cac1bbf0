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
        recipient = subprocess.run(["age-keygen", "-y"], input=self.key, capture_output=True, text=True, check=True)
        self.recipient = recipient.stdout.strip()

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
            (f"characters of the line {roots}… (in rows: or the whole last row)", end_of(roots)),
            (f"characters of the line {PREFIX}… (in rows: or the whole last row)", end_of(PREFIX)),
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
def a_link_to_the_database_finds_what_is_in_its_log():
    with folder() as dir, tempfile.TemporaryDirectory() as links:
        link = pathlib.Path(links) / "link.db"
        link.symlink_to(vault.database)
        read = Read(dir, link, vault.kit)
        want(read.code, 0, read.said)
        want(parsed(read.tree()), newest(LATE))


def sealed(payload):
    """Encrypts to the kit, as anybody can who has seen the vault's recipients."""
    return subprocess.run(["age", "-r", vault.recipient], input=payload, capture_output=True, check=True).stdout


def payload(path, ver, value=b"hostile", *, header=None, length=None):
    """Returns a payload that names any place at all, or has this very header, or this as its header's length."""
    if header is None:
        header = '{"vault":"00","path":%s,"ver":%s,"kind":"raw","len":%d}' % (json.dumps(path, ensure_ascii=False), ver, len(value))
    head = header.encode()
    return b"vault-payload/v1\n" + (len(head) if length is None else length).to_bytes(4) + head + bytes(32) + value + bytes(512)


ANY = "CREATE TABLE blob (hash, ver, path, bytes)"
GOOD = sealed(payload("secret/good", 1, b"good"))
# An age file that is none: age quotes what it finds.
STEERS = b"age-encryption.org/v1\n-> \x1b[2J\x1b]0;x\x07 \xc2\x9b2J\n"


def made(*rows, schema=ANY, encoding="UTF-8", after=()):
    """Returns a database with these rows of hash, version, path and bytes, whatever they are, and one good one."""
    file = vault.dir / "made.db"
    file.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute(f"PRAGMA encoding = '{encoding}'")
        database.execute(schema)
        good = (hashlib.sha256(GOOD).digest(), 1, "secret/good", GOOD)
        for row in (*rows, good):
            database.execute("INSERT INTO blob (hash, ver, path, bytes) VALUES (?, ?, ?, ?)", row)
        for statement in after:
            database.execute(statement)
    return file


def row(path, ver, bytes):
    return (hashlib.sha256(bytes).digest(), ver, path, bytes)


def text(value):
    """What stays text in a database that would make bytes of it."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def quiet(read):
    """Nothing that was said steers a terminal, forges a line of the script's own, or has no end."""
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]", read.said), ascii(read.said)
    for line in read.said.splitlines():
        assert line.startswith("break-glass: ") and len(line) < 2000, ascii(line[:3000])


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
        quiet(read)
    # One secret's blob under the name of another is not taken for it.
    with folder() as dir:
        database = changed((rename, "secret/other", "secret/small"))
        read = Read(dir, database, vault.kit)
        assert 'of "secret/other"' in read.said and "holds another secret or version" in read.said, read.said
        want((read.code, "secret/other" in read.tree()), (1, False))


@check
def a_database_that_computes_runs_and_reads_nothing():
    mark = vault.dir / "mark"
    keep = "CREATE TABLE kept (hash, ver, path, bytes)"
    calls = [
        f"edit('x', 'touch {mark}; true')",
        f"writefile('{mark}', 'x')",
        f"readfile('{vault.kit}')",
        f"load_extension('{mark}')",
        "zeroblob(1000000000)",
    ]
    views = [
        *(f"CREATE VIEW blob AS SELECT {call} AS hash, 1 AS ver, 'secret/x' AS path, x'00' AS bytes" for call in calls),
        f"CREATE VIEW blob AS SELECT hash, ver, path, bytes FROM kept WHERE {calls[0]} IS NOT NULL OR 1",
        f"CREATE VIEW blob AS SELECT zeroblob(32) AS hash, 1 AS ver, name AS path, data AS bytes FROM fsdir('{vault.dir}')",
        "CREATE VIEW blob AS WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) "
        "SELECT zeroblob(32) AS hash, n AS ver, 'secret/' || n AS path, x'00' AS bytes FROM n",
    ]
    # What only the sqlite3 program has cannot be made by the library, but for its text.
    text = "UPDATE sqlite_schema SET sql = '%s' WHERE name = 'blob'"
    kinds = [
        "CREATE VIRTUAL TABLE blob USING fts5(hash, ver, path, bytes)",
        f"CREATE VIRTUAL TABLE blob USING zipfile(''{vault.kit}'')",
        f"CREATE VIRTUAL TABLE blob USING fsdir(''{vault.dir}'')",
        "CREATE VIEW blob AS SELECT 1",
        "CREATE TABLE blob (hash, ver, path AS (edit(1, ver)), bytes)",
        "CREATE TABLE blob (hash, ver, path AS (quote(zeroblob(100000000))), bytes)",
        "CREATE TABLE blob (hash, ver, path, bytes, replaced_at AS (zeroblob(100000000)))",
    ]
    files = []
    for schema in views:
        file = vault.dir / f"view-{len(files)}.db"
        with contextlib.closing(sqlite3.connect(file)) as database, database:
            database.executescript(f"{keep}; INSERT INTO kept VALUES (x'00', 1, 'secret/x', x'00'); {schema}")
        files.append((schema, file))
    for kind in kinds:
        file = vault.dir / f"kind-{len(files)}.db"
        shutil.copy(made(after=["PRAGMA writable_schema = ON", text % kind]), file)
        files.append((kind, file))
    triggers = vault.dir / "trigger.db"
    shutil.copy(made(after=["CREATE TRIGGER t AFTER INSERT ON blob BEGIN DELETE FROM blob; END"]), triggers)
    files.append(("a trigger", triggers))
    for schema, file in files:
        with folder() as dir:
            read = Read(dir, file, vault.kit)
            want((read.code, "is no database of a vault: " in read.said, read.out.exists()), (2, True, False), f"{schema}: {read.said}")
            want(mark.exists(), False, schema)
            quiet(read)


@check
def a_version_that_is_text_forges_no_row_and_leads_nowhere_else():
    mark = vault.dir / "mark"
    versions = [
        "../../victim",
        "/victim",
        f"1\n00'; SELECT edit('x', 'touch {mark}; true'); -- 1 \"secret/forged\"",
        f"1\n00';SELECT/**/edit('x','touch${{IFS}}{mark};true');-- 1 \"secret/forged\"",
        f"1 \"secret/forged\"\n{hashlib.sha256(GOOD).hexdigest()} 1",
        "1\x1b[2J\x1b]0;x\x07",
        "1\u009b2J",
        "1\0",
        "01",
        "$(id)",
        "",
        b"1",
        None,
        1.5,
        1e300,
        0,
        -1,
        -(2**63),
    ]
    for options in ([], ["--all-versions"]):
        with folder() as dir:
            blobs = [(ver, f"secret/lie-{at}", sealed(payload(f"secret/lie-{at}", text(ver)))) for at, ver in enumerate(versions)]
            database = made(*(row(path, ver, blob) for ver, path, blob in blobs))
            read = Read(dir, *options, database, vault.kit)
            want((read.code, read.tree()), (1, {("1/" if options else "") + "secret/good": b"good"}), read.said)
            want(read.said.count("\n"), len(versions) + 1, read.said)
            assert "forged" not in read.said and read.said.endswith(f" 1 read, {len(versions)} not\n"), read.said
            for ver, path, _ in blobs:
                want(read.said.count(f'version {ver if isinstance(ver, int) else 0} of "{path}", '), 1, read.said)
            want(mark.exists(), False)
            quiet(read)


@check
def columns_of_any_type_and_size_lose_no_other_secret():
    blob = sealed(payload("secret/x", 1))
    hash = hashlib.sha256(blob).digest()
    huge = 30_000_000
    for why, *odd in (
        ("it has no hash", None, 1, "secret/x", blob),
        ("it has no hash", hash.hex(), 1, "secret/x", blob),
        ("it has no hash", hash[:31], 1, "secret/x", blob),
        ("it has no hash", hash + b"\0", 1, "secret/x", blob),
        ("it has no hash", bytes(huge), 1, "secret/x", blob),
        ("it has no hash", "00'; SELECT 1; --", 1, "secret/x", blob),
        ("it has no hash", 1.5, 1, "secret/x", blob),
        ("it has no version", hash, "1" * huge, "secret/x", blob),
        ("no path may look like that", hash, 1, b"secret/x", blob),
        ("no path may look like that", hash, 1, 7, blob),
        ("no path may look like that", hash, 1, 1.5, blob),
        ("no path may look like that", hash, 1, "secret/" + "x/" * (huge // 2) + "x", blob),
        ("no path may look like that", hash, 1, "secret/x\0" + "x" * huge, blob),
        ("no path may look like that", hash, 1, "secret/x\0\x1b\x9b", blob),
        ("its bytes are none, or too many", hash, 1, "secret/x", None),
        ("its bytes are none, or too many", hash, 1, "secret/x", blob.decode("latin-1")),
        ("its bytes are none, or too many", hash, 1, "secret/x", bytes(huge)),
        ("age: error: ", hash, 1, "secret/x", b""),
        ("age: error: ", hash, 1, "secret/x", STEERS),
        ("age: error: ", hash, 1, "secret/x", b"age-encryption.org/v1\n-> " + b"A" * 100_000),
    ):
        with folder() as dir:
            read = Read(dir, made(odd), vault.kit)
            shown = f"{why} of {[repr(value)[:80] for value in odd]}: {read.said[:3000]}"
            want((read.code, read.tree(), read.said.count("\n")), (1, {"secret/good": b"good"}, 2), shown)
            assert f": {why}" in read.said and read.said.endswith("break-glass: 1 read, 1 not\n"), shown
            quiet(read)


@check
def paths_that_no_vault_has_are_not_written():
    paths = [
        "secret/app/ value",
        "secret/ value",
        "secret/x ",
        " secret/x",
        "secret/x\x7f",
        "secret/\u009b2J",
        "secret/\u202eterces",
        "secret/\u200bx",
        "secret/x\n",
        "secret/x\ny",
        "secret/x\ty",
        "secret/..",
        "..",
        "secret/./x",
        "/",
        "secret/x/",
    ]
    with folder() as dir:
        read = Read(dir, made(*(row(path, 1, sealed(payload(path, 1))) for path in paths)), vault.kit)
        want((read.code, read.tree()), (1, {"secret/good": b"good"}), read.said)
        want(read.said.count(": no path may look like that\n"), len(paths), read.said)
        quiet(read)


@check
def a_payload_that_is_not_of_this_very_place_is_not_written():
    place = '"path":"secret/x","ver":1'
    whole = '{"vault":"00",%s,"kind":"raw","len":7}'
    for bad in (
        payload("secret/y", 1),
        payload("secret/x", 2),
        payload("secret/x", '1,"ver":1'),
        payload("secret/x", "1\n"),
        payload("secret/x", "1\0"),
        payload("secret/x\n", 1),
        # It names the place, and others as well.
        payload(0, 0, header=whole % f'"path":"secret/y","ver":1,"kind":"raw","len":7,"vault":"00",{place}'),
        payload(0, 0, header=whole % f'{place},"kind":"raw","len":7,"path":"secret/y","ver":1'),
        payload(0, 0, header="\n" + whole % place),
        payload(0, 0, header=(whole % place) + "\n"),
        payload(0, 0, header="\0" + whole % place),
        payload(0, 0, header=whole % place.replace("x", "*")),
        payload(0, 0, header=(whole % place).replace(":7}", ":700}")),
        payload(0, 0, header=(whole % place).replace(":7}", ":-7}")),
        payload(0, 0, header=(whole % place).replace(":7}", ":99999999999999999999}")),
        payload(0, 0, header=(whole % place).replace(":7}", ":$(id)}")),
        payload(0, 0, header='{"vault":"' + '"kind":"' * 50_000 + '"}'),
        payload("secret/x", 1, length=0),
        payload("secret/x", 1, length=2**32 - 1),
        payload("secret/x", 1)[:60],
        b"vault-payload/v1\n",
        b"",
        b"\x1b[2J" * 1000,
    ):
        with folder() as dir:
            read = Read(dir, made(row("secret/x", 1, sealed(bad))), vault.kit)
            want((read.code, read.tree()), (1, {"secret/good": b"good"}), f"{bad.rstrip(bytes(1))[:300]}: {read.said}")
            assert re.search(r'version 1 of "secret/x", blob \w+: it (holds|is cut)', read.said), f"{bad.rstrip(bytes(1))[:300]}: {read.said}"
            quiet(read)


@check
def what_sqlite_says_of_a_database_steers_no_terminal():
    lie = "UPDATE sqlite_schema SET name = 'x' || char(27) || '[2J' || char(155) || char(10) || 'break-glass: 9 read, 0 not'"
    with folder() as dir:
        read = Read(dir, made(after=["PRAGMA writable_schema = ON", lie]), vault.kit)
        want((read.code, "is no database of a vault: " in read.said), (2, True), read.said)
        want(read.said.count("\n"), 1, read.said)
        quiet(read)


@check
def a_database_in_another_encoding_is_read_or_refused():
    for encoding in ("UTF-16le", "UTF-16be"):
        with folder() as dir:
            lie = row("secret/\x1b[2J", 1, sealed(payload("secret/\x1b[2J", 1)))
            read = Read(dir, made(lie, encoding=encoding), vault.kit)
            want(read.code, 1, read.said)
            quiet(read)


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
