"""`install` under systemd itself: units that start, notify, are watched and are sandboxed; credentials; a power cut."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from checks import attempt, check, end, want
from host import PATIENCE, Host, wait

BIN = pathlib.Path(os.environ["BIN"])
GHOST = "/srv/ghost/.env"
HOOKED = '''
[[target]]
path = "/srv/hooked/.env"
secrets = ["secret/ghost"]
on_change = ["docker", "compose", "up", "-d"]
'''


def printed(program, folder, *flags):
    """Prints a unit by a program where programs are installed: in a home or in /tmp it would have to be let out of more."""
    unit = pathlib.Path(folder) / f"{program}.service"
    installed = shutil.copy(BIN / program, folder)
    env = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_")}
    text = subprocess.run([installed, "install", "--print", *flags], env=env, check=True, capture_output=True, text=True)
    unit.write_text(text.stdout)
    return unit


def rated(unit, most):
    """Has systemd-analyze read a unit, and judge it: the fewer tenths, the better."""
    ran = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    want((ran.returncode, ran.stdout + ran.stderr), (0, ""), "verify")
    security = ["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={most}", unit]
    ran = subprocess.run(security, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout.splitlines()[-1]


with tempfile.TemporaryDirectory(dir="/opt") as folder:
    config = pathlib.Path(folder) / "agent.toml"
    config.write_text(HOOKED)
    config.chmod(0o600)
    attempt("the unit of the server is exposed 1.2 at most", lambda: rated(printed("vault-server", folder), 12))
    attempt("the unit of the agent is exposed 2.5 at most", lambda: rated(printed("vault-agent", folder), 25))
    attempt("with a hook that is a program it is exposed 4.0 at most", lambda: rated(printed("vault-agent", folder, "--config", config), 40))

if len(sys.argv) == 1:
    end()

host = Host(sys.argv[1])
host.on()
host.write("/root/passphrase", "correct horse battery staple\n")


def pid(unit="vault-agent"):
    return int(host.show(unit, "MainPID"))


def holds(path, text):
    ran = host.try_run("cat", path)
    return ran.returncode == 0 and text in ran.stdout


def put(path, **fields):
    host.run("vault", "kv", "put", path, *(f"{key}={value}" for key, value in fields.items()))


def put_soon(path, **fields):
    """As `put`, while the agent may just be connecting again."""
    words = [f"{key}={value}" for key, value in fields.items()]
    wait("the put", lambda: host.try_run("vault", "kv", "put", path, *words).returncode == 0)


def again(old):
    """Waits until the agent is another process, and ready."""
    wait("a restart", lambda: pid() not in (0, old) and host.show("vault-agent", "ActiveState") == "active")


@check
def the_server_gets_a_user_and_runs():
    ran = host.try_run("vault-server", "install")
    want((ran.returncode, "run `vault-server init` first" in ran.stderr), (1, True), ran.stderr)
    host.setup = host.run("vault-server", "init", "--listen", "127.0.0.1:8443").strip()
    host.run("vault-server", "install")
    want(host.show("vault-server", "ActiveState"), "active")
    want(host.run("stat", "-c", "%U %a", "/var/lib/vault-server").split(), ["vault-server", "700"])
    want(host.run("ps", "-o", "user:32=", "-p", str(pid("vault-server"))).strip(), "vault-server")
    assert "nothing to do" in host.said("vault-server", "install")


@check
def an_agent_that_has_not_joined_is_not_started():
    said = host.said("vault-agent", "install")
    assert "not started: this machine has no keys" in said, said
    want(host.run("systemctl", "is-enabled", "vault-agent").strip(), "enabled")


@check
def the_agent_runs_and_writes_in_its_sandbox():
    words = ["vault", "init", "--name", "desk", "--admin", "jonas", "--kit", "/root/kit", "--kit-confirmed"]
    host.run(*words, stdin=host.setup)
    host.run("useradd", "--system", "ghost")
    host.run("install", "-d", "-o", "ghost", "/srv/ghost", "/srv/other")
    said = host.said("vault-agent", "target", "add", GHOST, "secret/ghost")
    assert "systemd keeps the agent from writing in `/srv/ghost`" in said, said
    host.run("vault-agent", "install")
    want(host.show("vault-agent", "ActiveState"), "active")
    put("secret/ghost", DB_PASSWORD="one")
    wait("the target", lambda: holds(GHOST, "DB_PASSWORD=one"))
    want(host.run("stat", "-c", "%U %a", GHOST).split(), ["ghost", "600"])
    before = pid()
    said = host.said("vault-agent", "install")
    assert "is right already" in said and "nothing to do" in said, said
    want(pid(), before)


@check
def a_folder_that_the_unit_leaves_out_is_told_and_let_in_again():
    said = host.said("vault-agent", "target", "add", "/srv/other/.env", "secret/ghost")
    assert "systemd keeps the agent from writing in `/srv/other`" in said, said
    log = lambda: host.run("journalctl", "-u", "vault-agent", "-o", "cat")
    wait("the way out in the log", lambda: "`vault-agent install` lets it write there" in log())
    host.run("vault-agent", "install")
    wait("the target", lambda: holds("/srv/other/.env", "DB_PASSWORD=one"))


@check
def an_edited_unit_stays():
    unit = "/etc/systemd/system/vault-agent.service"
    host.run("sed", "-i", "s/^RestartSec=1$/RestartSec=2/", unit)
    edited = host.run("cat", unit)
    ran = host.try_run("vault-agent", "install")
    want(ran.returncode, 1)
    assert "somebody has written or edited" in ran.stderr and "systemctl edit" in ran.stderr, ran.stderr
    want(host.run("cat", unit), edited)
    host.run("vault-agent", "install", "--force")
    want(host.run("cat", f"{unit}.old"), edited)
    assert "RestartSec=1\n" in host.run("cat", unit)


@check
def a_killed_agent_comes_back():
    old = pid()
    host.run("kill", "-KILL", str(old))
    again(old)


@check
def an_agent_that_hangs_is_killed_and_comes_back():
    host.write("/etc/systemd/system/vault-agent.service.d/quick.conf", "[Service]\nWatchdogSec=2\n", "644")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "vault-agent")
    old = pid()
    signs = set()
    sign = lambda: signs.add(host.show("vault-agent", "WatchdogTimestampMonotonic")) or len(signs) > 3
    wait("signs of life", sign)
    want(pid(), old, "the agent")
    host.run("kill", "-STOP", str(old))
    again(old)
    log = host.run("journalctl", "-u", "vault-agent", "-o", "cat")
    assert "Watchdog timeout" in log, log
    host.run("rm", "-r", "/etc/systemd/system/vault-agent.service.d")
    host.run("systemctl", "daemon-reload")


@check
def lines_in_the_journal_have_their_priority():
    entries = host.run("journalctl", "-u", "vault-agent", "-o", "json", "_COMM=vault-agent").splitlines()
    entries = [json.loads(entry) for entry in entries]
    levels = {entry["PRIORITY"] for entry in entries if "`vault-agent install` lets it" in entry["MESSAGE"]}
    assert levels and levels <= {"3", "4"}, levels
    assert not any(re.match(r"<\d>|\d{4}-\d\d-\d\dT", entry["MESSAGE"]) for entry in entries)


ECHO = '''
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
Restart=on-failure
RestartSec=100ms
LoadCredential=db-password:/run/vault-agent/credentials.sock
ExecStartPre=/usr/bin/test -s %d/db-password
ExecStart=/bin/sh -c 'cat "$CREDENTIALS_DIRECTORY/db-password" >/srv/seen'
[Unit]
StartLimitIntervalSec=0
'''
CREDENTIAL = '''
[[credential]]
unit = "echo.service"
name = "db-password"
secret = "secret/late"
key = "PW"
'''


def waits():
    asked = "a unit waits for its credential"
    return host.run("journalctl", "-u", "vault-agent", "-o", "cat", f"_PID={pid()}").count(asked)


@check
def a_unit_waits_for_its_credential():
    config = "/etc/vault-agent/agent.toml"
    host.write(config, host.run("cat", config) + CREDENTIAL)
    host.run("vault-agent", "install")
    host.run("systemctl", "restart", "vault-agent")
    host.write("/etc/systemd/system/echo.service", ECHO, "644")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", "--no-block", "echo")
    wait("the question", waits)
    want(host.show("echo", "ActiveState"), "activating")


@check
def an_agent_that_is_killed_meanwhile_lets_no_unit_start_without():
    old = pid()
    host.run("kill", "-KILL", str(old))
    again(old)
    wait("the question again", waits)
    want(host.try_run("cat", "/srv/seen").returncode, 1)
    put("secret/late", PW=" it's\n")
    wait("the start", lambda: host.show("echo", "ActiveState") == "active")
    want(host.run("cat", "/srv/seen"), " it's\n")


DOCKER = '''#!/usr/bin/env python3
import socket, sys
with socket.socket(socket.AF_UNIX) as engine:
    engine.connect("/run/docker.sock")
    engine.sendall(" ".join(sys.argv[1:]).encode())
'''
ENGINE = '''#!/usr/bin/env python3
import socket
with socket.socket(socket.AF_UNIX) as engine:
    engine.bind("/run/docker.sock")
    engine.listen()
    while True:
        with engine.accept()[0] as client, open("/srv/engine", "ab") as log:
            log.write(client.recv(100) + b"\\n")
'''


@check
def a_hook_reaches_a_socket_and_nothing_else():
    host.write("/usr/local/bin/docker", DOCKER, "755")
    host.write("/usr/local/bin/engine", ENGINE, "755")
    host.run("systemd-run", "--unit", "engine", "/usr/local/bin/engine")
    wait("the engine", lambda: host.try_run("test", "-S", "/run/docker.sock").returncode == 0)
    host.run("mkdir", "/srv/hooked", "/srv/barred")
    config = "/etc/vault-agent/agent.toml"
    barred = HOOKED.replace("hooked", "barred").replace('["docker", "compose", "up", "-d"]', '"touch /srv/touched; touch seen"')
    host.write(config, host.run("cat", config) + HOOKED + barred)
    host.run("vault-agent", "install")
    put("secret/ghost", DB_PASSWORD="two")
    wait("the hook", lambda: holds("/srv/engine", "compose up -d"))
    wait("the other hook", lambda: host.try_run("test", "-e", "/srv/barred/seen").returncode == 0)
    want(host.try_run("test", "-e", "/srv/touched").returncode, 1)


@check
def a_disk_that_comes_later_is_written_and_can_go():
    host.run("mkdir", "-p", "/srv/disks/usb")
    disk = '[[target]]\npath = "/srv/disks/usb/.env"\nsecrets = ["secret/ghost"]\nrequire_mount = "/srv/disks/usb"\n'
    config = "/etc/vault-agent/agent.toml"
    host.write(config, host.run("cat", config) + disk)
    host.run("vault-agent", "install")
    lags = lambda: "nothing is mounted at `/srv/disks/usb`" in host.try_run("vault-agent", "status").stdout
    wait("the status", lags)
    host.run("mount", "-t", "tmpfs", "tmpfs", "/srv/disks/usb")
    wait("the target", lambda: holds("/srv/disks/usb/.env", "DB_PASSWORD=two"))
    host.run("umount", "/srv/disks/usb")
    wait("the status", lags)
    want(host.run("ls", "-A", "/srv/disks/usb"), "")


@check
def a_user_has_an_agent_without_root():
    host.run("useradd", "--create-home", "anna")
    host.run("loginctl", "enable-linger", "anna")
    runtime = f"/run/user/{host.run('id', '-u', 'anna').strip()}"
    wait("the manager", lambda: host.try_run("test", "-S", f"{runtime}/systemd/private").returncode == 0)
    words = ["runuser", "-u", "anna", "--", "env", "-i", "PATH=/usr/local/bin:/usr/bin", "HOME=/home/anna"]
    agent = lambda *args: host.run(*words, f"XDG_RUNTIME_DIR={runtime}", "vault-agent", *args)
    line = agent("init", "--name", "anna").split()[0]
    pin = host.run("vault", "machine", "add", line, "--read", "secret/ghost", "--yes")
    agent("join", re.search(r"VLTP1-\S+", pin)[0])
    agent("target", "add", "/home/anna/.env", "secret/ghost")
    agent("install", "--user")
    wait("the target", lambda: holds("/home/anna/.env", "DB_PASSWORD=two"))
    unit = host.run("cat", "/home/anna/.config/systemd/user/vault-agent.service")
    assert "NoNewPrivileges=yes" in unit and "StateDirectory" not in unit, unit


KEYS = "/var/lib/vault-agent/identity"


@check
def a_home_that_the_unit_hides_is_told():
    host.run("install", "-d", "/home/jonas")
    host.run("vault-agent", "target", "add", "/home/jonas/.env", "secret/ghost")
    hint = "systemd hides it: `vault-agent install`"
    host.run("sed", "-i", "/on_change/d", "/etc/vault-agent/agent.toml")
    unit = host.run("vault-agent", "install", "--print")
    assert "ReadWritePaths=-/home/jonas" in unit, unit
    bare = unit.replace("ReadWritePaths=-/home/jonas\n", "").replace("ProtectHome=read-only", "ProtectHome=yes")
    host.write("/etc/systemd/system/vault-agent.service", bare, "644")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "vault-agent")
    wait("the way out", lambda: hint in host.run("journalctl", "-u", "vault-agent", "-o", "cat"))
    host.run("vault-agent", "install", "--force")
    wait("the target", lambda: holds("/home/jonas/.env", "DB_PASSWORD=two"))


@check
def keys_stay_in_their_files_until_the_agent_runs_without():
    both = ["age.key", "sign.key"]
    host.run("mv", "/usr/bin/systemd-creds", "/usr/bin/systemd-creds.away")
    ran = host.try_run("vault-agent", "install", "--seal-keys")
    host.run("mv", "/usr/bin/systemd-creds.away", "/usr/bin/systemd-creds")
    want((ran.returncode, "there is no `systemd-creds`" in ran.stderr), (1, True), ran.stderr)
    want(sorted(host.run("ls", KEYS).split()), both)
    broken = "[Service]\nExecStartPre=/usr/bin/false\n"
    host.write("/etc/systemd/system/vault-agent.service.d/broken.conf", broken, "644")
    host.run("systemctl", "daemon-reload")
    ran = host.try_run("vault-agent", "install", "--seal-keys")
    want((ran.returncode, "but the agent does not start" in ran.stderr), (1, True), ran.stderr)
    assert set(both) <= set(host.run("ls", KEYS).split())
    host.run("rm", "-r", "/etc/systemd/system/vault-agent.service.d")
    host.run("systemctl", "daemon-reload")


@check
def keys_are_sealed_and_wiped():
    host.run("vault-agent", "install", "--seal-keys")
    want(sorted(host.run("ls", KEYS).split()), ["age.key.sealed", "sign.key.sealed"])
    put_soon("secret/ghost", DB_PASSWORD="three")
    wait("the target", lambda: holds(GHOST, "DB_PASSWORD=three"))
    host.run("vault-server", "install", "--seal-key")
    left = host.run("ls", "/var/lib/vault-server").split()
    assert "server.key" not in left and "server.key.sealed" in left, left
    put_soon("secret/ghost", DB_PASSWORD="four")
    wait("the target", lambda: holds(GHOST, "DB_PASSWORD=four"))
    assert "nothing to do" in host.said("vault-agent", "install", "--seal-keys")
    host.run("systemctl", "stop", "vault-agent")
    ran = host.try_run("vault", "kv", "get", "secret/ghost")
    assert ran.returncode and "are sealed: only the agent that systemd starts" in ran.stderr, ran.stderr


@check
def after_a_power_cut_files_are_right_without_the_server():
    host.run("systemctl", "disable", "vault-server")
    host.run("rm", GHOST)
    host.cut()
    host.on()
    want(host.show("vault-server", "ActiveState"), "inactive")
    want(host.show("vault-agent", "ActiveState"), "active")
    assert holds(GHOST, "DB_PASSWORD=four")
    order = host.show("vault-agent", "Before").split()
    assert "network.target" in order, order
    assert "network-online.target" not in host.show("vault-agent", "After").split()


@check
def a_sealed_key_can_be_opened_again_here():
    for key in ("age.key", "sign.key"):
        host.run("systemd-creds", "decrypt", f"--name=vault-agent.{key}", f"{KEYS}/{key}.sealed", f"{KEYS}/{key}")
        host.run("chmod", "600", f"{KEYS}/{key}")
        host.run("rm", f"{KEYS}/{key}.sealed")
    host.run("vault-agent", "install")
    assert "LoadCredential" not in host.run("cat", "/etc/systemd/system/vault-agent.service")
    want(host.run("vault", "kv", "get", "--field=DB_PASSWORD", "secret/ghost").strip(), "four")


host.cut()
end()
