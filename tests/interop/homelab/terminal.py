"""A terminal at which a person answers what is asked."""

import os
import pty
import re
import select
import subprocess
import time

from host import PATIENCE


def type_at(command, answers):
    """Runs a command at a terminal of its own; each question that a pattern finds is answered once a time it is asked.

    An answer is a text, or makes one of everything that was printed so far. Returns exit code and screen.
    """
    ours, theirs = pty.openpty()
    # A session whose terminal this is: passphrases are asked for at /dev/tty.
    session = ["setsid", "--ctty", "--wait", *command]
    process = subprocess.Popen(session, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen, asked = "", 0
    end = time.monotonic() + 2 * PATIENCE
    while True:
        if time.monotonic() > end:
            process.kill()
            raise TimeoutError(f"at the terminal: {screen[-500:]}")
        if not select.select([ours], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            break
        screen += piece.decode(errors="replace").replace("\r\n", "\n")
        for pattern, answer in answers:
            if found := re.search(pattern + r"\s*\Z", screen[asked:]):
                asked += found.end()
                text = answer(screen) if callable(answer) else answer
                os.write(ours, f"{text}\n".encode())
                break
    os.close(ours)
    return process.wait(), screen
