"""Hosts with systemd, added over ssh: units, root by sudo with and without a password, a user's own agent, and a
container that lets systemd make no namespaces; and `vault setup` by sudo. Owner and guests share one booted host, and differ
by their folders."""

import pathlib
import sys

from checks import check, end, want
from host import Host, wait
from terminal import Unseen, type_at

SUDO_PASSWORD = "quite-a-secret-word"
PASSPHRASE = "correct horse battery staple"
SECRET = "secret/jjeco/api-keys"
OWNER = {
    "PATH": "/opt/owner:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "dumb",
    "VAULT_STATE_DIR": "/root/owner",
    "VAULT_PASSPHRASE_FILE": "/root/passphrase",
}
ENV = [f"{name}={value}" for name, value in OWNER.items()]

host = Host(sys.argv[1])
host.on()


def owner(*words, ok=True):
    ran = host.try_run("env", "-C", "/root", *ENV, *words)
    if ok:
        want(ran.returncode, 0, f"{words[:4]}: {ran.stdout}{ran.stderr}")
    return ran


def typed(words, answers):
    """Runs a command of the owner at a terminal; returns its exit code, what it said, and whose arguments or
    environments showed the password of sudo meanwhile."""
    shown = []

    def look():
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    if SUDO_PASSWORD.encode() in (process / name).read_bytes():
                        shown.append((process / "cmdline").read_text())
                except OSError:
                    pass

    code, said = type_at(host.enter("env", "-i", "-C", "/root", *ENV, *words), answers, meanwhile=look)
    return code, said, shown


def sh(text):
    return host.run("sh", "-ec", text)


# The owner's programs are elsewhere, so that a guest has none.
sh("mkdir /opt/owner; for p in vault vault-agent vault-server; do cp /usr/local/bin/$p /opt/owner/; done")
sh("for p in vault vault-agent vault-server; do umount /usr/local/bin/$p; rm /usr/local/bin/$p; done")
host.write("/root/passphrase", PASSPHRASE + "\n")
sh(
    "mkdir -p /run/sshd /root/.ssh; chmod 700 /root/.ssh; rm -f /etc/nologin /run/nologin\n"
    "ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 </dev/null; ssh-keygen -q -t ed25519 -N '' -f /root/host_key\n"
    "cp /root/.ssh/id_ed25519.pub /etc/keys; chmod 644 /etc/keys\n"
    "printf 'ListenAddress 127.0.0.1\\nHostKey /root/host_key\\nAuthorizedKeysFile /etc/keys\\nPermitRootLogin yes\\n"
    "UsePAM yes\\nPidFile none\\nStrictModes no\\n' >/root/sshd_config\n"
    "printf '127.0.0.1 %s\\n' \"$(cat /root/host_key.pub)\" >/root/.ssh/known_hosts\n"
    "systemctl start dbus systemd-logind || :\n"
    "systemd-run --quiet --unit=guest-sshd /usr/sbin/sshd -D -e -f /root/sshd_config"
)
for user in ("jonas", "paul", "rita"):
    sh(f"useradd -m -s /bin/bash {user}; echo '{user}:{SUDO_PASSWORD}' | chpasswd; install -d -o {user} /home/{user}/J-Jeco")
sh(
    "echo 'jonas ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/jonas; echo 'paul ALL=(ALL) ALL' >/etc/sudoers.d/paul\n"
    "chmod 440 /etc/sudoers.d/*"
)
setup = owner("vault-server", "init", "--data", "/root/server", "--listen", "127.0.0.1:8443").stdout
sh("systemd-run --quiet --unit=owner-server /opt/owner/vault-server run --data /root/server")
line = next(word for word in setup.split() if word.startswith("VLTS1-"))
host.write("/root/setup", line + "\n")
words = ["vault", "init", "/root/setup", "--name", "rtx1080", "--admin", "jonas", "--kit", "/root/kit", "--kit-confirmed"]
wait("the vault", lambda: owner(*words, ok=False).returncode == 0)
sh("systemd-run --quiet --unit=owner-agent -E VAULT_STATE_DIR=/root/owner /opt/owner/vault-agent run")
wait("the owner's agent", lambda: host.try_run("test", "-S", "/root/owner/agent.sock").returncode == 0)
wait("the first value", lambda: owner("vault", "kv", "put", SECRET, "OPENAI_API_KEY=one", ok=False).returncode == 0)


def add(name, login, *more):
    return [
        *("vault", "machine", "add", name, "--ssh", f"{login}@127.0.0.1", "--read", "secret/jjeco/", "--secret", SECRET),
        *("--target", "~/J-Jeco/.env", "--on-change", "touch hooked", "--yes", *more),
    ]


def leave(name, login, *more):
    words = ["vault", "machine", "remove", name, "--ssh", f"{login}@127.0.0.1", "--uninstall", "--yes", *more]
    return owner(*words)


def right(name, said):
    assert f"{name} is right: ~/J-Jeco/.env v" in said, said


@check
def root_gets_a_system_unit_in_one_command():
    sh("mkdir -p /root/J-Jeco")
    ran = owner(*add("vps", "root"))
    right("vps", ran.stdout)
    want(host.show("vault-agent", "ActiveState"), "active")
    assert "OPENAI_API_KEY=one" in sh("cat /root/J-Jeco/.env; test -e /root/J-Jeco/hooked")
    want(sh("stat -c '%U %a' /usr/local/bin/vault-agent").split(), ["root", "755"])
    right("vps", owner(*add("vps", "root")).stdout)


@check
def keys_that_systemd_has_sealed_are_replaced_by_sealed_ones():
    keys = "/var/lib/vault-agent/identity"
    sh("/usr/local/bin/vault-agent install --seal-keys")
    before = sh(f"cat {keys}/sign.key.sealed")
    ran = owner("vault", "machine", "rekey", "vps", "--ssh", "root@127.0.0.1", "--yes")
    assert "vps is right: it follows the vault, and its file is as it should be" in ran.stdout, ran.stdout + ran.stderr
    want(sorted(sh(f"ls {keys}").split()), ["age.key.sealed", "sign.key.sealed"])
    want((sh(f"cat {keys}/sign.key.sealed") == before, host.show("vault-agent", "ActiveState")), (False, "active"))
    sh("test ! -e /var/lib/vault-agent/rekey")
    owner("vault", "kv", "put", SECRET, "OPENAI_API_KEY=sealed")
    wait("the new value", lambda: "=sealed" in sh("cat /root/J-Jeco/.env"))
    owner("vault", "kv", "put", SECRET, "OPENAI_API_KEY=one")
    wait("the value of before", lambda: "=one" in sh("cat /root/J-Jeco/.env"))


@check
def it_goes_away_again_and_leaves_the_file():
    leave("vps", "root")
    want(host.try_run("systemctl", "is-active", "vault-agent").stdout.strip() in ("inactive", "unknown"), True)
    sh("test ! -e /etc/systemd/system/vault-agent.service; test ! -e /var/lib/vault-agent; test ! -e /etc/vault-agent")
    sh("test ! -e /usr/local/bin/vault-agent; test ! -e /usr/local/bin/vault; test -e /root/J-Jeco/.env")


@check
def sudo_that_asks_nothing_is_enough():
    right("desk", owner(*add("desk", "jonas")).stdout)
    want(sh("stat -c '%U %a' /home/jonas/J-Jeco/.env").split(), ["jonas", "600"])
    leave("desk", "jonas", "--with-targets")
    sh("test ! -e /home/jonas/J-Jeco/.env; test ! -e /var/lib/vault-agent")


@check
def sudo_that_wants_a_password_asks_once_at_the_terminal():
    prompt = "[sudo] password of paul on paul@127.0.0.1: "
    code, said, shown = typed(add("desk2", "paul"), [(prompt, iter([Unseen("wrong"), Unseen(SUDO_PASSWORD)]))])
    want((code, shown), (0, []), said)
    want(said.count(prompt), 2, said)
    right("desk2", said)
    assert SUDO_PASSWORD not in said, said
    journal = sh("journalctl --no-pager -o cat")
    assert SUDO_PASSWORD not in journal, "in the journal"
    ran = owner(*add("desk2", "paul"), ok=False)
    want(ran.returncode, 1)
    assert "asks for a password, and there is no terminal to ask at" in ran.stderr, ran.stderr
    code, said, _ = typed(
        ["vault", "machine", "remove", "desk2", "--ssh", "paul@127.0.0.1", "--uninstall", "--yes"], [(prompt, Unseen(SUDO_PASSWORD))]
    )
    want((code, said.count(prompt)), (0, 1), said)
    sh("test ! -e /var/lib/vault-agent")


@check
def a_user_whom_sudo_refuses_is_named_with_the_ways_round():
    prompt = "[sudo] password of rita on rita@127.0.0.1: "
    code, said, _ = typed(add("desk3", "rita"), [(prompt, iter([Unseen(SUDO_PASSWORD)]))])
    want((code, said.count(prompt)), (1, 1), said)
    assert "rita" in said and "sudoers" in said and "--user" in said, said
    sh("mount --bind /dev/null /usr/bin/sudo")
    ran = owner(*add("desk3", "rita"), ok=False)
    sh("umount /usr/bin/sudo")
    want(ran.returncode, 1)
    assert "`rita` cannot become root on `rita@127.0.0.1`: there is no `sudo`" in ran.stderr, ran.stderr
    assert "desk3" not in owner("vault", "machine", "list", "--all").stdout


@check
def a_user_has_an_agent_of_their_own_that_stays_after_the_login():
    ran = owner(*add("desk3", "rita", "--user"))
    right("desk3", ran.stdout)
    assert "linger" not in ran.stderr, ran.stderr
    sh("test -e /var/lib/systemd/linger/rita; test -x /home/rita/.local/bin/vault-agent")
    owner("vault", "kv", "put", SECRET, "OPENAI_API_KEY=two")
    wait("the new value", lambda: "=two" in sh("cat /home/rita/J-Jeco/.env"))
    # It is found without `--user`, and without root, which `rita` cannot become; its lingering was begun for it.
    leave("desk3", "rita")
    sh("test ! -e /home/rita/.local/state/vault-agent; test ! -e /home/rita/.config/systemd/user/vault-agent.service")
    sh("test ! -e /home/rita/.local/bin/vault-agent; test ! -e /var/lib/systemd/linger/rita")


@check
def a_user_who_lingered_before_goes_on_to():
    sh("loginctl enable-linger rita")
    right("desk4", owner(*add("desk4", "rita", "--user")).stdout)
    leave("desk4", "rita", "--user")
    sh("test -e /var/lib/systemd/linger/rita; loginctl disable-linger rita")


@check
def a_user_without_a_session_is_told_the_way_out():
    sh("cp /opt/owner/vault-agent /usr/local/bin/; until [ ! -e /run/user/$(id -u rita)/systemd/private ]; do sleep 0.2; done")
    # As for what cron or a service starts: `su` would open one.
    who = ("setpriv", "--reuid", "rita", "--regid", "rita", "--clear-groups", "env", "-u", "XDG_RUNTIME_DIR", "HOME=/home/rita")
    ran = host.try_run(*who, "/usr/local/bin/vault-agent", "install", "--user")
    want(ran.returncode, 1, ran.stderr)
    assert "systemd runs nothing for `rita` now" in ran.stderr, ran.stderr
    assert "sudo loginctl enable-linger rita" in ran.stderr, ran.stderr
    sh("test ! -e /home/rita/.config/systemd/user/vault-agent.service; rm /usr/local/bin/vault-agent")


@check
def a_host_whose_folder_is_gone_is_known_by_its_unit():
    owner(*add("lost", "root", "--replace"))
    sh("rm -r /var/lib/vault-agent /usr/local/bin/vault /usr/local/bin/vault-agent")
    leave("lost", "root")
    sh("test ! -e /etc/systemd/system/vault-agent.service; test ! -e /usr/local/bin/vault-agent")
    want(host.try_run("systemctl", "is-active", "vault-agent").stdout.strip() in ("inactive", "unknown"), True)


def by(user, *words):
    places = [f"HOME=/home/{user}", "PATH=/opt/owner:/usr/bin:/bin", "TERM=dumb"]
    return host.try_run("runuser", "-u", user, "--", "env", "-i", "-C", f"/home/{user}", *places, *words)


@check
def setup_by_sudo_makes_system_units_that_serve_the_user_behind_it():
    line = ["setup", "--yes", "--name", "box", "--address", "127.0.0.1", "--passphrase-file", "/root/passphrase"]
    # There is no such folder; the port is mended by the line that ends well.
    wrong = by("jonas", "sudo", "/opt/owner/vault", *line, "--port", "9001", "--kit", "/root/none/kit", "--kit-confirmed")
    want((wrong.returncode, host.show("vault-server", "ActiveState")), (1, "active"), wrong.stderr)
    line += ["--port", "9002", "--kit", "/root/box-kit", "--kit-confirmed"]
    ran = by("jonas", "sudo", "/opt/owner/vault", *line)
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    assert "the vault's server is 127.0.0.1:9002" in ran.stdout, ran.stdout
    want(sh("stat -c '%U %G %a' /etc/vault-server/server.toml").split(), ["root", "vault-server", "640"])
    assert "system units vault-server and vault-agent" in ran.stderr and "`jonas` may use the agent" in ran.stderr, ran.stderr
    assert "next: vault import" in ran.stdout and "next: sudo vault machine add" in ran.stdout, ran.stdout
    units = ("vault-server", "vault-agent")
    want([host.show(unit, "ActiveState") for unit in units], ["active", "active"])
    # Without sudo, from here on; root needs no name in the list, others get none.
    want(by("jonas", "vault", "kv", "put", "secret/a", "K=one").returncode, 0)
    want(by("jonas", "vault", "kv", "get", "-field=K", "secret/a").stdout.strip(), "one")
    assert "permission denied" in by("rita", "vault", "kv", "get", "secret/a").stderr
    for user in ("jonas", "rita"):
        second = by(user, "vault", *line)
        want(second.returncode, 1, second.stdout + second.stderr)
        assert "this host has a vault already" in second.stderr and "`sudo vault setup`" in second.stderr, second.stderr
    # The same line finds all there; the target's folder is let in.
    before = [host.show(unit, "MainPID") for unit in units]
    host.write("/home/jonas/master", "K=two\n")
    more = ["--import", "/home/jonas/master", "secret/b", "--target", "/home/jonas/J-Jeco/.env"]
    again = by("jonas", "sudo", "/opt/owner/vault", *line, *more)
    want(again.returncode, 0, again.stdout + again.stderr)
    assert "this host has its vault" in again.stderr and "box is right: ~/J-Jeco/.env holds secret/b v1" in again.stdout, again
    assert "--target ~/J-Jeco/.env" in again.stdout, again.stdout
    want(sh("stat -c '%U %a' /home/jonas/J-Jeco/.env").split(), ["jonas", "600"])
    want(host.show("vault-server", "MainPID"), before[0])
    # New keys for this very host, by the unit that it has.
    unit = sh("cat /etc/systemd/system/vault-agent.service")
    line = ["machine", "rekey", "box", "--passphrase-file", "/root/passphrase", "--yes"]
    ran = by("jonas", "sudo", "/opt/owner/vault", *line)
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    assert "box is right: it follows the vault, and its file is as it should be" in ran.stdout, ran.stdout
    want((host.show("vault-agent", "ActiveState"), host.show("vault-agent", "MainPID") == before[1]), ("active", False))
    want(sh("cat /etc/systemd/system/vault-agent.service") == unit, True, "the unit is another")
    want(by("jonas", "vault", "kv", "get", "-field=K", "secret/b").stdout.strip(), "two")
    sh(
        "systemctl disable --quiet --now vault-agent vault-server; rm /etc/systemd/system/vault-*.service; systemctl daemon-reload\n"
        "rm -r /var/lib/vault-agent /etc/vault-agent /var/lib/vault-server /etc/vault-server /home/jonas/J-Jeco/.env"
    )


@check
def a_container_without_namespaces_loses_what_needs_them_and_says_so():
    # As in an unprivileged container without nesting: systemd ends the program with 226/NAMESPACE.
    drop_in = "/etc/systemd/system/vault-agent.service.d/10-closed.conf"
    host.write(drop_in, "[Service]\nInaccessiblePaths=/nothing/is/here\n", "644")
    ran = owner(*add("lxc", "root", "--replace"))
    right("lxc", ran.stdout)
    assert "226/NAMESPACE" in ran.stderr and "protections are off: ProtectSystem, ProtectHome" in ran.stderr, ran.stderr
    want((host.show("vault-agent", "ProtectSystem"), host.show("vault-agent", "NoNewPrivileges")), ("no", "yes"))
    leave("lxc", "root")
    sh("test ! -e /etc/systemd/system/vault-agent.service.d/90-no-namespaces.conf")


host.cut()
end()
