"""Has every reader read every file meant for it, and compares each value with what was written.

check.py CASES TOOLS   prints `ok …` or `not ok …` for each dialect and reader, and how many passed at the end.

A reader must answer exactly the names and values that were written: one that is changed, lost or added is a failure, and so
is a file that it refuses; then each value is read alone to find the ones that it stumbles over.
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CASES, TOOLS = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
ONLY = sys.argv[3:]

SHELLS = ["bash", "bash-posix", "dash", "busybox", "zsh", "ksh", "mksh", "yash"]
LIBRARIES = ["python-dotenv", "python-dotenv-0.21", "npm-dotenv-16", "npm-dotenv-17", "npm-dotenv-18", "dotenvx",
             "dotenvx-run", "node-env-file", "dotenvy", "godotenv", "compose-go"]
READERS = {
    "dotenv": [*SHELLS, "systemd", *LIBRARIES, "ruby-dotenv", "phpdotenv", "direnv"],
    # Values of several lines are written only if asked for: direnv, Ruby dotenv 2 and the raw readers do not take them.
    "dotenv-multiline": [*SHELLS, "systemd", *LIBRARIES],
    "compose": ["compose-go"],
    "docker": ["docker"],
    "systemd": ["systemd"],
    "sh": SHELLS,
    "json": ["json-python", "node-json", "go-json"],
    "yaml": ["pyyaml", "pyyaml-c", "ruamel", "go-yaml-v3", "goccy-yaml"],
    "toml": ["tomllib", "go-toml"],
}


# These take long for each file: they read one in so many.
SLOW = {"mksh": 8, "dotenvx-run": 4}

# A reader of another dialect: unless it is caught, nothing here proves anything.
CANARY = ("dotenv", "docker")


def command(reader):
    python = [str(TOOLS / "venv/bin/python"), str(HERE / "read.py")]
    if reader in ("npm-dotenv-16", "npm-dotenv-17", "npm-dotenv-18", "dotenvx", "node-json"):
        return ["node", str(TOOLS / "node/read.js"), reader]
    if reader in ("godotenv", "compose-go", "docker", "go-json", "go-yaml-v3", "goccy-yaml", "go-toml"):
        return [str(TOOLS / "readers"), reader]
    if reader == "dotenvy":
        return [str(TOOLS / "cargo/release/reader-dotenvy")]
    if reader == "ruby-dotenv":
        return ["ruby", "-EUTF-8:UTF-8", str(HERE / "read.rb")]
    if reader == "phpdotenv":
        return ["php", "-d", "pcre.backtrack_limit=100000000", str(HERE / "read.php")]
    return [*python, reader.removesuffix("-0.21")]


def tool(name):
    """Where a program of npm is, for the readers that start it."""
    return str(TOOLS / "node/node_modules/.bin" / name)


def read(reader, files):
    """Returns what the reader makes of each file: a dict of values, or its error."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as names:
        json.dump({file: list(values) for file, values in files.items()}, names)
        names.flush()
        # Nothing of this machine's environment may be taken into a value.
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "READER_NAMES": names.name, "DOTENVX": tool("dotenvx")}
        if reader.endswith("-0.21"):
            environment["PYTHONPATH"] = str(TOOLS / "python-dotenv-0.21")
        done = subprocess.run([*command(reader), *files], env=environment, capture_output=True, check=False)
    answers = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
    answers = {answer["file"]: answer.get("values", {}) if "error" not in answer else answer["error"] for answer in answers}
    return {file: answers.get(file, f"no answer, exit {done.returncode}: {done.stderr[-300:]!r}") for file in files}


def wrong(reader, answer, values):
    """Tells what is wrong with an answer: the names that differ, or the error."""
    if isinstance(answer, str):
        return answer
    names = [name for name in values if answer.get(name) != values[name]]
    return names + [name for name in answer if name not in values]


def alone(reader, told):
    """Reads each value of a file by itself; returns those that do not come back."""
    with tempfile.TemporaryDirectory() as folder:
        files, entries = {}, {}
        for number, entry in enumerate(told["entries"]):
            file = os.path.join(folder, str(number))
            pathlib.Path(file).write_bytes(entry["alone"].encode())
            files[file] = {entry["name"]: entry["value"]}
            entries[file] = entry
        answers = read(reader, files)
        return [(entries[file]["value"], answers[file]) for file in files if wrong(reader, answers[file], files[file])]


def check(dialect, reader, told):
    started = time.monotonic()
    told = {**told, "files": told["files"][:: SLOW.get(reader, 1)]}
    files = {told_file["file"]: {e["name"]: e["value"] for e in told_file["entries"]} for told_file in told["files"]}
    answers = read(reader, files)
    bad = []
    for told_file in told["files"]:
        values, answer = files[told_file["file"]], answers[told_file["file"]]
        faults = wrong(reader, answer, values)
        if isinstance(faults, str):
            found = alone(reader, told_file)
            bad += found or [(f"the whole of {told_file['file']}", faults)]
        else:
            bad += [(values.get(name, f"added: {name}"), answer.get(name)) for name in faults]
    count = sum(len(values) for values in files.values())
    seconds = time.monotonic() - started
    if count == 0 or bad:
        shown = "".join(f"\n    wrote {value[:200]!r}\n    read  {str(got)[:200]!r}" for value, got in bad[:6])
        return False, f"not ok {dialect} {reader}: {len(bad)} of {count} values{shown}"
    return True, f"ok {dialect} {reader}: {count} values read back ({seconds:.1f} s)"


def main():
    jobs, passed, failed = [], 0, 0
    dialect, reader = CANARY
    caught, line = check(dialect, reader, json.loads((CASES / f"{dialect}.json").read_bytes()))
    if caught:
        sys.exit(f"quotes that {reader} keeps were not noticed: {line}")
    print(f"{reader} is caught misreading {dialect}: {line.splitlines()[0]}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for dialect, readers in READERS.items():
            told = json.loads((CASES / f"{dialect}.json").read_bytes())
            print(f"{dialect}: {told['carried']} of {told['asked']} values are written, the others refused", flush=True)
            for reader in readers:
                if not ONLY or reader in ONLY or dialect in ONLY:
                    jobs.append(pool.submit(check, dialect, reader, told))
        for job in concurrent.futures.as_completed(jobs):
            right, line = job.result()
            passed, failed = passed + right, failed + (not right)
            print(line, flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


main()
