"""A terminal at which a person answers what is asked."""

import os
import pty
import select
import subprocess
import termios
import time

from host import PATIENCE, wait


class Unseen(str):
    """An answer that is typed once the terminal shows none of it."""


def type_at(command, answers, env=None, cwd=None, meanwhile=lambda: None):
    """Runs a command at a terminal of its own; returns exit code and screen.

    `answers` are pairs of a question, which ends the screen, and what is typed then: a text, an iterator over one for
    each time that it is asked, or what makes one of the screen. `meanwhile` is called again and again.
    """
    ours, theirs = pty.openpty()
    # A session whose terminal this is: passphrases are asked for at /dev/tty.
    session = ["setsid", "--ctty", "--wait", *command]
    process = subprocess.Popen(session, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cwd)
    os.close(theirs)
    try:
        screen = talk(ours, process, answers, meanwhile)
    except BaseException:
        process.kill()
        raise
    finally:
        os.close(ours)
        code = process.wait()
    return code, screen


def talk(ours, process, answers, meanwhile):
    """Reads and types until the command has ended; returns the screen."""
    shown, screen, asked = b"", "", 0
    end = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < end:
        meanwhile()
        if not select.select([ours], [], [], 0.02)[0]:
            if process.poll() is None:
                continue
            return screen
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            return screen
        shown += piece
        screen = shown.decode(errors="replace").replace("\r\n", "\n")
        for question, answer in answers:
            if screen[asked:].rstrip().endswith(question.rstrip()):
                asked = len(screen)
                os.write(ours, f"{text_of(answer, screen, ours)}\n".encode())
                break
    raise TimeoutError(f"at the terminal: {screen[-500:]}")


def text_of(answer, screen, ours):
    """Returns what is typed; a text that is not to be seen when the echo is off, which follows the prompt."""
    if hasattr(answer, "__next__"):
        answer = next(answer)
    if callable(answer):
        answer = answer(screen)
    if isinstance(answer, Unseen):
        wait("the end of the echo", lambda: not termios.tcgetattr(ours)[3] & termios.ECHO)
    return answer
