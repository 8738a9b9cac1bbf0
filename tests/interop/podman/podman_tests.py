"""Podman itself, with `vault podman` as its secret store: by options of one secret, and by containers.conf."""

import json
import os
import subprocess
import tempfile

from checks import check, end, want

BIN = os.environ["BIN"]
RUN = f"secret/podman-{os.getpid()}"
HOME = tempfile.TemporaryDirectory()
ENV = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": HOME.name}
COMMANDS = {verb: f"vault podman --prefix {RUN} {verb}" for verb in ("list", "lookup", "store", "delete")}
OPTIONS = [word for verb, line in COMMANDS.items() for word in ("--driver-opts", f"{verb}={line}")]
TEXT = "it's \"quoted\" $HOME `id`\nsecond line ünïcode\n\n"


def podman(*args, value=b"", env=ENV, fails=False):
    """Runs Podman with storage of its own."""
    command = ["podman", "--root", f"{HOME.name}/root", "--runroot", f"{HOME.name}/runroot", *args]
    ran = subprocess.run(command, input=value, env=env, capture_output=True, timeout=120)
    assert (ran.returncode != 0) == fails, f"{args}: {ran.returncode} {ran.stderr.decode()}"
    return ran.stderr.decode() if fails else ran.stdout.decode().strip()


def vault(*args, fails=False):
    ran = subprocess.run([f"{BIN}/vault", *args], env=ENV, capture_output=True, text=True)
    assert (ran.returncode != 0) == fails, f"{args}: {ran.returncode} {ran.stderr}"
    return ran.stdout


def create(name, value, *more):
    return podman("secret", "create", "--driver", "shell", *OPTIONS, *more, name, "-", value=value)


def names():
    return podman("secret", "ls", "--format", "{{.Name}}").split()


def kept(key):
    """Returns what the vault holds under an id, as bytes."""
    fields = json.loads(vault("kv", "get", "-format=json", f"{RUN}/{key}"))["data"]["data"]
    return fields


@check
def a_secret_is_created_listed_inspected_and_removed():
    key = create("db-password", TEXT.encode())
    want(kept(key), {"value": TEXT})
    assert "db-password" in names(), names()
    told = json.loads(podman("secret", "inspect", "db-password"))[0]
    want((told["ID"], told["Spec"]["Driver"]["Name"]), (key, "shell"))
    want(told["Spec"]["Driver"]["Options"], COMMANDS)
    podman("secret", "rm", "db-password")
    assert "db-password" not in names(), names()
    vault("kv", "get", f"{RUN}/{key}", fails=True)


@check
def podman_keeps_no_value_on_disk():
    key = create("quiet", b"a value to be looked for")
    for folder, _, files in os.walk(HOME.name):
        for name in files:
            found = open(f"{folder}/{name}", "rb").read()
            assert b"a value to be looked for" not in found, f"{folder}/{name}"
    want(kept(key), {"value": "a value to be looked for"})
    podman("secret", "rm", "quiet")


@check
def bytes_up_to_what_podman_takes_arrive_as_they_are():
    value = bytes(range(256)) * 1990
    key = create("keystore", value)
    ran = subprocess.run(COMMANDS["lookup"], shell=True, env={**ENV, "SECRET_ID": key}, capture_output=True)
    want((ran.returncode, ran.stdout == value), (0, True), ran.stderr)
    podman("secret", "rm", "keystore")


@check
def the_driver_may_stand_in_containers_conf():
    conf = f"{HOME.name}/containers.conf"
    with open(conf, "w") as out:
        out.write('[secrets]\ndriver = "shell"\n\n[secrets.opts]\n')
        out.writelines(f'{verb} = "{line}"\n' for verb, line in COMMANDS.items())
    env = {**ENV, "CONTAINERS_CONF": conf}
    key = podman("secret", "create", "from-conf", "-", value=b"x", env=env)
    want(kept(key), {"value": "x"})
    # A changed value is another secret of the same name, as Podman has it.
    podman("secret", "rm", "from-conf", env=env)
    again = podman("secret", "create", "from-conf", "-", value=b"y", env=env)
    want((kept(again), again != key), ({"value": "y"}, True))
    podman("secret", "rm", "from-conf", env=env)


@check
def a_vault_that_refuses_leaves_no_secret_in_podman():
    lines = {verb: line.replace(RUN, "secret/bad//place") for verb, line in COMMANDS.items()}
    options = [word for verb, line in lines.items() for word in ("--driver-opts", f"{verb}={line}")]
    podman("secret", "create", "--driver", "shell", *options, "refused", "-", value=b"x", fails=True)
    assert "refused" not in names(), names()


@check
def a_secret_that_the_vault_has_already_can_be_had_by_name():
    vault("kv", "put", f"{RUN}-app", "PASSWORD=from the vault")
    lines = {"list": "true", "store": "cat >/dev/null", "delete": "true"}
    lines["lookup"] = f"vault kv get -field=PASSWORD {RUN}-app"
    options = [word for verb, line in lines.items() for word in ("--driver-opts", f"{verb}={line}")]
    podman("secret", "create", "--driver", "shell", *options, "app-password", "-", value=b"-")
    ran = subprocess.run(lines["lookup"], shell=True, env=ENV, capture_output=True)
    want(ran.stdout, b"from the vault")
    podman("secret", "rm", "app-password")


@check
def the_list_is_what_podman_has():
    keys = sorted(create(name, b"x") for name in ("one", "two", "three"))
    ran = subprocess.run(COMMANDS["list"], shell=True, env=ENV, capture_output=True, text=True, check=True)
    want(ran.stdout.split(), keys)
    podman("secret", "rm", "one", "two", "three")
    ran = subprocess.run(COMMANDS["list"], shell=True, env=ENV, capture_output=True, text=True, check=True)
    want(ran.stdout, "")


end()
