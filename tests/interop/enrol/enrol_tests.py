"""Hosts without systemd, added and removed over ssh: the way from nothing to a right file, and its accidents."""

import atexit
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess

from checks import attempt, check, end, want
from terminal import Unseen
from world import BIN, PASSPHRASE, PATIENCE, World, wait

SECRET = "secret/jjeco/api-keys"
world = World()
atexit.register(world.end)
wait("the first value", lambda: world.try_run("vault", "kv", "put", SECRET, "OPENAI_API_KEY=one").returncode == 0)
(world.home / "J-Jeco").mkdir()
OWN = str(world.home / "J-Jeco/.env")
world.run("vault-agent", "target", "add", OWN, SECRET)
wait("the owner's own file", lambda: pathlib.Path(OWN).exists())


def add(name, *more, target=True, yes=True):
    """The command that adds a host, as a person would type it: the shell has expanded the `~`."""
    words = ["vault", "machine", "add", name, "--ssh", name, "--user", "--read", "secret/jjeco/"]
    if target:
        words += ["--target", OWN, "--on-change", "echo ran >> hooks.log"]
    return [*words, *(["--yes"] if yes else []), *more]


def fresh(name, before=""):
    host = world.host(name, before)
    (host.home / "J-Jeco").mkdir()
    return host


def env_of(host):
    return (host.home / "J-Jeco/.env").read_text()


def right(name, ran):
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    last = ran.stdout.strip().splitlines()[-1]
    assert last.startswith(f"{name} is right: ~/J-Jeco/.env v1, hook ok, "), ran.stdout + ran.stderr


def fails(ran, *parts):
    want(ran.returncode in (1, 2), True, ran.stdout + ran.stderr)
    for part in parts:
        assert part in ran.stderr, f"no {part!r} in {ran.stdout}{ran.stderr}"


def controls():
    return {file for file in pathlib.Path("/tmp").glob("vault-*") if (file / "s").exists()}


def standing_of(name):
    status = json.loads(world.try_run("vault", "status", "-format=json").stdout)
    return json.dumps([it for it in status["targets"] if it["machine"] == name])


def standing(name):
    status = json.loads(world.try_run("vault", "status", "-format=json").stdout)
    return json.dumps([it for it in status["machines"] if it["machine"] == name])


@check
def one_command_brings_a_host_from_nothing_to_a_right_file():
    vps = fresh("vps")
    # A shell that greets at each step, without an end of its last line.
    (vps.home / ".bashrc").write_text("echo 'Welcome to vps'; printf '> '; echo 'warning: hello' >&2\n")
    before = controls()
    ran = world.try_run(*add("vps"))
    right("vps", ran)
    assert "OPENAI_API_KEY=one" in env_of(vps)
    assert "ran" in (vps.home / "J-Jeco/hooks.log").read_text()
    assert "the programs are missing: sending this host's own" in ran.stderr, ran.stderr
    for name in ("vault", "vault-agent"):
        want((vps.home / ".local/bin" / name).read_bytes() == (BIN / name).read_bytes(), True, name)
    want(list((vps.home / ".local/bin").glob(".vault*")), [], "left over")
    want(controls() - before, set(), "connections left over")
    status = world.try_run("vault", "status")
    assert "vps" in status.stdout and "~/J-Jeco/.env" in status.stdout, status.stdout


@check
def the_same_line_again_finds_all_right_and_signs_nothing():
    before, pid = world.entries(), world.hosts["vps"].agent_pid()
    ran = world.try_run(*add("vps"))
    right("vps", ran)
    want((world.entries(), world.hosts["vps"].agent_pid()), (before, pid))
    assert "sending" not in ran.stderr, ran.stderr


@check
def the_same_line_again_repairs_what_is_missing():
    vps = world.hosts["vps"]
    vps.stop()
    (vps.home / ".local/bin/vault-agent").unlink()
    (vps.state / "agent.toml").write_text("# nothing\n")
    (vps.home / "J-Jeco/.env").unlink()
    right("vps", world.try_run(*add("vps")))
    assert "OPENAI_API_KEY=one" in env_of(vps)


@check
def several_hosts_take_one_question_and_one_passphrase():
    hosts = [fresh("nas"), fresh("pi")]
    words = ["vault", "machine", "add", "--ssh", "nas=nas", "--ssh", "pi=pi", "--user", "--read", "*", "--sleeps"]
    code, said = world.typed(
        [*words, "--target", OWN],
        [("Sign this? [y/N]", "y"), ("Passphrase of admin `jonas`: ", Unseen(PASSPHRASE))],
        env={"VAULT_PASSPHRASE_FILE": ""},
    )
    want(code, 0, said)
    want((said.count("Sign this?"), said.count("Passphrase of")), (1, 1), said)
    for name in ("nas", "pi"):
        assert f"{name} is right: ~/J-Jeco/.env v1, " in said, said
    assert "add the machine `nas`" in said and "its silence is normal" in said, said
    assert all("OPENAI_API_KEY=one" in env_of(host) for host in hosts)
    want(world.run("vault", "machine", "list").stdout.count("(sleeps)"), 2)


@check
def a_second_host_of_one_name_does_not_take_the_first_ones_place():
    fresh("twin")
    before = world.entries()
    words = ["vault", "machine", "add", "vps", "--ssh", "twin", "--user", "--read", "*"]
    code, said = world.typed(words, [])
    want((code, world.entries()), (2, before), said)
    assert "E_EXISTS: machine `vps` is in the vault with other keys, and it follows the vault right now" in said, said
    assert "add this one under another" in said and "--rekey" in said, said
    fails(world.try_run(*words, "--yes"), "E_EXISTS", "nobody is asked with `--yes`")
    want(world.entries(), before)


@check
def a_host_that_has_lost_its_state_gets_new_keys_in_one_signed_step():
    vps = world.hosts["vps"]
    vps.stop()
    shutil.rmtree(vps.state)
    before = world.entries()
    wait("the server to miss it", lambda: '"awake": true' not in standing("vps"))
    code, said = world.typed(add("vps", yes=False), [("Sign this? [y/N]", "y")])
    want((code, world.entries(), said.count("Sign this?")), (0, before + 1, 1), said)
    assert "give the machine `vps`" in said and "other keys" in said and "its words" in said, said
    assert "vps is right: ~/J-Jeco/.env v1, hook" in said, said


@check
def a_file_that_would_lose_something_is_left_until_one_chooses():
    box = fresh("box")
    (box.home / "J-Jeco/.env").write_text("OPENAI_API_KEY=old\nMINE=yes\n")
    ran = world.try_run(*add("box"))
    fails(ran, "E_TARGET_FOREIGN", "MINE", "--import", "--block", "--replace")
    want(env_of(box), "OPENAI_API_KEY=old\nMINE=yes\n")
    right("box", world.try_run(*add("box", "--block")))
    assert "MINE=yes" in env_of(box) and "OPENAI_API_KEY=one" in env_of(box), env_of(box)


@check
def a_server_that_does_not_answer_from_there_is_named_before_anything_is_signed():
    fresh("far")
    before = world.entries()
    fails(world.try_run(*add("far", "--server", "127.0.0.1:1")), "the server does not answer from `far` at `127.0.0.1:1`", "VPN")
    want(world.entries(), before)


@check
def a_clock_that_is_five_minutes_off_is_named():
    late = fresh("late")
    late.program("date", 'if [ "$*" = +%s ]; then echo $(($(/bin/date +%s) - 300)); else exec /bin/date "$@"; fi\n')
    ran = world.try_run(*add("late"))
    right("late", ran)
    assert "warning: the clock of `late` is 5 min behind" in ran.stderr, ran.stderr


@check
def an_older_agent_is_replaced():
    old = fresh("old")
    folder = old.home / ".local/bin"
    old.program("vault-agent", "echo vault-agent 0.0.1\n", folder)
    ran = world.try_run(*add("old"))
    right("old", ran)
    assert "the programs are older" in ran.stderr, ran.stderr
    want((folder / "vault-agent").read_bytes() == (BIN / "vault-agent").read_bytes(), True)


@check
def changed_flags_on_the_same_line_are_taken():
    old = world.hosts["old"]
    words = [word.replace("echo ran", "echo other") for word in add("old")]
    ran = world.try_run(*words)
    right("old", ran)
    assert "keeps `" in ran.stderr and "as this line says now" in ran.stderr, ran.stderr
    assert "echo other" in (old.state / "agent.toml").read_text()
    ran = world.try_run(*words)
    assert "as this line says now" not in ran.stderr, ran.stderr


@check
def a_home_without_programs_is_named():
    before = f"mount -t tmpfs -o noexec tmpfs {world.dir}/closed/home"
    fresh("closed", before)
    fails(world.try_run(*add("closed")), "no program may run in", "noexec", "leave `--user` out")


@check
def another_architecture_names_the_package():
    arm = fresh("arm")
    arm.program("uname", 'case "$*" in -m) echo aarch64 ;; *) exec /bin/uname "$@" ;; esac\n')
    fails(world.try_run(*add("arm")), "`arm` is aarch64", "package for hosts for arm64")


@check
def another_architecture_gets_the_programs_that_a_package_has_brought():
    carried = fresh("carried")
    carried.program("uname", 'case "$*" in -m) echo aarch64 ;; *) exec /bin/uname "$@" ;; esac\n')
    folder = world.dir / "lib/vault-agent/aarch64"
    folder.mkdir(parents=True)
    for name in ("vault", "vault-agent"):
        shutil.copy(BIN / name, folder / name)
        (folder / name).chmod(0o644)
    right("carried", world.try_run(*add("carried")))


@check
def a_target_without_a_folder_is_named_before_anything_is_sent_or_signed():
    bare = world.host("bare")
    before = world.entries()
    fails(world.try_run(*add("bare")), "there is no folder `", "J-Jeco` on `bare` for the target")
    want((world.entries(), bare.state.exists(), (bare.home / ".local").exists()), (before, False, False))


@check
def a_target_of_another_users_home_is_waited_for_by_its_own_name():
    """As root by `sudo`, the shell's `~` is not root's: the file belongs to whose folder it is in."""
    whole = fresh("whole")
    folder = pathlib.Path("/srv/enrol-user")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["userdel", "enrol"], capture_output=True)
    subprocess.run(["useradd", "-m", "-d", folder, "enrol"], check=True)
    try:
        words = add("whole", "--secret", SECRET, target=False)
        ran = world.try_run(*words, "--target", str(folder / ".env"))
        want(ran.returncode, 0, ran.stdout + ran.stderr)
        assert f"whole is right: {folder}/.env v1, " in ran.stdout, ran.stdout
        assert "~/.env" in standing_of("whole"), standing_of("whole")
    finally:
        whole.stop()
        subprocess.run(["userdel", "-r", "enrol"], capture_output=True)


@check
def a_no_leaves_no_keys_behind():
    shy = fresh("shy")
    before = world.entries()
    code, said = world.typed(add("shy", yes=False), [("Sign this? [y/N]", "n")])
    want((code, world.entries()), (1, before), said)
    want(shy.state.exists(), False, said)
    assert "the keys that it made for this are gone again" in said, said
    fails(world.try_run(*add("shy", yes=False)), "there is no terminal to agree at")
    want(shy.state.exists(), False)
    right("shy", world.try_run(*add("shy")))


@check
def a_person_is_asked_what_becomes_of_a_file_that_would_lose_something():
    asked = fresh("asked")
    (asked.home / "J-Jeco/.env").write_text("MINE=yes\n")
    code, said = world.typed(add("asked"), [("Enter leaves it as it is.", "b")])
    want(code, 0, said)
    assert "MINE=yes" in env_of(asked) and "OPENAI_API_KEY=one" in env_of(asked), env_of(asked)


@check
def an_sshd_that_says_nothing_is_given_up():
    """As that of a host that hangs: the kernel alone takes connections."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with open(world.dir / "ssh_config", "a") as text:
            text.write(f"Host silent\n  HostName 127.0.0.1\n  Port {silent.getsockname()[1]}\n")
        fails(world.try_run(*add("silent")), "ssh did not get to `silent`", "nothing was signed")


@check
def a_disk_without_room_is_named():
    full = fresh("full")
    full.program("df", "echo x; echo tmpfs 100 99 1 99% /\n")
    fails(world.try_run(*add("full")), "`full` has room for 0 MiB where programs go")


@check
def a_program_that_does_not_arrive_whole_replaces_nothing():
    torn = fresh("torn")
    torn.program("sha256sum", "cat >/dev/null; echo 0000  -\n")
    fails(world.try_run(*add("torn")), "what arrived on `torn` is not what was sent")
    want(list((torn.home / ".local/bin").glob("vault*")), [])


@check
def a_host_that_answers_as_no_shell_does_is_refused():
    odd = fresh("odd")
    odd.program("uname", "printf 'x86_64\\nroot=own\\n\\033[2J'\n")
    ran = world.try_run(*add("odd"))
    fails(ran, "looking at `odd`: the host answers oddly")
    assert "\x1b" not in ran.stderr, ran.stderr


@check
def a_host_that_is_not_reached_is_named():
    with open(world.dir / "ssh_config", "a") as text:
        text.write("Host nowhere\n  HostName 127.0.0.1\n  Port 1\n")
    fails(world.try_run(*add("nowhere")), "ssh did not get to `nowhere`", "nothing was signed")
    fails(world.try_run(*add("x", "--ssh", "y")), "does not say which machine that is")


@check
def a_host_of_another_vault_stays_so():
    stray = fresh("stray")
    right("stray", world.try_run(*add("stray")))
    before = world.entries()
    words = ["vault", "machine", "add", "other", "--ssh", "stray", "--user", "--read", "*", "--yes"]
    fails(world.try_run(*words), "`stray` is the machine `stray` already", "vault machine add stray")
    want(world.entries(), before)


@check
def remove_takes_the_agent_away_and_leaves_the_file():
    box = world.hosts["box"]
    pid, before = box.agent_pid(), world.entries()
    words = ["vault", "machine", "remove", "vps", "--ssh", "box", "--uninstall", "--user", "--yes"]
    fails(world.try_run(*words), "`box` is `box` of vault", "nothing was signed")
    want((world.entries(), box.agent_pid()), (before, pid))
    fails(world.try_run(*[word.replace("box", "nowhere") for word in words]), "ssh did not get to `nowhere`")
    want(world.entries(), before)
    right_file = env_of(box)
    ran = world.run("vault", "machine", "remove", "box", "--ssh", "box", "--uninstall", "--user", "--yes")
    assert "the agent is gone from `box`" in ran.stderr, ran.stderr
    want((env_of(box), box.state.exists(), box.is_zombie(pid)), (right_file, False, True))
    want(list((box.home / ".local/bin").iterdir()), [])
    again = world.run("vault", "machine", "remove", "box", "--ssh", "box", "--uninstall", "--user", "--yes")
    assert "there is no agent on `box`" in again.stderr, again.stderr


def leave(name, *more):
    return world.run("vault", "machine", "remove", name, "--ssh", name, "--uninstall", "--yes", *more)


@check
def a_users_agent_is_found_without_being_named_as_one():
    ran = leave("asked")
    asked = world.hosts["asked"]
    assert "the agent is gone from `asked`" in ran.stderr, ran.stderr
    want((asked.state.exists(), list((asked.home / ".local/bin").iterdir())), (False, []))


@check
def a_host_whose_state_is_lost_is_uninstalled_all_the_same():
    for name, lost in (("shy", True), ("carried", False)):
        host = world.hosts[name]
        pid = host.agent_pid()
        if lost:
            shutil.rmtree(host.state)
            # What it writes until it is ended.
            host.state.mkdir(mode=0o700)
            (host.state / "agent.db").touch()
        else:
            (host.state / "pins.json").unlink()
        ran = leave(name, "--user")
        assert f"the agent is gone from `{name}`" in ran.stderr, ran.stderr
        want((host.state.exists(), host.is_zombie(pid)), (False, True), ran.stderr)
        want(list((host.home / ".local/bin").iterdir()), [])


@check
def what_is_left_without_its_program_goes_too():
    old = world.hosts["old"]
    old.stop()
    for name in ("vault", "vault-agent"):
        (old.home / ".local/bin" / name).unlink()
    leave("old", "--user")
    want((old.state.exists(), list((old.home / ".local/bin").iterdir())), (False, []))


def put(value):
    wait("the write", lambda: world.try_run("vault", "kv", "put", SECRET, f"OPENAI_API_KEY={value}").returncode == 0)


def rekey(name, *more):
    return world.try_run("vault", "machine", "rekey", name, *more, "--yes")


def has_new_keys(host, ran, before):
    """The host runs with other keys than `before`, and gets what is written now."""
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    assert f"{host.name} is right: it follows the vault, and its file is as it should be" in ran.stdout, ran.stdout + ran.stderr
    key = (host.state / "identity/sign.key").read_bytes()
    want(key == before, False, "the keys of before")
    want((host.state / "rekey").exists(), False, "the keys of before are left")
    put(f"for-{host.name}-{world.entries()}")
    newest = world.run("vault", "kv", "get", "-field=OPENAI_API_KEY", SECRET).stdout.strip()
    wait("the new value", lambda: newest in env_of(host))


@check
def a_host_gets_new_keys_at_both_ends_in_one_command():
    far = fresh("far2")
    right("far2", world.try_run(*add("far2")))
    key, pid, before = (far.state / "identity/sign.key").read_bytes(), far.agent_pid(), world.entries()
    wrong = rekey("nas", "--ssh", "far2")
    fails(wrong, "`far2` is the machine `far2`, and not `nas`", "nothing was signed")
    assert "sending" not in wrong.stderr, "its programs are where they are"
    bare = fresh("bare2")
    fails(rekey("far2", "--ssh", "bare2"), "`bare2` has no keys of this vault to replace", "--rekey")
    want((world.entries(), bare.state.exists(), (far.state / "rekey").exists()), (before, False, False))
    ran = rekey("far2", "--ssh", "far2")
    has_new_keys(far, ran, key)
    want(far.is_zombie(pid), True, "its agent runs anew")
    assert "give the machine `far2`" in ran.stderr and "other keys" in ran.stderr, ran.stderr
    want(controls(), set(), "connections left over")
    # A no signs nothing, and the same line takes the keys that were made for it.
    before = world.entries()
    code, said = world.typed(["vault", "machine", "rekey", "far2", "--ssh", "far2"], [("Sign this? [y/N]", "n")])
    want((code, world.entries()), (1, before), said)
    key = (far.state / "identity/sign.key").read_bytes()
    has_new_keys(far, rekey("far2", "--ssh", "far2"), key)


@check
def the_owners_own_host_gets_new_keys_in_one_command():
    own = world.dir / "owner-state"
    key = (own / "identity/sign.key").read_bytes()
    ran = rekey("rtx1080")
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    assert "rtx1080 is right: it follows the vault, and its file is as it should be" in ran.stdout, ran.stdout + ran.stderr
    want((own / "identity/sign.key").read_bytes() == key, False)
    put("by-the-new-keys")
    wait("the new value", lambda: "by-the-new-keys" in pathlib.Path(OWN).read_text())


def end_own_agent():
    noted = world.dir / "owner-state/agent.pid"
    pid = int(noted.read_text())
    os.kill(pid, signal.SIGKILL)
    wait("its end", lambda: world.hosts["far2"].is_zombie(pid))


def rekeys():
    return world.run("vault", "log").stdout.count(" new keys; it is machine ")


@check
def the_owners_own_host_gets_new_keys_where_no_agent_runs():
    own = world.dir / "owner-state"
    end_own_agent()
    key, before = (own / "identity/sign.key").read_bytes(), rekeys()
    ran = rekey("rtx1080")
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    assert "rtx1080 is right: it follows the vault, and its file is as it should be" in ran.stdout, ran.stdout + ran.stderr
    want(((own / "identity/sign.key").read_bytes() == key, rekeys()), (False, before + 1))
    # Ended between the signature and the start: the same line starts it, and signs nothing.
    end_own_agent()
    begun = rekey("rtx1080", "--no-start")
    want(begun.returncode, 0, begun.stdout + begun.stderr)
    key = (own / "identity/sign.key").read_bytes()
    ran = rekey("rtx1080")
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    want(((own / "identity/sign.key").read_bytes(), rekeys()), (key, before + 2))
    put("by-the-newest-keys")
    wait("the new value", lambda: "by-the-newest-keys" in pathlib.Path(OWN).read_text())


@check
def a_host_that_only_says_that_it_has_new_keys_is_not_believed():
    far = world.hosts["far2"]
    agent = far.home / ".local/bin/vault-agent"
    key, before = (far.state / "identity/sign.key").read_bytes(), rekeys()
    # It has made next keys, and says that they have taken over.
    code, said = world.typed(["vault", "machine", "rekey", "far2", "--ssh", "far2"], [("Sign this? [y/N]", "n")])
    want(code, 1, said)
    assert "its ssh host key says, and nothing else" in said, said
    real = agent.parent / "real/vault-agent"
    real.parent.mkdir()
    agent.rename(real)
    far.program("vault-agent", f'[ "$1" != join ] || exit 0\nexec {real} "$@"\n', agent.parent)
    lied = rekey("far2", "--ssh", "far2")
    want((lied.returncode != 0, rekeys()), (True, before + 1), lied.stdout + lied.stderr)
    assert "is right" not in lied.stdout, lied.stdout
    real.replace(agent)
    real.parent.rmdir()
    ran = rekey("far2", "--ssh", "far2")
    assert "has these keys already" in ran.stderr, ran.stderr
    has_new_keys(far, ran, key)
    want(rekeys(), before + 1)


@check
def an_agent_that_was_begun_by_hand_is_taken_away_too():
    far = world.hosts["far2"]
    far.stop()
    (far.state / "agent.pid").unlink()
    env = {"HOME": str(far.home), "VAULT_STATE_DIR": str(far.state), "PATH": f"{far.home}/.local/bin:/usr/bin:/bin"}
    by_hand = subprocess.Popen(["vault-agent", "run"], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait("the agent", lambda: (far.state / "agent.sock").exists())
    ran = world.run("vault", "machine", "remove", "far2", "--ssh", "far2", "--uninstall", "--yes")
    assert "the agent is gone from `far2`" in ran.stderr, ran.stderr
    want((by_hand.wait(PATIENCE), far.state.exists()), (0, False))


@check
def remove_with_targets_takes_the_file_too():
    late = world.hosts["late"]
    words = ["vault", "machine", "remove", "late", "--ssh", "late", "--uninstall", "--with-targets", "--user", "--yes"]
    world.run(*words)
    want(((late.home / "J-Jeco/.env").exists(), late.state.exists()), (False, False))


# The steps of an ordinary way, counted: each is cut, and killed, once.
put("one")
count = fresh("count")
(world.dir / "steps").unlink(missing_ok=True)
ran = world.try_run(*add("count"))
want(ran.returncode, 0, ran.stdout + ran.stderr)
STEPS = world.steps()
(world.dir / "steps").unlink()
has_new_keys(count, rekey("count", "--ssh", "count"), b"")
REKEY_STEPS = world.steps()


def cells(steps, what):
    """The moments to be tried: all of them, or two by the seed."""
    all_of_them = [(step, kind) for step in range(1, steps + 1) for kind in ("cut", "kill")]
    seed = os.environ.get("MATRIX_SEED")
    if not seed or os.environ.get("MATRIX") == "full":
        return all_of_them
    print(f"MATRIX_SEED={seed}: of {len(all_of_them)} cuts and kills of {what} two are tried")
    return random.Random(seed + what).sample(all_of_them, 2)


def rekey_goes_on(step, kind):
    key = (count.state / "identity/sign.key").read_bytes()
    (world.dir / "steps").unlink(missing_ok=True)
    (world.dir / "fault").write_text(f"{step} {kind}\n")
    ran = rekey("count", "--ssh", "count")
    assert ran.returncode != 0, ran.stdout + ran.stderr
    if kind == "cut":
        assert "run the same command again" in ran.stderr, ran.stderr
    has_new_keys(count, rekey("count", "--ssh", "count"), key)


def goes_on(step, kind):
    name = f"m{step}{kind}"
    host = fresh(name)
    (world.dir / "steps").unlink(missing_ok=True)
    (world.dir / "fault").write_text(f"{step} {kind}\n")
    ran = world.try_run(*add(name))
    assert ran.returncode != 0, ran.stdout + ran.stderr
    if kind == "cut":
        assert "run the same command again" in ran.stderr, ran.stderr
    ran = world.try_run(*add(name))
    want(ran.returncode, 0, ran.stdout + ran.stderr)
    assert f"{name} is right: ~/J-Jeco/.env v" in ran.stdout, ran.stdout + ran.stderr
    assert "OPENAI_API_KEY=" in env_of(host)
    want(list((host.home / ".local/bin").glob(".vault*")), [], "left over")
    host.end()


for step, kind in cells(STEPS, "machine add"):
    attempt(f"after a {kind} at step {step} of {STEPS} the same line ends well", lambda: goes_on(step, kind))
for step, kind in cells(REKEY_STEPS, "machine rekey"):
    attempt(
        f"after a {kind} at step {step} of {REKEY_STEPS} of new keys the same line ends well", lambda: rekey_goes_on(step, kind)
    )
end()
