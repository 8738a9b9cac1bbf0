"""Runs the checks of this suite, and prints a line for each."""

import itertools

import editors
import writes
from checks import attempt, end

for name, check in itertools.chain(editors.checks(), writes.checks()):
    attempt(name, check)
end()
