"""Clusters of Debian's PostgreSQL, made for a check, with standbys, accidents and all."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import urllib.parse

from host import wait

PROGRAMS = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
# Tests make a database each, with a few servers.
PLACES = 300


class Cluster:
    """A cluster of its own behind a unix socket, of a user who may run one: root may not."""

    def __init__(self, of=None, through=None, more="", log=None):
        """Makes it anew, or as a standby `of` another one, reached `through` a proxy; with `more` settings, and its
        write-ahead log in the folder `log`."""
        self.more = more
        self.dir = pathlib.Path(tempfile.mkdtemp())
        self.dir.chmod(0o755)
        self.user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        self.own(self.dir)
        self.make(of, through, log)

    def make(self, of=None, through=None, log=None):
        if of:
            place = ["-h", "127.0.0.1", "-p", str(through.port)] if through else ["-h", of.dir]
            self.do("pg_basebackup", *place, "-U", "postgres", "-D", self.data, "-R", "--no-sync", "-c", "fast")
        else:
            apart = [f"--waldir={log}", "--wal-segsize=1"] if log else []
            self.do("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", *apart)
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def data(self):
        return self.dir / "data"

    @property
    def socket(self):
        return self.dir / ".s.PGSQL.5432"

    def do(self, program, *args):
        ran = subprocess.run(
            [*self.user, PROGRAMS / program, *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
            cwd=self.dir,
        )
        assert ran.returncode == 0, f"{program}: {ran.stdout}"
        return ran.stdout

    def start(self):
        options = f"-k {self.dir} -c listen_addresses= -c max_connections={PLACES} {self.more}"
        log = self.dir / "log"
        # What it starts keeps no pipe of ours.
        started = subprocess.run(
            [*self.user, PROGRAMS / "pg_ctl", "-D", self.data, "-o", options, "-l", log, "-w", "start"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, cwd=self.dir,
        )
        assert started.returncode == 0, log.read_text()[-2000:]

    def kill(self):
        """Ends it as a crash does: nothing is written any more."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                os.kill(int(child), signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.kill(pid, signal.SIGKILL)
        wait("the database is gone", lambda: not pathlib.Path(f"/proc/{pid}").exists())
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def promote(self):
        self.do("pg_ctl", "-D", self.data, "-w", "promote")

    def follow(self, other, through=None):
        """Makes it anew, from now on as a standby of another one."""
        shutil.rmtree(self.data)
        self.make(other, through)

    def wait_for_standby(self):
        """From now on each commit waits for a standby; one is there."""
        self.ask("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.ask("postgres", "SELECT pg_reload_conf()")
        state = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"
        wait("the standby follows", lambda: self.ask("postgres", state) == "1")

    def stop(self):
        if (self.data / "postmaster.pid").exists():
            self.do("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.dir)

    def ask(self, name, sql):
        """Returns what statements yield in a database."""
        return self.do("psql", "-h", self.dir, "-U", "postgres", "-d", name, "-XAtqc", sql).strip()

    def own(self, folder):
        """Gives a folder to the user who runs clusters."""
        if self.user:
            os.chown(folder, 65534, 65534)

    def new(self, name):
        """Makes a database; returns its URL."""
        self.do("createdb", "-h", self.dir, "-U", "postgres", name)
        return self.url(name)

    def url(self, name):
        return f"postgres://postgres@/{name}?host={self.dir}"


def either(name, *clusters):
    """Returns the URL of a database that is on whichever of the clusters takes writes."""
    hosts = ",".join(urllib.parse.quote(str(one.dir), safe="") for one in clusters)
    return f"postgres://postgres@{hosts}/{name}"
