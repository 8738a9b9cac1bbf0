"""The same commands by two programs called `vault`, against two vaults: the output has to be the same.

Usage: cli_tests.py THEIRS OURS THEIR_ADDR THEIR_TOKEN; VAULT_ADDR and VAULT_TOKEN name our agent's API.
`commands` has one command a line; RUN is a folder of its own, FILE a JSON file. `differences` tells, by
command, what differs on purpose and why; anything else that differs fails.
"""

import difflib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

here = pathlib.Path(__file__).parent
theirs, ours, their_addr, their_token = sys.argv[1:5]
our_addr, our_token = os.environ["VAULT_ADDR"], os.environ["VAULT_TOKEN"]
folder = tempfile.mkdtemp()
file = pathlib.Path(folder, "data.json")
file.write_text('{"nested":{"a":"b"},"number":12,"list":[1,"x"],"true":true,"nothing":null,"text":"t"}')

commands = [line for line in (here / "commands").read_text().splitlines() if line and not line.startswith("#")]
differences = {}
for line in (here / "differences").read_text().splitlines():
    if line and not line.startswith("#"):
        pair, command = line.split(None, 1)
        differences[command.split("  # ")[0].strip()] = pair


def clean(text, addr, run):
    """Takes out what no two runs have in common, and who wrote a version, which Vault tells from 1.21 on."""
    text = re.sub(r"^(created_by|deleted_by|last_updated_by) .*\n", "", text, flags=re.M)
    text = re.sub(r'^ *"(created|deleted|last_updated)_by": (null|\{[^}]*\}),\n', "", text, flags=re.M)
    text = text.replace(addr, "ADDR").replace(run, "RUN").replace(folder, "FOLDER")
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+(\.\d+)?Z", "TIME", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)
    # HashiCorp's program prints headers in whatever order its map gives them.
    text = re.sub(r'( -H "[^"]*")+', lambda headers: "".join(sorted(re.findall(r' -H "[^"]*"', headers[0]))), text)
    return re.sub(r"(TIME|=+) *$", r"\1", re.sub(r"=+ (.*) =+", r"= \1 =", text), flags=re.M)


def run(program, addr, token, name):
    """Returns what each command printed, on both streams, and its status."""
    environment = {"VAULT_ADDR": addr, "VAULT_TOKEN": token, "PATH": os.environ["PATH"], "HOME": folder, "VAULT_MAX_RETRIES": "0"}
    answers = []
    for command in commands:
        words = [word.replace("RUN", name).replace("FILE", str(file)) for word in shlex.split(command.replace("\\@", "\\\\@"))]
        done = subprocess.run([program, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        answers.append((done.returncode, clean(done.stdout, addr, name), clean(done.stderr, addr, name)))
    return answers


runs = {
    "their program, their server": run(theirs, their_addr, their_token, f"tt{os.getpid()}"),
    "our program, their server": run(ours, their_addr, their_token, f"ot{os.getpid()}"),
    "their program, our agent": run(theirs, our_addr, our_token, f"to{os.getpid()}"),
    "our program, our agent": run(ours, our_addr, our_token, f"oo{os.getpid()}"),
}
base = runs["their program, their server"]
passed = failed = 0
for who, answers in runs.items():
    if answers is base:
        continue
    for command, expected, got in zip(commands, base, answers):
        # What goes to people (stderr) may be put better; what goes to programs may not.
        same = expected[:2] == got[:2]
        if same or command in differences:
            passed += 1
            print(f"ok {who}: {command}{'' if same else ' (differs on purpose)'}")
            continue
        failed += 1
        print(f"not ok {who}: {command}")
        if expected[0] != got[0]:
            print(f"   exit status {got[0]}, expected {expected[0]}; stderr: {got[2][:300]!r}; theirs: {expected[2][:300]!r}")
        for line in difflib.unified_diff(expected[1].splitlines(), got[1].splitlines(), "theirs", "got", lineterm="", n=0):
            print("   " + line)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
