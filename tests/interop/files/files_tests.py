"""Runs the checks of this suite, and prints a line for each."""

import itertools

import editors
import writes

passed = failed = 0
for name, check in itertools.chain(editors.checks(), writes.checks()):
    try:
        check()
    except Exception as why:  # a broken check is a failed one
        failed += 1
        print(f"not ok {name}: {type(why).__name__}: {why}", flush=True)
    else:
        passed += 1
        print(f"ok {name}", flush=True)
print(f"{passed} passed, {failed} failed")
