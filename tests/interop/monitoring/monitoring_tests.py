"""Forwarding and figures, read by others: promtool, rsyslog, a webhook that verifies what it gets, a mail program."""

import email
import email.policy
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time

from checks import attempt, check, end, want

BIN = pathlib.Path(os.environ["BIN"])
STATE = pathlib.Path(os.environ["VAULT_STATE_DIR"])
DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs/src/monitoring"
CONFIG = STATE / "agent.toml"
KEY = b"a key of this suite"
scratch = tempfile.TemporaryDirectory()
home = pathlib.Path(scratch.name)
taken = []


class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        taken.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=server.serve_forever, daemon=True).start()
PORT = server.server_address[1]


def free():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def wait(what, probe, patience=60):
    """Asks again and again until there is an answer."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        found = probe()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen in {patience} s")


def ran(program, *args, **more):
    return subprocess.run([BIN / program, *map(str, args)], capture_output=True, text=True, **more)


def private(name, content):
    file = home / name
    file.touch(0o600)
    file.write_bytes(content)
    return file


syslog = free()
(home / "rsyslog.conf").write_text(f"""
module(load="imtcp") module(load="imudp")
input(type="imtcp" port="{syslog}" address="127.0.0.1") input(type="imudp" port="{syslog}" address="127.0.0.1")
template(name="parts" type="string" string="%syslogseverity-text%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n")
action(type="omfile" file="{home}/syslog" template="parts")
""")
rsyslog = subprocess.Popen(["rsyslogd", "-n", "-f", home / "rsyslog.conf", "-i", home / "rsyslog.pid"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
sendmail = home / "sendmail"
sendmail.write_text(f"#!/bin/sh\ncat > {home}/mail.new && mv {home}/mail.new {home}/mail\n")
sendmail.chmod(0o755)

before = CONFIG.read_text() if CONFIG.exists() else None
tables = f"""
[[forward]]
name = "signed"
to = "webhook"
url = "http://127.0.0.1:{PORT}/signed"
hmac_file = "{private('key', KEY)}"
begins_after = "0s"
ends_after = "0s"

[[forward]]
name = "ntfy"
to = "webhook"
format = "ntfy"
url = "http://127.0.0.1:{PORT}/topic"

[[forward]]
name = "tcp"
what = ["alarms", "audit"]
only = {{ path = "secret/monitored" }}
to = "syslog"
address = "tcp://127.0.0.1:{syslog}"

[[forward]]
name = "udp"
to = "syslog"
address = "udp://127.0.0.1:{syslog}"

[[forward]]
name = "mail"
to = "mail"
mail_to = ["root"]
sendmail = "{sendmail}"
"""
CONFIG.touch(0o600)
CONFIG.write_text((before or "") + tables)


@check
def a_test_reaches_every_sink():
    wait("rsyslog listens", lambda: socket.socket().connect_ex(("127.0.0.1", syslog)) == 0)
    told = wait("all are told", lambda: (it := ran("vault-agent", "forward", "test")).returncode == 0
                and it.stderr.count(": sent") == 5 and it)
    assert "signed (webhook): sent" in told.stderr, told.stderr
    listed = ran("vault-agent", "forward", "list")
    want(listed.returncode, 0, listed.stderr)


@check
def a_webhook_verifies_the_signature_as_githubs():
    _, headers, body = next(it for it in taken if it[0] == "/signed")
    headers = {name.lower(): value for name, value in headers.items()}
    expected = "sha256=" + hmac.new(KEY, body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(headers["x-hub-signature-256"], expected), headers
    want(json.loads(body)["event"], "test")


@check
def ntfy_gets_title_priority_and_text():
    _, headers, body = next(it for it in taken if it[0] == "/topic")
    headers = {name.lower(): value for name, value in headers.items()}
    assert "test from" in headers["title"] and headers["priority"] == "default", headers
    assert body.startswith(b"this is a test"), body


@check
def rsyslog_reads_the_parts_of_a_line():
    lines = wait("two lines", lambda: (home / "syslog").exists()
                 and (it := (home / "syslog").read_text().splitlines()) and len(it) >= 2 and it)
    for line in lines[:2]:
        severity, host, app, kind, data, text = line.split("|", 5)
        want((severity, app, kind), ("notice", "vault-agent", "test"), line)
        assert data.startswith("[vault@32473 id=") and "this is a test" in text and host, line


@check
def a_mail_is_read_by_others():
    text = wait("the mail", lambda: (home / "mail").exists() and (home / "mail").read_bytes())
    mail = email.message_from_bytes(text, policy=email.policy.default)
    want(mail["To"], "root")
    assert "test from" in mail["Subject"] and "this is a test" in mail.get_content(), text


@check
def an_alarm_and_a_record_come_by_themselves():
    env = home / "monitored.env"
    added = ran("vault-agent", "target", "add", env, "secret/monitored")
    want(added.returncode, 0, added.stderr)

    def alarms():
        bodies = [json.loads(body) for path, _, body in taken if path == "/signed"]
        return [it["state"] for it in bodies if it["event"] == "alarm" and it["secret"] == "secret/monitored"]

    wait("the begin", lambda: alarms() == ["begins"])
    put = ran("vault", "kv", "put", "secret/monitored", "A=1")
    want(put.returncode, 0, put.stderr)
    wait("the end", lambda: alarms() == ["begins", "ends"])
    removed = ran("vault-agent", "target", "remove", env, "--purge")
    want(removed.returncode, 0, removed.stderr)
    record = wait("the record of the put", lambda: next(
        (it for it in (home / "syslog").read_text().splitlines() if "|audit|" in it and '"op":"put"' in it), None))
    want(json.loads(record.split("|", 5)[5].strip())["path"], "secret/monitored")


def promtool(*args, text=None):
    told = subprocess.run(["promtool", *map(str, args)], input=text, capture_output=True, text=True, cwd=DOCS)
    want(told.returncode, 0, told.stdout + told.stderr)


def scraped(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as it:
        it.sendall(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        whole = b"".join(iter(lambda: it.recv(65536), b"")).decode()
    head, _, body = whole.partition("\r\n\r\n")
    assert " 200 " in head.splitlines()[0], head
    return body


@check
def promtool_takes_the_figures_of_the_agent():
    got = ran("vault", "read", "-format=json", "sys/health")
    assert got.returncode == 0, got.stderr
    api = next(path for path in STATE.iterdir() if path.is_socket() and "cred" not in path.name)
    text = subprocess.run(["curl", "-sf", "--unix-socket", api, "http://localhost/v1/sys/metrics?format=prometheus"],
                          capture_output=True, text=True, check=True).stdout
    assert "vault_agent_forward_sent_total" in text, text
    promtool("check", "metrics", text=text)


@check
def promtool_takes_the_figures_of_the_server():
    data, listen, port = home / "server", free(), free()
    want(ran("vault-server", "init", "--data", data, "--listen", f"127.0.0.1:{listen}").returncode, 0)
    run = subprocess.Popen([BIN / "vault-server", "run", "--data", data, "--metrics-listen", f"127.0.0.1:{port}"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait("it listens", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        promtool("check", "metrics", text=scraped(port))
    finally:
        run.terminate()
        run.wait()


attempt("promtool takes the rules", lambda: promtool("check", "rules", "alerts.yml"))
attempt("the rules do what they say", lambda: promtool("test", "rules", "alerts_test.yml"))

if before is None:
    CONFIG.unlink()
else:
    CONFIG.write_text(before)
rsyslog.terminate()
rsyslog.wait()
end()
