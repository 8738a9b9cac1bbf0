"""Reads files with one of the readers written in Python, or with a program that takes one file at a time.

read.py READER FILE...   prints one line of JSON for each file: {"file", "values"} or {"file", "error"}.
"""
import ctypes
import glob
import json
import os
import subprocess
import sys


def shell(program, path):
    """Sources the file with all variables exported, and asks for the names that the file is to set."""
    names = NAMES[path]
    script = 'set -a; . "$0"; unset IFS; ' + "; ".join(f"printf '%s\\0' \"${name}\"" for name in names)
    done = subprocess.run([*program, "-c", script, path], capture_output=True, env=CLEAN, stdin=subprocess.DEVNULL)
    if done.returncode != 0 or done.stderr:
        raise ValueError(f"exit {done.returncode}: {done.stderr.decode(errors='replace')[:300]}")
    return dict(zip(names, done.stdout.decode().split("\0")[:-1], strict=True))


CLEAN = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
NAMES = {}

SHELLS = {
    "bash": ["bash", "--norc"],
    "bash-posix": ["bash", "--posix"],
    "dash": ["dash"],
    "busybox": ["busybox", "sh"],
    "zsh": ["zsh", "-f"],
    "ksh": ["ksh93"],
    "mksh": ["mksh"],
    "yash": ["yash", "--norcfile"],
}


def systemd(path):
    """What `EnvironmentFile=` does: load the file, then drop what is no valid assignment."""
    global LIBRARY
    if LIBRARY is None:
        LIBRARY = ctypes.CDLL(sorted(glob.glob("/usr/lib/*/systemd/libsystemd-shared-*.so"))[-1])
        LIBRARY.strv_env_clean_with_callback.restype = ctypes.POINTER(ctypes.c_char_p)
    found = ctypes.POINTER(ctypes.c_char_p)()
    error = LIBRARY.load_env_file(None, path.encode(), ctypes.byref(found))
    if error < 0:
        raise ValueError(os.strerror(-error))
    found = LIBRARY.strv_env_clean_with_callback(found, None, None)
    values, n = {}, 0
    while found and found[n] is not None:
        name, value = found[n].split(b"=", 1)
        values[name.decode()] = value.decode()
        n += 1
    return values


LIBRARY = None


def python_dotenv(path):
    import dotenv

    values = dict(dotenv.dotenv_values(path))
    if None in values.values():
        raise ValueError("a line without a value")
    return values


def node_env_file(path):
    script = "process.stdout.write(JSON.stringify(process.env))"
    done = subprocess.run(["node", f"--env-file={path}", "-e", script], capture_output=True, env={}, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.decode(errors="replace")[:300])
    return json.loads(done.stdout)


def dotenvx_run(path):
    script = "process.stdout.write(JSON.stringify(process.env))"
    command = [os.environ["DOTENVX"], "run", "--quiet", "-f", path, "--", "node", "-e", script]
    clean = {"PATH": os.environ["PATH"], "NO_COLOR": "1", "HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, env=clean, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.decode(errors="replace")[:300])
    ours = {"DOTENV_KEY", *(name for name in clean if name != "HOME"), "HOME"}
    return {name: value for name, value in json.loads(done.stdout).items() if name not in ours}


def direnv(path):
    done = subprocess.run(["direnv", "dotenv", "json", path], capture_output=True, env=CLEAN, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.decode(errors="replace")[:300])
    return json.loads(done.stdout or "{}")


def json_python(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def pyyaml(path):
    import yaml

    with open(path, encoding="utf-8") as file:
        return yaml.load(file, Loader=yaml.SafeLoader)


def pyyaml_c(path):
    import yaml

    with open(path, encoding="utf-8") as file:
        return yaml.load(file, Loader=yaml.CSafeLoader)


def ruamel(path):
    import ruamel.yaml

    with open(path, encoding="utf-8") as file:
        return dict(ruamel.yaml.YAML(typ="safe", pure=True).load(file))


def tomllib(path):
    import tomllib as reader

    with open(path, "rb") as file:
        return reader.load(file)


def main():
    reader, paths = sys.argv[1], sys.argv[2:]
    if reader in SHELLS:
        with open(os.environ["READER_NAMES"], encoding="utf-8") as file:
            NAMES.update(json.load(file))
        read = lambda path: shell(SHELLS[reader], path)
    else:
        read = globals()[reader.replace("-", "_")]
    for path in paths:
        try:
            line = {"file": path, "values": read(path)}
        except Exception as error:  # whatever a reader throws is its answer
            line = {"file": path, "error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(line), flush=True)


main()
