"""Three commands to three hosts, and what may happen on the way."""

import sys
import time

from checks import attempt, check, end, want
from host import wait
from network import LAN, PUBLIC, VPN, Homelab
from people import move_in

lab = Homelab(sys.argv[1])
rtx1080, vps, thinkpad = (lab.hosts[name] for name in ("rtx1080", "vps", "thinkpad"))
# On the public host sudo asks for nothing; on the laptop it asks for the password, on a terminal.
jonas = move_in(lab)
SECRET = "secret/jjeco/api-keys"
MASTER = "".join(f"KEY_{n}=value-{n}-of-the-master-file\n" for n in range(27))
TARGET = "/home/jonas/J-Jeco/.env"


def reaches(host, address):
    probe = f"exec 3<>/dev/tcp/{address}/22"
    return host.try_run("timeout", "2", "bash", "-c", probe).returncode == 0


@check
def the_hosts_reach_each_other_by_lan_and_vpn():
    assert reaches(thinkpad, LAN["rtx1080"]) and reaches(rtx1080, PUBLIC)
    for host in (vps, thinkpad):
        wait("the VPN", lambda host=host: reaches(host, VPN["rtx1080"]))
    assert not reaches(vps, LAN["rtx1080"]), "the LAN is private"
    want(jonas("rtx1080", "ssh vps hostname; ssh thinkpad hostname"), "vps\nthinkpad\n")


end()
