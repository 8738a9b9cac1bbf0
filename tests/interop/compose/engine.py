"""As much of Docker's Engine API as `docker compose up`, `stop` and `down` need: containers that are remembered, not run."""

import http.server
import json
import re
import socketserver
import threading
from urllib.parse import parse_qs, urlsplit


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens on a socket until closed. `containers` is what was created, by id."""

    daemon_threads = True

    def __init__(self, path):
        self.containers, self.networks, self.made = {}, {}, 0
        super().__init__(path, Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that went away has what it wanted."""

    def named(self, name):
        return next((box for box in self.containers.values() if box["Name"] == f"/{name}"), None)

    def create(self, name, body):
        self.made += 1
        key = f"{self.made:064x}"
        config = {field: body.get(field) for field in ("Env", "Labels", "Image")}
        self.containers[key] = {
            "Id": key,
            "Name": f"/{name}",
            "Image": "sha256:" + "a" * 64,
            "Config": config,
            "HostConfig": body.get("HostConfig") or {},
            "State": {"Status": "created", "Running": False},
            "NetworkSettings": {"Networks": {net: {} for net in self.networks}},
        }
        return key


def kept(labels, filters):
    """Tells whether labels pass the filters of a list request."""
    for wanted in filters.get("label", {}):
        name, _, value = wanted.partition("=")
        if name not in labels or (value and labels[name] != value):
            return False
    return True


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")

    def answer(self):
        url = urlsplit(self.path)
        path = re.sub(r"^/v[0-9.]+", "", url.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        found = self.route(path, query, self.body())
        status, out = found if found else (404, {"message": f"no {path}"})
        data = out if isinstance(out, bytes) else json.dumps(out).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.51")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_HEAD = do_DELETE = answer

    def route(self, path, query, body):
        engine, filters = self.server, json.loads(query.get("filters", "{}"))
        match path.strip("/").split("/"):
            case ["_ping"]:
                return 200, b"OK"
            case ["version"]:
                return 200, {"Version": "29.0.0", "ApiVersion": "1.51", "Os": "linux", "Arch": "amd64"}
            case ["info"]:
                return 200, {"OSType": "linux", "Architecture": "x86_64", "ServerVersion": "29.0.0"}
            case ["images", name, "json"] if name == "app:1":
                return 200, {"Id": "sha256:" + "a" * 64, "RepoTags": [name], "Config": {}, "Os": "linux"}
            case ["volumes"]:
                return 200, {"Volumes": []}
            case ["networks"]:
                return 200, [net for net in engine.networks.values() if kept(net["Labels"], filters)]
            case ["networks", "create"]:
                engine.networks[body["Name"]] = {**body, "Id": body["Name"]}
                return 201, {"Id": body["Name"]}
            case ["networks", name] if name in engine.networks:
                if self.command == "DELETE":
                    del engine.networks[name]
                    return 204, b""
                return 200, engine.networks[name]
            case ["containers", "json"]:
                boxes = engine.containers.values()
                return 200, [listed(box) for box in boxes if kept(box["Config"]["Labels"], filters)]
            case ["containers", "create"]:
                return 201, {"Id": engine.create(query["name"], body), "Warnings": []}
            case ["containers", key, *action]:
                box = engine.containers.get(key) or engine.named(key)
                return self.container(box, action, query) if box else None
        return None

    def container(self, box, action, query):
        running = {"start": True, "stop": False, "kill": False, "restart": True}
        match action:
            case ["json"]:
                return 200, box
            case ["rename"]:
                box["Name"] = "/" + query["name"]
            case [verb] if verb in running:
                state = "running" if running[verb] else "exited"
                box["State"] = {"Status": state, "Running": running[verb]}
            case [] if self.command == "DELETE":
                del self.server.containers[box["Id"]]
            case _:
                return None
        return 204, b""


def listed(box):
    return {
        "Id": box["Id"],
        "Names": [box["Name"]],
        "Image": box["Config"]["Image"],
        "ImageID": box["Image"],
        "Labels": box["Config"]["Labels"],
        "State": box["State"]["Status"],
        "NetworkSettings": box["NetworkSettings"],
        "Mounts": [],
    }
