"""Checks that print a line each, and at last how many passed: what `tests/interop/run` reads."""

import os
import sys

# Only checks whose names hold this run.
ONLY = os.environ.get("CHECK", "")
passed = failed = 0


def attempt(name, body):
    """Runs one check under its name."""
    global passed, failed
    if ONLY not in name:
        return
    try:
        body()
    except Exception as why:  # a broken check is a failed one
        failed += 1
        print(f"not ok {name}: {type(why).__name__}: {why}", flush=True)
    else:
        passed += 1
        print(f"ok {name}", flush=True)


def check(body):
    """Runs a function at its definition, under its own name."""
    attempt(body.__name__.replace("_", " "), body)
    return body


def want(got, expected, what=""):
    assert got == expected, f"{what} got {got!r}, expected {expected!r}"


def end():
    """Ends the suite; one that checked nothing has failed."""
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
