"""The same requests to two vaults: status, content type and body have to be the same.

Usage: request_tests.py THEIR_ADDR THEIR_TOKEN; VAULT_ADDR and VAULT_TOKEN name our agent's API.
`requests` tells how its lines are written. `differences` names those whose answers differ on purpose, and why;
anything else that differs fails, and so does one that no longer does.
"""

import http.client
import json
import os
import pathlib
import re
import sys
from urllib.parse import urlsplit

here = pathlib.Path(__file__).parent
their_addr, their_token = sys.argv[1:3]
our_addr, our_token = os.environ["VAULT_ADDR"], os.environ["VAULT_TOKEN"]
LIMITS = {
    "KEYS64": ",".join(f'"k{n}":"v"' for n in range(64)),
    "KEYS65": ",".join(f'"k{n}":"v"' for n in range(65)),
    "KEY128": "k" * 128,
    "KEY129": "k" * 129,
    "TEXT512": "t" * 512,
    "TEXT513": "t" * 513,
}
# Who wrote a version is told by Vault from 1.21 on, and what else no two runs have in common.
PRIVATE = {"request_id", "created_by", "deleted_by", "last_updated_by", "accessor", "uuid"}


def lines(name):
    return [line for line in (here / name).read_text().splitlines() if line and not line.startswith("#")]


def ask(addr, token, line, run):
    """Sends what a line says and returns the answer's status, headers and body."""
    method, path, body = (line.lstrip("!?~").split(" ", 2) + [None])[:3]
    marks = line[: len(line) - len(line.lstrip("!?~"))]
    method, _, kind = method.partition(":")
    headers = {}
    if method == "PATCH":
        headers["Content-Type"] = kind or "application/merge-patch+json"
        if ":" in line.split(" ")[0] and not kind:
            del headers["Content-Type"]
    if "!" not in marks:
        headers["X-Vault-Token"] = "wrong" if "?" in marks else token
    path = (path if path.startswith("/") else "/v1/" + path).replace("RUN", run)
    if body is not None:
        for name, text in LIMITS.items():
            body = body.replace(name, text)
        body = body.replace("RUN", run).encode()
    link = http.client.HTTPConnection(urlsplit(addr).netloc, timeout=60)
    try:
        link.request(method, path, body, headers)
        answer = link.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        link.close()


def clean(value):
    """Takes out what no two runs have in common."""
    if isinstance(value, dict):
        return {key: clean(below) for key, below in value.items() if key not in PRIVATE}
    if isinstance(value, list):
        return [clean(below) for below in value]
    if isinstance(value, str):
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+(\.\d+)?Z", "TIME", value)
    return value


def shape(value):
    """Keeps names and types alone."""
    if isinstance(value, dict):
        return {key: shape(below) for key, below in value.items()}
    if isinstance(value, list):
        return [shape(below) for below in value[:1]]
    return type(value).__name__


def shown(line, answer, run):
    """Returns what of an answer counts."""
    status, headers, text = answer
    text = text.replace(run, "RUN")
    try:
        body = clean(json.loads(text))
    except ValueError:
        body = text
    if "~" in line[: line.index(" ")]:
        body = shape(body)
    told = [status, (headers.get("Location") or "").replace(run, "RUN")]
    if 300 <= status < 400:
        return told
    if text:
        told.append(headers.get("Content-Type"))
    return told + [body]


differences = {line.split("  # ")[0].strip() for line in lines("differences")}
ours, theirs = f"ours-{os.getpid()}", f"thrs-{os.getpid()}"
passed = failed = 0
for line in lines("requests"):
    expected = shown(line, ask(their_addr, their_token, line, theirs), theirs)
    got = shown(line, ask(our_addr, our_token, line, ours), ours)
    same, on_purpose = expected == got, line in differences
    differences.discard(line)
    if same != on_purpose:
        passed += 1
        print(f"ok {line}{' (differs on purpose)' if on_purpose else ''}")
        continue
    failed += 1
    print(f"not ok {line}{': no longer differs' if same else ''}")
    if not same:
        print(f"   theirs: {json.dumps(expected)[:1500]}\n   ours:   {json.dumps(got)[:1500]}")
for line in sorted(differences):
    failed += 1
    print(f"not ok {line}: there is no such request")
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
