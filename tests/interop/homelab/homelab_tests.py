"""Three commands to three hosts, and what may happen on the way."""

import re
import sys
import time

import checks
from book import keeps, transcript
from checks import check, end, want
from host import wait
from network import LAN, PUBLIC, VPN, Homelab
from people import KEY_WORDS, PASSWORD, Watch, move_in
from terminal import Unseen, type_at

lab = Homelab(sys.argv[1])
rtx1080, vps, thinkpad = (lab.hosts[name] for name in ("rtx1080", "vps", "thinkpad"))
jonas = move_in(lab)
SECRET = "secret/jjeco/api-keys"
MASTER = "OPENAI_API_KEY=first-of-the-master-file\n" + "".join(
    f"KEY_{n}=value-{n}-of-the-master-file\n" for n in range(26)
)
PASSPHRASE = "correct horse battery staple"
TARGET = "/home/jonas/J-Jeco/.env"
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
rtx1080.write("/home/jonas/new-key.txt", "changed\n", mode="600")
rtx1080.run("chown", "jonas:", "/home/jonas/.env.master", "/home/jonas/new-key.txt")
for name in lab.hosts:
    jonas(name, "mkdir J-Jeco")
vps.write("/usr/local/bin/docker", "#!/bin/sh\necho \"$@\" >>docker.log\n", mode="755")
BOOK = transcript("quickstart.md")
COMMANDS = [command for _, command, _ in BOOK[:3]]


def kit_end(prefix):
    """Returns how to find the end of a secret line on the page that is shown: groups in rows, each with its check."""

    def find(screen):
        rows = screen.rpartition(prefix)[2].split("\n#\n")[0]
        groups = re.sub(r"^#\s+\d+|\(..\)", "", rows, flags=re.M).split()
        return "".join(groups)[-6:]

    return find


ANSWERS = [
    ("Enter goes on; anything else ends it here.", ""),
    ("New passphrase for admin `admin`:", Unseen(PASSPHRASE)),
    ("The same once more:", Unseen(PASSPHRASE)),
    ("characters of the line VAULT-ROOT-SECRET-1… (in rows: or the whole last row)", kit_end("VAULT-ROOT-SECRET-1\n")),
    ("characters of the line AGE-SECRET-KEY-1… (in rows: or the whole last row)", kit_end("AGE-SECRET-KEY-1\n")),
    ("Sign this? [y/N]", "y"),
    ("Passphrase of admin `admin`:", Unseen(PASSPHRASE)),
    ("[sudo] password of jonas on thinkpad:", Unseen(PASSWORD)),
]


def type_(line):
    """Types a command at a terminal, and says how long it took."""
    started = time.monotonic()
    code, screen = type_at(jonas.command("rtx1080", line), ANSWERS)
    seconds = time.monotonic() - started
    print(f"# {seconds:5.1f} s  {line.split(' --')[0]}", flush=True)
    assert code == 0, f"{line}: {code}\n{screen}"
    return seconds, screen


@check
def three_commands_bring_three_hosts_in_sync():
    with watch:
        took, screens = zip(*map(type_, COMMANDS))
    print(f"# {sum(took):5.1f} s for the three")
    for host in (rtx1080, vps, thinkpad):
        assert set(MASTER.split()) <= set(file(host).split()), host.name
    for screen, line in zip(screens, (r"rtx1080 is right: ", r"vps is right: ~/J-Jeco/\.env v1, hook ok, [0-9.]+ s", r"thinkpad is right: ~/J-Jeco/\.env v1, [0-9.]+ s")):
        assert re.search(line, screen), screen
    in_sync()


if checks.failed:
    end()


@check
def the_rest_of_the_quickstart_is_as_the_book_says():
    for host, command, promised in BOOK[3:]:
        wait(command, lambda: keeps(promised, jonas(host, command)))
    want(transcript("de/schnellstart.md"), BOOK, "in German")


@check
def no_private_byte_stands_in_arguments_environments_units_journals_or_histories():
    want(watch.seen, set(), "arguments and environments")
    places = "/etc/systemd /home/jonas/.config/systemd /home/jonas/.bash_history /root/.bash_history /tmp /var/tmp"
    for host in (rtx1080, vps, thinkpad):
        journal = host.run("journalctl", "--no-pager", "-q")
        files = host.try_run("sh", "-c", f"find {places} -type f -exec cat {{}} +").stdout
        want([word for word in watch.words if word in journal + files], [], host.name)


@check
def the_same_commands_again_change_nothing():
    before = jonas("rtx1080", "vault log | wc -l")
    for line in COMMANDS:
        type_(line)
    want(jonas("rtx1080", "vault log | wc -l"), before, "entries")
    in_sync()


@check
def a_change_reaches_all_and_runs_the_hook():
    for host in (rtx1080, vps, thinkpad):
        wait(f"the change on {host.name}", lambda host=host: "OPENAI_API_KEY=changed\n" in file(host))
    wait("the hook", lambda: vps.run("cat", "/home/jonas/J-Jeco/docker.log").count("compose up -d") >= 2)


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
        want(jonas.until(host.name, f"vault kv get -field=KEY_3 {SECRET}"), "by-lan")
    lab.on("rtx1080")
    jonas.until("rtx1080", f"vault kv patch {SECRET} KEY_4=after-the-cut")
    for host in (rtx1080, vps, thinkpad):
        wait(f"the change on {host.name}", lambda host=host: "KEY_4=after-the-cut\n" in file(host))
    in_sync()


@check
def a_host_goes_with_everything_that_came_and_keeps_its_file():
    for name in ("vps", "thinkpad"):
        lab.hosts[name].run("systemctl", "start", "ssh")
    type_("vault machine remove vps --ssh vps --uninstall --reason retired")
    assert "KEY_4=after-the-cut\n" in file(vps)
    left = vps.run("find", "/home/jonas", "/usr/local/bin", "-name", "*vault*", "-not", "-name", "*before-vault*")
    want(left.split(), [], "left behind")
    want(vps.try_run("pgrep", "vault-agent").stdout, "")
    in_sync()


end()
