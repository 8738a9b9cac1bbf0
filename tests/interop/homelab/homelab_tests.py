"""Three commands to three hosts, and what may happen on the way."""

import pathlib
import re
import sys
import time

from checks import check, end, want
from host import wait
from network import LAN, PUBLIC, VPN, Homelab, ip
from people import KEY_WORDS, PASSWORD, Watch, move_in

lab = Homelab(sys.argv[1])
rtx1080, vps, thinkpad = (lab.hosts[name] for name in ("rtx1080", "vps", "thinkpad"))
jonas = move_in(lab)
SECRET = "secret/jjeco/api-keys"
MASTER = "".join(f"KEY_{n}=value-{n}-of-the-master-file\n" for n in range(27))
PASSPHRASE = "correct horse battery staple"
TARGET = "/home/jonas/J-Jeco/.env"
UNIT = "systemctl --user"
# What nobody but the files that are for it may show.
watch = Watch([*KEY_WORDS, PASSPHRASE, PASSWORD, "of-the-master-file"])


def reaches(host, address):
    probe = f"exec 3<>/dev/tcp/{address}/22"
    return host.try_run("timeout", "2", "bash", "-c", probe).returncode == 0


def file(host):
    return host.try_run("cat", TARGET).stdout


def in_sync():
    jonas.until("rtx1080", "vault status")


@check
def the_hosts_reach_each_other_by_lan_and_vpn():
    assert reaches(thinkpad, LAN["rtx1080"]) and reaches(rtx1080, PUBLIC)
    for host in (vps, thinkpad):
        wait("the VPN", lambda host=host: reaches(host, VPN["rtx1080"]))
    assert not reaches(vps, LAN["rtx1080"]), "the LAN is private"
    want(jonas("rtx1080", "ssh vps hostname; ssh thinkpad hostname"), "vps\nthinkpad\n")


rtx1080.write("/home/jonas/.env.master", MASTER, mode="600")
rtx1080.write("/home/jonas/pass", PASSPHRASE + "\n", mode="600")
rtx1080.run("chown", "jonas:", "/home/jonas/.env.master", "/home/jonas/pass")
YES = "--yes --passphrase-file ~/pass"
SETUP = f"vault setup {YES} --kit ~/kit.txt --kit-confirmed --import ~/.env.master {SECRET} --target ~/J-Jeco/.env"
VPS = f"vault machine add vps --ssh vps --user --read secret/jjeco/ --target ~/J-Jeco/.env --on-change 'echo ran >>ran' {YES}"
LAPTOP = f"vault machine add thinkpad --ssh thinkpad --user --read '*' --write secret/jjeco/ --target ~/J-Jeco/.env --sleeps {YES}"
typed = {}


def type_(line):
    """Types one of the three commands, and notes what it said and how long it took."""
    started = time.monotonic()
    typed[line] = jonas.attempt("rtx1080", line)
    seconds = time.monotonic() - started
    ran = typed[line]
    print(f"# {seconds:5.1f} s  {line.split(' --')[0]}", flush=True)
    assert ran.returncode == 0, f"{ran.returncode}\n{ran.stdout}{ran.stderr}"
    return seconds, ran.stdout + ran.stderr


@check
def three_commands_bring_three_hosts_in_sync():
    with watch:
        took = [type_(line)[0] for line in (SETUP, VPS, LAPTOP)]
    print(f"# {sum(took):5.1f} s for the three")
    for host in (rtx1080, vps, thinkpad):
        assert MASTER in file(host), host.name
    in_sync()


@check
def the_second_and_third_command_end_with_the_host_being_right():
    assert re.search(r"vps is right: ~/J-Jeco/\.env v1, hook ok, [0-9.]+ s", typed[VPS].stderr), typed[VPS].stderr
    assert re.search(r"thinkpad is right: ~/J-Jeco/\.env v1, [0-9.]+ s", typed[LAPTOP].stderr), typed[LAPTOP].stderr


@check
def no_private_byte_stands_in_arguments_environments_units_journals_or_histories():
    want(watch.seen, set(), "arguments and environments")
    for host in (rtx1080, vps, thinkpad):
        journal = host.run("journalctl", "--no-pager", "-q")
        units = host.run("sh", "-c", "cat /home/jonas/.config/systemd/user/*.service 2>/dev/null || true")
        history = host.run("sh", "-c", "cat /home/jonas/.bash_history 2>/dev/null || true")
        for text in (journal, units, history):
            found = [word for word in watch.words if word in text]
            want(found, [], host.name)


@check
def the_same_commands_again_change_nothing():
    before = jonas("rtx1080", "vault log | wc -l")
    for line in (SETUP, VPS, LAPTOP):
        type_(line)
    want(jonas("rtx1080", "vault log | wc -l"), before, "entries")
    in_sync()


@check
def a_change_reaches_all_and_runs_the_hook():
    jonas("rtx1080", f"vault kv patch {SECRET} KEY_1=-", stdin="changed\n")
    for host in (rtx1080, vps, thinkpad):
        wait(f"the change on {host.name}", lambda host=host: "KEY_1=changed\n" in file(host))
    in_sync()
    assert "ran" in vps.run("cat", "/home/jonas/J-Jeco/ran")


@check
def the_laptop_writes_and_the_public_host_may_not():
    jonas("thinkpad", f"vault kv patch {SECRET} KEY_2=from-the-laptop")
    wait("the change on vps", lambda: "KEY_2=from-the-laptop\n" in file(vps))
    ran = jonas.attempt("vps", f"vault kv patch {SECRET} KEY_2=x")
    assert ran.returncode != 0 and "vault access set vps" in ran.stderr, ran.stderr


@check
def a_laptop_that_leaves_the_lan_goes_on_by_vpn_and_comes_back():
    lab.away("thinkpad")
    jonas("rtx1080", f"vault kv patch {SECRET} KEY_3=by-vpn")
    wait("the change by VPN", lambda: "KEY_3=by-vpn\n" in file(thinkpad))
    lab.home("thinkpad")
    server = f"{LAN['rtx1080']}:"
    wait("the LAN", lambda: server in thinkpad.run("ss", "-Htn", "state", "established"))
    jonas("rtx1080", f"vault kv patch {SECRET} KEY_3=by-lan")
    wait("the change by LAN", lambda: "KEY_3=by-lan\n" in file(thinkpad))


@check
def after_a_power_cut_everything_is_there_with_no_human():
    for host in (rtx1080, vps, thinkpad):
        host.cut()
    for name in ("vps", "thinkpad"):
        lab.on(name)
    # Readers need no server.
    for host in (vps, thinkpad):
        wait("the agent", lambda host=host: "KEY_3=by-lan\n" in file(host))
        want(jonas.until(host.name, f"vault kv get -field=KEY_3 {SECRET}"), "by-lan\n")
    lab.on("rtx1080")
    jonas.until("rtx1080", f"vault kv patch {SECRET} KEY_4=after-the-cut")
    for host in (rtx1080, vps, thinkpad):
        wait(f"the change on {host.name}", lambda host=host: "KEY_4=after-the-cut\n" in file(host))
    in_sync()


@check
def a_host_goes_with_everything_that_came_and_keeps_its_file():
    for name in ("vps", "thinkpad"):
        lab.hosts[name].run("systemctl", "start", "ssh")
    jonas("rtx1080", f"vault machine remove vps --ssh vps --uninstall --reason retired {YES}")
    assert "KEY_4=after-the-cut\n" in file(vps)
    left = vps.run("find", "/home/jonas", "/usr/local/bin", "-name", "*vault*", "-not", "-name", "*before-vault*")
    want(left.split(), [], "left behind")
    want(vps.try_run("pgrep", "vault-agent").stdout, "")
    in_sync()


end()
