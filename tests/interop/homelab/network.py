"""The homelab: a public host, a home behind NAT with a server and a laptop, and a VPN whose hub is the public host."""

import os
import pathlib
import subprocess

from host import Host, wait

VPN = {"vps": "10.8.0.1", "thinkpad": "10.8.0.2", "rtx1080": "10.8.0.3"}
LAN = {"thinkpad": "192.168.17.2", "rtx1080": "192.168.17.1"}
ROUTER = "192.168.17.254"
PUBLIC = "203.0.113.10"
NAT = """
table ip nat {
  chain post { type nat hook postrouting priority 100; oifname "wan0" masquerade; }
}
table ip filter {
  chain forward { type filter hook forward priority 0; policy drop; iifname "lan" accept; ct state established,related accept; }
}
"""


def inside(pid, *command, stdin=""):
    """Runs a program of this machine in the network of a process."""
    enter = ["nsenter", "--target", str(pid), "--net", "--", *command]
    ran = subprocess.run(enter, input=stdin, capture_output=True, text=True)
    assert ran.returncode == 0, f"{command}: {ran.stderr}"
    return ran.stdout


def ip(pid, line):
    inside(pid, "ip", *line.split())


def empty():
    """Returns a network without anything in it."""
    holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
    own = os.readlink("/proc/self/ns/net")
    wait("a network", lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own)
    ip(holder.pid, "link set lo up")
    return holder.pid


class Homelab:
    """Three hosts that are on."""

    def __init__(self, disk):
        disk = pathlib.Path(disk)
        self.internet, self.router = empty(), empty()
        for pid, bridge in ((self.internet, "net"), (self.router, "lan")):
            ip(pid, f"link add {bridge} type bridge")
            ip(pid, f"link set {bridge} up")
        self.plug(self.internet, "net", "home", self.router, "wan0", "203.0.113.1")
        ip(self.router, f"addr add {ROUTER}/24 dev lan")
        inside(self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        inside(self.router, "nft", "-f", "-", stdin=NAT)
        self.hosts = {name: Host(disk / name, name, programs=name == "rtx1080") for name in VPN}
        for host in self.hosts.values():
            host.disk.mkdir()
        self.keys = {name: self.key() for name in VPN}
        for name, host in self.hosts.items():
            self.on(name)
            host.write("/etc/wireguard/wg0.conf", self.tunnel(name))
            host.run("systemctl", "enable", "--now", "wg-quick@wg0")

    @staticmethod
    def plug(pid, bridge, port, other, device, address):
        """Lays a cable from a switch to a network card."""
        # The cable of a host that lost its power may still hang there.
        subprocess.run(["nsenter", "--target", str(pid), "--net", "--", "ip", "link", "del", port], capture_output=True)
        ip(pid, f"link add {port} type veth peer name {device} netns {other}")
        ip(pid, f"link set {port} master {bridge} up")
        ip(other, f"addr add {address}/24 dev {device}")
        ip(other, f"link set {device} up")

    def on(self, name):
        """Switches a host on, at home or at its provider."""
        host = self.hosts[name]
        host.on()
        ip(host.first, "link set lo up")
        if name in LAN:
            self.to_lan(name)
        else:
            self.plug(self.internet, "net", f"to-{name}", host.first, "inet0", PUBLIC)
            inside(host.first, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def to_lan(self, name):
        self.plug(self.router, "lan", name, self.hosts[name].first, "lan0", LAN[name])
        ip(self.hosts[name].first, f"route add default via {ROUTER}")

    def away(self, name):
        """Takes a host from the LAN to a network elsewhere: the VPN still leads home."""
        first = self.hosts[name].first
        ip(first, "link del lan0")
        self.plug(self.internet, "net", f"to-{name}", first, "mob0", "203.0.113.77")

    def home(self, name):
        ip(self.hosts[name].first, "link del mob0")
        self.to_lan(name)

    @staticmethod
    def key():
        """Makes a pair of keys for the VPN: private, public."""
        private = subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout
        public = subprocess.run(["wg", "pubkey"], check=True, capture_output=True, text=True, input=private).stdout
        return private.strip(), public.strip()

    def tunnel(self, name):
        lines = ["[Interface]", f"PrivateKey = {self.keys[name][0]}", f"Address = {VPN[name]}/24"]
        if name == "vps":
            lines.append("ListenPort = 51820")
            for peer in VPN.keys() - {"vps"}:
                lines += ["[Peer]", f"PublicKey = {self.keys[peer][1]}", f"AllowedIPs = {VPN[peer]}/32"]
        else:
            lines += ["[Peer]", f"PublicKey = {self.keys['vps'][1]}", "AllowedIPs = 10.8.0.0/24"]
            lines += [f"Endpoint = {PUBLIC}:51820", "PersistentKeepalive = 5"]
        return "\n".join(lines) + "\n"
