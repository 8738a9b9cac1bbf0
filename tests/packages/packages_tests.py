"""What a release consists of, as `tests/packages/run` has made it: judged, verified, installed, upgraded, removed."""

import filecmp
import json
import os
import pathlib
import re
import subprocess
import tarfile

from checks import check, end, want
from host import ENV, Host, wait
from terminal import type_at

WORK = pathlib.Path(os.environ["WORK"])
ROOT = pathlib.Path(os.environ["ROOT"])
NEW, OLD, SIGNED = WORK / "first", WORK / "before", WORK / "signed"
STATE, CONFIG = "/var/lib/vault-agent", "/etc/vault-agent"


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)


def deb(folder, package):
    found = list(folder.glob(f"{package}_*.deb"))
    want(len(found), 1, f"packages of {package}")
    return found[0]


def listed(package):
    ran = run("dpkg-deb", "--contents", deb(NEW, package))
    return {line.split()[5].removeprefix("."): line.split()[0] for line in ran.stdout.splitlines()}


@check
def two_runs_give_the_same_bytes():
    names = sorted(file.name for file in NEW.iterdir())
    want(sorted(file.name for file in (WORK / "second").iterdir()), names)
    match, differ, odd = filecmp.cmpfiles(NEW, WORK / "second", names, shallow=False)
    want((differ, odd), ([], []))
    want(len(match), 8, "files")


@check
def the_sums_are_those_of_the_files_and_signed():
    want(run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=SIGNED).returncode, 0)
    named = {line.split()[1] for line in (SIGNED / "SHA256SUMS").read_text().splitlines()}
    want(named, {file.name for file in SIGNED.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sig"})

    guide = (ROOT / "docs/src/guide/packages.md").read_text()
    command = re.search(r"^ssh-keygen -Y verify .*$", guide, re.MULTILINE)[0]
    (SIGNED / "allowed_signers").write_text((WORK / "allowed_signers").read_text())
    want(run("sh", "-c", command, cwd=SIGNED).returncode, 0, command)
    sums = (SIGNED / "SHA256SUMS").read_text()
    (SIGNED / "SHA256SUMS").write_text(sums.replace("0", "1", 1))
    want(run("sh", "-c", command, cwd=SIGNED).returncode, 255, "of other sums")
    (SIGNED / "SHA256SUMS").write_text(sums)


@check
def lintian_finds_no_error():
    packages = [deb(NEW, "vault-agent"), deb(NEW, "vault-server")]
    ran = run("lintian", "--fail-on", "error", "--allow-root", *packages)
    want(ran.returncode, 0, ran.stdout + ran.stderr)


@check
def scripts_are_clean():
    scripts = [ROOT / ".ci/package", ROOT / "tests/packages/run", NEW / "proxmox-lxc"]
    for package in ["vault-agent", "vault-server"]:
        scripts += [ROOT / package / "package/debian" / name for name in ("preinst", "postinst", "prerm", "postrm")]
    ran = run("shellcheck", *scripts)
    want(ran.returncode, 0, ran.stdout)


@check
def the_packages_hold_what_belongs_to_them():
    host, server = listed("vault-agent"), listed("vault-server")
    for file in [
        "/usr/bin/vault",
        "/usr/bin/vault-agent",
        "/usr/lib/systemd/system/vault-agent.service",
        "/usr/lib/systemd/user/vault-agent.service",
        "/usr/share/man/man1/vault.1.gz",
        "/usr/share/man/man1/vault-kv-get.1.gz",
        "/usr/share/man/man1/vault-agent-target-add.1.gz",
        "/usr/share/bash-completion/completions/vault",
        "/usr/share/zsh/vendor-completions/_vault",
        "/usr/share/fish/vendor_completions.d/vault.fish",
        "/usr/share/doc/vault-agent/copyright",
        "/usr/share/doc/vault-agent/third-party.txt",
    ]:
        assert file in host, file
    for file in [
        "/usr/bin/vault-server",
        "/usr/lib/systemd/system/vault-server.service",
        "/usr/lib/sysusers.d/vault-server.conf",
        "/usr/share/man/man1/vault-server-run.1.gz",
    ]:
        assert file in server, file
    shared = {file for file in set(host) & set(server) if not file.endswith("/")}
    want(shared, set(), "in both")
    for files in host, server:
        programs = {file for file, mode in files.items() if mode.startswith("-") and "x" in mode}
        assert programs and all(file.startswith("/usr/bin/") for file in programs), programs
        want([file for file in files if file.startswith("/etc")], [], "conffiles")


@check
def the_tarball_runs_where_it_is_unpacked():
    archive = next(NEW.glob("vault-*-linux.tar.gz"))
    with tarfile.open(archive) as tar:
        want({(member.uid, member.uname, member.mtime) for member in tar} and len({m.mtime for m in tar}), 1, "times")
        tar.extractall(WORK / "unpacked", filter="data")
    tree = next((WORK / "unpacked").iterdir())
    for program in ["vault", "vault-agent", "vault-server"]:
        ran = run(tree / "bin" / program, "--version")
        assert re.search(r"\d+\.\d+\.\d+", ran.stdout), (program, ran.stdout, ran.stderr)
    for name in ["INSTALL", "LICENSE-MIT", "LICENSE-APACHE", "third-party.txt", "share/man/man1/vault.1", "server/compose.yaml"]:
        assert (tree / name).is_file(), name


@check
def the_lists_of_parts_name_every_part_and_no_path_of_this_machine():
    lock = (ROOT / "Cargo.lock").read_text()
    parts = {}
    for file in NEW.glob("*.cdx.json"):
        text = file.read_text()
        assert str(ROOT) not in text and str(WORK) not in text and str(pathlib.Path.home()) not in text, file.name
        found = json.loads(text)["components"]
        for part in found:
            assert f'name = "{part["name"]}"\nversion = "{part["version"]}"' in lock, part["name"]
        parts[file.name.split("-0")[0].split("-1")[0]] = {part["name"] for part in found}
    want(sorted(parts), ["vault", "vault-agent", "vault-server"])
    assert "age" in parts["vault"] and "rusqlite" in parts["vault-agent"] and "axum" in parts["vault-server"], parts
    assert not any("proptest" in found for found in parts.values()), "a part of tests"


desk = Host(WORK / "disk" / "desk", lower=WORK / "disk" / "debian")
desk.disk.mkdir()
desk.on()
desk.write("/root/passphrase", "correct horse battery staple\n")
for release, folder in ("old", OLD), ("new", NEW):
    for package in "vault-agent", "vault-server":
        desk.bring(deb(folder, package), f"/root/{package}-{release}.deb")


def pid(unit):
    return int(desk.show(unit, "MainPID"))


def install(release, *packages):
    return desk.try_run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", *(f"/root/{name}-{release}.deb" for name in packages))


def is_there(path):
    return desk.try_run("test", "-e", path).returncode == 0


def holds(path, text):
    ran = desk.try_run("cat", path)
    return ran.returncode == 0 and text in ran.stdout


def put(value):
    desk.run("vault", "kv", "put", "secret/ghost", f"DB_PASSWORD={value}")


@check
def the_packages_install_and_start_nothing():
    ran = install("old", "vault-agent", "vault-server")
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    for unit in "vault-agent", "vault-server":
        want(desk.try_run("systemctl", "is-enabled", unit).stdout.strip(), "disabled")
        want(desk.show(unit, "ActiveState"), "inactive")
        verified = desk.try_run("systemd-analyze", "verify", f"/usr/lib/systemd/system/{unit}.service")
        want((verified.returncode, verified.stdout + verified.stderr), (0, ""))
        want(desk.run(unit, "install", "--print"), desk.run("cat", f"/usr/lib/systemd/system/{unit}.service"))
    want(desk.run("getent", "passwd", "vault-server").split(":")[5], "/var/lib/vault-server")
    assert "DESCRIPTION" in desk.run("sh", "-c", "zcat /usr/share/man/man1/vault.1.gz")


@check
def hashicorps_package_and_ours_keep_off_each_other():
    folder = WORK / "hashicorp"
    (folder / "DEBIAN").mkdir(parents=True)
    (folder / "DEBIAN/control").write_text(
        "Package: vault\nVersion: 1.17.0-1\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: a\n"
    )
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin/vault").write_text("#!/bin/sh\n")
    run("dpkg-deb", "--build", folder, WORK / "vault.deb", check=True)
    desk.bring(WORK / "vault.deb", "/root/vault.deb")
    ran = desk.try_run("dpkg", "-i", "/root/vault.deb")
    want((ran.returncode, "conflicts with vault" in ran.stderr), (1, True), ran.stderr)
    assert "vault-agent" not in desk.try_run("dpkg", "--audit").stdout


@check
def the_units_of_the_packages_are_those_that_run():
    setup = desk.run("vault-server", "init", "--listen", "127.0.0.1:8443").strip()
    said = desk.said("vault-server", "install")
    assert "`/usr/lib/systemd/system/vault-server.service` is right already" in said, said
    want(desk.show("vault-server", "ActiveState"), "active")
    want(desk.run("stat", "-c", "%U %a", "/var/lib/vault-server").split(), ["vault-server", "700"])
    desk.run("vault", "init", "--name", "desk", "--admin", "jonas", "--kit", "/root/kit", "--kit-confirmed", stdin=setup)
    desk.run("vault-agent", "install")
    for unit in "vault-agent", "vault-server":
        assert not is_there(f"/etc/systemd/system/{unit}.service"), "two units"
        want(desk.show(unit, "FragmentPath").removeprefix("/usr"), f"/lib/systemd/system/{unit}.service")
        want(desk.run("systemctl", "is-enabled", unit).strip(), "enabled")
    put("one")


@check
def a_target_needs_a_unit_of_its_own_which_goes_before_the_packages():
    desk.run("mkdir", "/srv/ghost")
    said = desk.said("vault-agent", "target", "add", "/srv/ghost/.env", "secret/ghost")
    assert "systemd keeps the agent from writing in `/srv/ghost`" in said, said
    desk.run("vault-agent", "install")
    want(desk.show("vault-agent", "FragmentPath"), "/etc/systemd/system/vault-agent.service")
    wait("the target", lambda: holds("/srv/ghost/.env", "DB_PASSWORD=one"))


@check
def a_user_has_an_agent_by_the_packages_unit():
    desk.run("useradd", "--create-home", "anna")
    desk.run("loginctl", "enable-linger", "anna")
    runtime = f"/run/user/{desk.run('id', '-u', 'anna').strip()}"
    wait("the manager", lambda: desk.try_run("test", "-S", f"{runtime}/systemd/private").returncode == 0)
    words = ["runuser", "-u", "anna", "--", "env", "-i", "PATH=/usr/bin", "HOME=/home/anna", f"XDG_RUNTIME_DIR={runtime}"]
    line = desk.run(*words, "vault-agent", "init", "--name", "anna").split()[0]
    pin = desk.run("vault", "machine", "add", line, "--read", "secret/ghost", "--yes")
    desk.run(*words, "vault-agent", "join", re.search(r"VLTP1-\S+", pin)[0])
    desk.run(*words, "vault-agent", "install", "--user")
    assert not is_there("/home/anna/.config/systemd/user/vault-agent.service"), "two units"
    want(desk.run(*words, "vault", "kv", "get", "-field=DB_PASSWORD", "secret/ghost").strip(), "one")


def annas():
    ran = desk.try_run("systemctl", "--user", "--machine", "anna@", "show", "--property", "MainPID", "--value", "vault-agent")
    want(ran.returncode, 0, ran.stderr)
    return int(ran.stdout)


@check
def an_upgrade_starts_what_runs_anew_and_keeps_everything():
    before = [pid("vault-agent"), pid("vault-server"), annas()]
    unit = desk.run("cat", "/etc/systemd/system/vault-agent.service")
    ran = install("new", "vault-agent", "vault-server")
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    after = [pid("vault-agent"), pid("vault-server"), annas()]
    assert 0 not in before + after and not set(before) & set(after), (before, after, ran.stderr)
    want(desk.run("cat", "/etc/systemd/system/vault-agent.service"), unit)
    wait("the server", lambda: desk.try_run("vault", "kv", "put", "secret/ghost", "DB_PASSWORD=two").returncode == 0)
    wait("the target", lambda: holds("/srv/ghost/.env", "DB_PASSWORD=two"))


@check
def going_back_a_version_starts_what_runs_anew_too():
    for release, value in ("old", "three"), ("new", "two"):
        before = [pid("vault-agent"), pid("vault-server"), annas()]
        ran = install(release, "vault-agent", "vault-server")
        want(ran.returncode, 0, ran.stdout + ran.stderr)
        after = [pid("vault-agent"), pid("vault-server"), annas()]
        assert 0 not in after and not set(before) & set(after), (before, after, ran.stderr)
        wait("the server", lambda value=value: desk.try_run("vault", "kv", "put", "secret/ghost", f"DB_PASSWORD={value}").returncode == 0)
        wait("the target", lambda value=value: holds("/srv/ghost/.env", f"DB_PASSWORD={value}"))


@check
def what_does_not_run_is_not_started_by_an_upgrade():
    desk.run("systemctl", "stop", "vault-agent")
    want(install("new", "vault-agent").returncode, 0)
    want(desk.show("vault-agent", "ActiveState"), "inactive")
    desk.run("systemctl", "start", "vault-agent")


@check
def a_removed_package_stops_its_programs_and_its_units_wait_for_it():
    want(desk.try_run("dpkg", "--remove", "vault-agent", "vault-server").returncode, 0)
    for unit in "vault-agent", "vault-server":
        assert desk.show(unit, "ActiveState") == "inactive", unit
    assert not annas()
    assert is_there(f"{STATE}/identity/sign.key") and is_there("/var/lib/vault-server/server.key")
    assert holds("/srv/ghost/.env", "DB_PASSWORD=two")
    # At the next boot the unit that `install` has written is skipped, and not tried for ever.
    desk.cut()
    desk.on()
    want(desk.show("vault-agent", "LoadState"), "loaded")
    want((desk.show("vault-agent", "ActiveState"), desk.show("vault-agent", "ConditionResult")), ("inactive", "no"))
    ran = install("new", "vault-agent", "vault-server")
    want((ran.returncode, ran.stderr), (0, ""))
    for unit in "vault-agent", "vault-server":
        want(desk.show(unit, "ActiveState"), "active", unit)
    wait("the server", lambda: desk.try_run("vault", "kv", "put", "secret/ghost", "DB_PASSWORD=three").returncode == 0)
    wait("the target", lambda: holds("/srv/ghost/.env", "DB_PASSWORD=three"))


@check
def what_is_enabled_starts_when_its_package_comes_back_and_nothing_else_does():
    assert annas(), "after the boot"
    want(desk.try_run("dpkg", "--remove", "vault-agent").returncode, 0)
    want((desk.show("vault-agent", "ActiveState"), annas()), ("inactive", 0))
    want(install("new", "vault-agent").returncode, 0)
    want(desk.show("vault-agent", "ActiveState"), "active")
    assert annas(), "the agent of a user"
    desk.run("systemctl", "disable", "--now", "vault-agent")
    want(desk.try_run("dpkg", "--remove", "vault-agent").returncode, 0)
    want(install("new", "vault-agent").returncode, 0)
    want(desk.show("vault-agent", "ActiveState"), "inactive", "disabled")
    want(desk.run("find", "/run", "-maxdepth", "1", "-name", "*.absent"), "")


@check
def a_purge_that_asks_nobody_keeps_keys_and_vault():
    ran = desk.try_run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "vault-agent", "vault-server")
    want(ran.returncode, 0, ran.stderr)
    assert f"the keys of this machine stay: rm -r {STATE} {CONFIG}" in ran.stderr, ran.stderr
    assert "the vault stays: rm -r /var/lib/vault-server /etc/vault-server" in ran.stderr, ran.stderr
    assert is_there(f"{STATE}/identity/sign.key") and is_there(f"{CONFIG}/agent.toml")
    assert is_there("/var/lib/vault-server/server.key") and is_there("/etc/vault-server/server.toml")
    left = desk.run("find", "/etc/systemd/system", "-name", "vault-*").split()
    want(left, [], "units and links")
    want(desk.run("dpkg", "--get-selections", "vault-agent", "vault-server"), "")


def purge(package, answer):
    """Purges a package from a terminal, and answers what debconf asks there."""
    env = {**ENV, "DEBIAN_FRONTEND": "teletype"}
    code, shown = type_at(desk.enter("dpkg", "--purge", package), [("[yes/no]", answer)], env=env)
    want(code, 0, shown)
    return shown


@check
def a_purge_removes_keys_from_those_who_say_so():
    want(install("new", "vault-agent", "vault-server").returncode, 0)
    shown = purge("vault-agent", "no")
    assert "Remove the keys of this machine?" in shown and is_there(f"{STATE}/identity/sign.key"), shown
    want(install("new", "vault-agent").returncode, 0)
    shown = purge("vault-agent", "yes")
    assert not is_there(STATE) and not is_there(CONFIG), shown
    assert is_there("/var/lib/vault-server/server.key"), "the other package's"
    shown = purge("vault-server", "yes")
    assert "Remove the vault" in shown and not is_there("/var/lib/vault-server") and not is_there("/etc/vault-server"), shown
    assert holds("/srv/ghost/.env", "DB_PASSWORD=three")
    want(desk.run("dpkg", "--audit"), "")


@check
def a_purge_takes_the_answer_that_was_given_beforehand():
    guide = (ROOT / "docs/src/guide/packages.md").read_text()
    words = re.search(r"^echo '(.* boolean true)' \| sudo debconf-set-selections$", guide, re.MULTILINE)[1]
    for beforehand in True, False:
        if beforehand:
            desk.run("debconf-set-selections", stdin=words)
        want(install("new", "vault-agent").returncode, 0)
        desk.write(f"{STATE}/identity/sign.key", "a key\n")
        desk.write(f"{CONFIG}/agent.toml", "# mine\n")
        if not beforehand:
            desk.run("debconf-set-selections", stdin=words)
        ran = desk.try_run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "vault-agent")
        want((ran.returncode, ran.stderr), (0, ""))
        assert not is_there(STATE) and not is_there(CONFIG), beforehand
    # The answer is of that purge alone.
    want(install("new", "vault-agent").returncode, 0)
    desk.write(f"{STATE}/identity/sign.key", "a key\n")
    want(desk.try_run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "vault-agent").returncode, 0)
    assert is_there(f"{STATE}/identity/sign.key")


desk.cut()

PCT = '''#!/usr/bin/env bash
# As Proxmox' own, for one container. STOP is the verb at which everything ends, as by kill -9, and when: before, after,
# or amid what happens in the container.
set -euo pipefail
echo "$*" >>"$WORK/pct.log"
verb=$1 ct=${2:-} conf=$WORK/107.conf
shift
[ -z "$ct" ] || { [ "$ct" = 107 ] && shift; }
[ "$verb" != exec ] || shift
[ "${1:-}" != /root/proxmox-lxc ] || verb=inside
stop() { [ "${STOP:-}" != "$verb $1" ] || kill -9 0; }
stop before
enter=(nsenter --target "$FIRST" --mount --pid --uts --net --ipc -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root)
case $verb in
  list) [ ! -e "$conf" ] || printf 'VMID Status Lock Name\\n107 running vault-server\\n' ;;
  config) cat "$conf" ;;
  status) echo "status: $(cat "$WORK/107.status")" ;;
  create)
    [ ! -e "$conf" ] || { echo "CT 107 already exists" >&2; exit 255; }
    while [ $# -gt 1 ]; do [ "$1" != --description ] || echo "description: $2%0A" >"$conf"; shift; done
    echo stopped >"$WORK/107.status" ;;
  start) grep -q stopped "$WORK/107.status" && echo running >"$WORK/107.status" ;;
  push) install -m "${4:-644}" "$1" "/proc/$FIRST/root$2" ;;
  exec) "${enter[@]}" "$@" || code=$? ;;
  inside)
    if [ "${STOP:-}" = "inside amid" ]; then
      "${enter[@]}" "$@" &
      until [ -e "/proc/$FIRST/root/var/lib/vault-server/server.key" ]; do sleep 0.01; done
      kill -9 0
    fi
    "${enter[@]}" "$@" || code=$? ;;
  *) exit 1 ;;
esac
stop after
exit "${code:-0}"
'''


@check
def the_script_for_proxmox_makes_a_server_and_goes_on_where_it_was_stopped():
    container = Host(WORK / "disk" / "container", "container", lower=WORK / "disk" / "debian")
    container.disk.mkdir()
    container.on()
    fake = WORK / "proxmox"
    fake.mkdir()
    scripts = {
        "pct": PCT,
        "pvesh": "#!/bin/sh\necho 107\n",
        "pveam": '#!/bin/sh\n[ "$1" != available ] || printf "system          debian-1%s-standard_1%s.1-1_amd64.tar.zst\\n" 2 2 1 1\n',
    }
    for name, text in scripts.items():
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{fake}:{os.environ['PATH']}", "FIRST": container.first}
    script = [NEW / "proxmox-lxc", deb(NEW, "vault-server")]
    words = ["10.8.0.3:8443", "192.168.17.1:8443", "--", "--storage", "local-zfs"]
    for stop in [
        *("list before", "create before", "create after", "status after", "start before", "start after"),
        *("push before", "push after", "exec after", "inside before", "inside amid", "inside after"),
    ]:
        ran = run(*script, *words, env={**env, "STOP": stop}, start_new_session=True)
        want((ran.returncode, ran.stdout.count("VLTS1-")), (-9, int(stop == "inside after")), stop + ran.stderr)
    ran = run(*script, *words, env=env)
    want(ran.returncode, 0, ran.stderr)
    assert re.fullmatch(r"VLTS1-\S+\n", ran.stdout), ran.stdout
    want(container.show("vault-server", "ActiveState"), "active")
    again = run(*script, *words, env=env)
    want((again.returncode, again.stdout), (0, ran.stdout), again.stderr)
    asked = (WORK / "pct.log").read_text()
    assert "local:vztmpl/debian-12-standard_12.1-1_amd64.tar.zst" in asked and "--storage local-zfs" in asked, asked
    other = run(*script, "10.8.0.3:8443", env=env)
    want((other.returncode, "CT 107 already exists" in other.stderr), (255, True), other.stderr)
    container.run("rm", "/root/vault-server.setup")
    ran = run(*script, *words, env=env)
    want((ran.returncode, "there is a server in this container already" in ran.stderr), (1, True), ran.stderr)
    for words, why in [(["10.8.0.3"], "is not host:port"), ([], "usage"), (["--", "--cores", "2"], "no address"), (["a:1", "--", "--description", "b"], "by the description")]:
        ran = run(*script, *words, env=env)
        assert ran.returncode == 1 and (why in ran.stderr or "ADDRESS" in ran.stderr), (words, ran.stderr)
    container.cut()


# A network of its own, so that its ports are free.
SERVE = '''
set -eu
ip link set lo up
inside() {
  buildah $STORAGE run --isolation chroot -v "$VOLUME:/var/lib/vault-server" "$CONTAINER" -- vault-server "$@" </dev/null
}
if inside health 2>/dev/null; then echo "healthy before it runs"; exit 1; fi
inside init --address 10.8.0.3:8443
inside run &
for try in $(seq 100); do
  if inside health 2>/dev/null; then exit 0; fi
  sleep 0.1
done
exit 1
'''


@check
def the_container_runs_as_nobody_in_particular_and_tells_how_it_is():
    storage = ["--root", WORK / "disk" / "images", "--runroot", WORK / "disk" / "run", "--storage-driver", "vfs"]
    podman = lambda *words: run("podman", "--cgroup-manager", "cgroupfs", *storage, *words)

    def done(*words):
        ran = podman(*words)
        want(ran.returncode, 0, f"{words[0]}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    base = run("sh", "-c", f"tar -C {WORK / 'disk' / 'debian'} -c . | podman {' '.join(map(str, storage))} import -q - localhost/debian:12")
    want(base.returncode, 0, base.stderr)
    recipe = ROOT / "vault-server/package/Containerfile"
    built = run(
        "buildah", *storage, "build", "--isolation", "chroot", "--format", "docker", "--pull=never",
        "--build-arg", "BASE=localhost/debian:12", "-t", "vault-server", "-f", recipe, NEW,
    )
    want(built.returncode, 0, built.stdout + built.stderr)
    image = json.loads(done("image", "inspect", "vault-server"))[0]
    want((image["Config"]["User"], list(image["Config"]["Volumes"])), ("8443:8443", ["/var/lib/vault-server"]))
    want(image["Healthcheck"]["Test"], ["CMD", "vault-server", "health"])

    volume = WORK / "disk" / "volume"
    volume.mkdir(mode=0o700)
    os.chown(volume, 8443, 8443)
    made = run("buildah", *storage, "from", "--pull-never", "vault-server")
    want(made.returncode, 0, made.stderr)
    env = {**os.environ, "STORAGE": " ".join(map(str, storage)), "VOLUME": str(volume), "CONTAINER": made.stdout.strip()}
    alone = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    ran = run("timeout", "--kill-after=1", "120", *alone, "sh", "-c", SERVE, env=env)
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    assert re.search(r"^VLTS1-", ran.stdout, re.MULTILINE), ran.stdout
    want({file.stat().st_uid for file in volume.iterdir()}, {8443})


end()
