"""The suites of the workspace, whose worlds have databases of a cluster instead of files of SQLite."""

import os
import pathlib
import re
import subprocess

from checks import attempt

ROOT = pathlib.Path(__file__).resolve().parents[3]
E2E = ROOT / "tests/e2e"
# Files of tests that take more than a minute.
LONG = {"compact", "hosts", "scan_hosts"}


def run(cluster, *of):
    """Runs tests that there are."""
    env = {**os.environ, "VAULT_TEST_POSTGRES": cluster.url("postgres")}
    # Of the whole workspace: for one package alone what it is built of would be built anew.
    ran = subprocess.run(
        ["cargo", "test", "--locked", "--workspace", *of],
        cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=7200,
    )
    assert ran.returncode == 0, ran.stdout[-8000:]
    assert re.search(r"[1-9]\d* passed", ran.stdout), ran.stdout


def files():
    """Returns the names of the files of tests that make worlds, and take no more than a minute."""
    made = [file.stem for file in sorted(E2E.glob("*.rs")) if "World::new(" in file.read_text()]
    return [name for name in made if name not in LONG]


def checks(cluster, chance):
    """Tries all suites, or a file of one if there is a `chance`."""
    if not chance:
        for suite in ("e2e", "evil"):
            attempt(f"{suite} on postgresql", lambda: run(cluster, "--test", suite))
        return
    name = chance.choice(files())
    attempt(f"e2e {name} on postgresql", lambda: run(cluster, "--test", "e2e", f"{name}::"))
