"""Docker Compose itself, against an engine that remembers containers, with `vault` as the provider of a service."""

import json
import os
import subprocess
import sys
import tempfile

from checks import check, end, want
from engine import Engine

COMPOSE, BIN = sys.argv[1], os.environ["BIN"]
RUN = f"secret/compose-{os.getpid()}"
HOME = tempfile.TemporaryDirectory()
NASTY = "it's \"quoted\" $HOME ${HOME} `id` $(id) \\n \\ #no\nsecond line\r\n\ttab ünïcode \u2028 ="


def put(name, **data):
    command = [f"{BIN}/vault", "kv", "put", f"{RUN}/{name}", "-"]
    subprocess.run(command, input=json.dumps(data), text=True, check=True, capture_output=True)


class Project:
    """A folder with a compose.yaml of one provider and one service that depends on it."""

    def __init__(self, options, environment=None):
        self.folder = tempfile.TemporaryDirectory(dir=HOME.name)
        socket = f"{self.folder.name}/engine.sock"
        self.engine = Engine(socket)
        self.docker = f"{self.folder.name}/docker"
        app = {"image": "app:1", "environment": environment or {}, "depends_on": ["secrets"]}
        provider = {"provider": {"type": "vault", "options": options}}
        with open(f"{self.folder.name}/compose.yaml", "w") as out:
            # JSON is YAML; Compose interpolates what it reads, so `$` stands doubled.
            text = json.dumps({"name": "demo", "services": {"app": app, "secrets": provider}})
            out.write(text.replace("$", "$$"))
        self.env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "DOCKER_HOST": f"unix://{socket}"}
        self.env["DOCKER_CONFIG"] = self.docker

    def compose(self, *args):
        command = [COMPOSE, "--progress", "plain", *args]
        return subprocess.run(
            command, cwd=self.folder.name, env=self.env, capture_output=True, text=True, timeout=120
        )

    def up(self, *more):
        ran = self.compose("up", "-d", *more)
        want(ran.returncode, 0, ran.stderr)
        return ran

    def app(self):
        """Returns the environment that the service's container was created with."""
        pairs = self.engine.named("demo-app-1")["Config"]["Env"] or []
        return dict(pair.split("=", 1) for pair in pairs)


put("app", PASSWORD=NASTY, USER="app", PORT=5432, EMPTY="")
put("smtp", SMTP_PASSWORD="pässword", USER="smtp")


@check
def a_container_gets_the_very_values():
    project = Project({"secret": f"{RUN}/app"}, {"MODE": "live"})
    project.up()
    expected = {"MODE": "live", "PASSWORD": NASTY, "USER": "app", "PORT": "5432", "EMPTY": ""}
    want(project.app(), expected)


@check
def of_several_secrets_the_later_wins():
    for paths, user in (("app", "smtp"), "smtp"), (("smtp", "app"), "app"):
        project = Project({"secret": [f"{RUN}/{path}" for path in paths]})
        ran = project.up()
        want(project.app()["USER"], user, paths)
        want(len(project.app()), 5)
        assert f"`USER` of `{RUN}/{user}` replaces" in ran.stderr, ran.stderr


@check
def options_choose_and_name_the_variables():
    options = {
        "secrets": [f"{RUN}/app", f"{RUN}/smtp"],
        "keys": ["PASSWORD", "USER", "SMTP_PASSWORD"],
        "rename": ["PASSWORD=DATABASE_PASSWORD"],
        "prefix": "app_",
        "upper": True,
    }
    # Compose passes the options in another order every time.
    for _ in range(5):
        project = Project(options)
        project.up()
        expected = {"DATABASE_PASSWORD": NASTY, "APP_USER": "smtp", "APP_SMTP_PASSWORD": "pässword"}
        want(project.app(), expected)


@check
def no_value_is_printed_or_kept_by_compose():
    project = Project({"secret": f"{RUN}/smtp"})
    ran = project.compose("--verbose", "up", "-d")
    want(ran.returncode, 0, ran.stderr)
    assert "SMTP_PASSWORD" in ran.stderr and "pässword" not in ran.stdout + ran.stderr, ran.stderr
    for folder, _, files in os.walk(project.folder.name):
        for name in (name for name in files if not name.endswith(".sock")):
            assert "pässword" not in open(f"{folder}/{name}").read(), name
    metadata = json.load(open(f"{project.docker}/compose/providers/vault.json"))
    want(sorted(metadata), ["description", "down", "stop", "up"])


@check
def an_error_starts_nothing_and_says_why():
    broken = {"value": {"a": [1]}}
    put("broken", OK="1", **broken)
    for options, why in (
        ({"secret": f"{RUN}/none"}, "No value found at"),
        ({"secret": [f"{RUN}/app", f"{RUN}/none"]}, "No value found at"),
        ({"secret": f"{RUN}/app", "key": ["USER", "GONE"]}, "`GONE` is in none of the secrets"),
        ({"secret": f"{RUN}/broken"}, "`value` is null, a list or an object"),
        ({"key": "USER"}, "the provider names no secret"),
        ({"secret": f"{RUN}/app", "upper": "maybe"}, "maybe"),
    ):
        project = Project(options)
        ran = project.compose("up", "-d")
        assert ran.returncode != 0 and why in ran.stderr, (options, ran.stderr)
        assert project.engine.named("demo-app-1") is None, options


@check
def stop_and_down_succeed():
    project = Project({"secret": f"{RUN}/app"})
    project.up()
    ran = project.compose("stop")
    want((ran.returncode, project.engine.named("demo-app-1")["State"]["Status"]), (0, "exited"), ran.stderr)
    ran = project.compose("down")
    want((ran.returncode, project.engine.containers), (0, {}), ran.stderr)


@check
def up_again_brings_a_changed_secret():
    put("moving", TOKEN="one")
    project = Project({"secret": f"{RUN}/moving"})
    project.up()
    want(project.app(), {"TOKEN": "one"})
    put("moving", TOKEN="two")
    project.up()
    want(project.app(), {"TOKEN": "two"})


end()
