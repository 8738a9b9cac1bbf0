"""The transcripts of the book: commands, and the output that they promise."""

import pathlib
import re

BOOK = pathlib.Path(__file__).parents[3] / "docs/src"
HOSTS = ("rtx1080", "vps", "thinkpad")


def transcript(page):
    """Returns the steps of a page's `console` blocks: host, command, the lines promised."""
    steps = []
    for block in re.findall(r"^```console\n(.*?)^```", (BOOK / page).read_text(), re.M | re.S):
        for line in block.splitlines():
            host, _, command = line.partition("$ ")
            if command and host in HOSTS:
                steps.append((host, command, []))
            else:
                steps[-1][2].append(line)
    return steps


def keeps(promised, printed):
    """Tells whether output is as promised: `…` alone on a line is any lines, at a line's end the rest of it."""
    pattern = ""
    for line in promised:
        if line == "…":
            pattern += r"(?:.*\n)*?"
            continue
        words = [re.escape(word) for word in line.removesuffix("…").split()]
        pattern += r"\s*" + r"[ \t]+".join(words) + (".*\n" if line.endswith("…") else "[ \t]*\n")
    return re.fullmatch(pattern, printed) is not None
