"""HTTP as clients of every kind speak it, byte by byte, to the API that VAULT_ADDR and VAULT_TOKEN name."""

import concurrent.futures
import json
import os
import socket
import subprocess
import time
from urllib.parse import quote, urlsplit

from checks import check, end, want

ADDR = os.environ["VAULT_ADDR"]
TOKEN = os.environ["VAULT_TOKEN"]
HOST = urlsplit(ADDR).netloc
RUN = f"wire-{os.getpid()}"


def curl(method, path, *more, token=TOKEN):
    """Returns status, headers, body as curl sees them."""
    command = ["curl", "-sS", "-i", "-X", method, *more, ADDR + path]
    if token:
        command += ["-H", f"X-Vault-Token: {token}"]
    if method == "HEAD":
        command[command.index("-X") : command.index("-X") + 2] = ["--head"]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    while raw.startswith(b"HTTP/1.1 100"):
        raw = raw.split(b"\r\n\r\n", 1)[1]
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def api(method, path, body=None, *more, status=None):
    if body is not None:
        more += ("--data-binary", body if isinstance(body, str) else json.dumps(body))
    code, headers, text = curl(method, path, *more)
    if status is not None:
        want(code, status, f"{method} {path}: {text[:200]!r}")
    return json.loads(text) if text else None


def bare(text, until=None):
    """Sends bytes and reads until the connection closes, or until so many answers came."""
    host, port = HOST.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as link:
        link.sendall(text)
        got = b""
        while until is None or got.count(b"HTTP/1.1 ") < until or not got.endswith(b"}\n"):
            some = link.recv(65536)
            if not some:
                break
            got += some
        return got


@check
def content_type_is_exactly_json():
    api("POST", f"/v1/secret/data/{RUN}/a", {"data": {"k": "v"}}, status=200)
    for path in [f"/v1/secret/data/{RUN}/a", "/v1/secret/data/none", "/v1/sys/health", "/v1/x/y"]:
        want(curl("GET", path)[1]["content-type"], "application/json", path)


@check
def content_type_of_requests_does_not_count_but_for_patch():
    for kind in ["", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "application/json"]:
        code, _, text = curl("POST", f"/v1/secret/data/{RUN}/ct", "-H", f"Content-Type: {kind}" if kind else "Content-Type:",
                             "--data-binary", '{"data":{"k":"v"}}')
        want(code, 200, f"{kind} {text}")
    patch = ["--data-binary", '{"data":{"l":"w"}}']
    want(curl("PATCH", f"/v1/secret/data/{RUN}/ct", "-H", "Content-Type: application/json", *patch)[0], 415)
    merge = "Content-Type: application/merge-patch+json; charset=utf-8"
    want(curl("PATCH", f"/v1/secret/data/{RUN}/ct", "-H", merge, *patch)[0], 200)


@check
def put_is_post_and_list_is_a_query():
    api("PUT", f"/v1/secret/data/{RUN}/p/x", {"data": {}}, status=200)
    for method, path in [("LIST", ""), ("GET", "?list=true"), ("GET", "?list=1"), ("GET", "?list=True"), ("GET", "/?list=T"),
                         ("LIST", "/")]:
        want(api(method, f"/v1/secret/metadata/{RUN}/p{path}", status=200)["data"]["keys"], ["x"], method + path)
    for path in ["metadata", "metadata/", "metadata?list=true"]:
        method = "GET" if "?" in path else "LIST"
        assert RUN + "/" in api(method, f"/v1/secret/{path}", status=200)["data"]["keys"]
    want(api("LIST", f"/v1/secret/metadata/{RUN}/nothing", status=404), {"errors": []})


@check
def head_and_get_of_health_need_no_token():
    for method in ["HEAD", "GET"]:
        for query in ["", "?", "?standbyok=true&sealedcode=200"]:
            code, _, text = curl(method, "/v1/sys/health" + query, token=None)
            want(code, 200)
            if method == "HEAD":
                want(text, b"")
    for path in ["seal-status", "leader", "init"]:
        want(curl("GET", f"/v1/sys/{path}", token=None)[0], 200, path)


@check
def the_envelope_has_every_field():
    answer = api("GET", f"/v1/secret/data/{RUN}/a", status=200)
    for key, value in {"lease_id": "", "renewable": False, "lease_duration": 0, "wrap_info": None, "warnings": None, "auth": None}.items():
        want(answer[key], value, key)
    assert len(answer["request_id"]) == 36
    want(sorted(answer["data"]["metadata"]), ["created_time", "custom_metadata", "deletion_time", "destroyed", "version"])
    want(answer["data"]["metadata"]["deletion_time"], "")
    assert answer["data"]["metadata"]["custom_metadata"] is None


@check
def nothing_is_404_with_no_errors_and_deleted_is_404_with_the_version():
    want(api("GET", f"/v1/secret/data/{RUN}/none", status=404), {"errors": []})
    api("POST", f"/v1/secret/data/{RUN}/gone", {"data": {"k": "v"}}, status=200)
    api("DELETE", f"/v1/secret/data/{RUN}/gone", status=204)
    answer = api("GET", f"/v1/secret/data/{RUN}/gone", status=404)
    assert "errors" not in answer
    assert answer["data"]["data"] is None and answer["data"]["metadata"]["deletion_time"]


@check
def check_and_set_says_what_vault_says():
    at = f"/v1/secret/data/{RUN}/cas"
    wrong = {"errors": ["check-and-set parameter did not match the current version"]}
    api("POST", at, {"data": {"k": 1}, "options": {"cas": 0}}, status=200)
    want(api("POST", at, {"data": {"k": 2}, "options": {"cas": 0}}, status=400), wrong)
    api("POST", at, {"data": {"k": 2}, "options": {"cas": "1"}}, status=200)
    api("DELETE", at, status=204)
    want(api("POST", at, {"data": {"k": 3}, "options": {"cas": 0}}, status=400), wrong)
    api("POST", at, {"data": {"k": 3}, "options": {"cas": 2}}, status=200)
    api("POST", f"/v1/secret/metadata/{RUN}/cas", {"cas_required": True}, status=204)
    want(api("POST", at, {"data": {"k": 4}}, status=400), {"errors": ["check-and-set parameter required for this call"]})
    want(api("POST", at, {"data": {}, "options": {"cas": "x"}}, status=400)["errors"][0][:39], "error parsing check-and-set parameter"[:39])


@check
def bad_bodies_are_400():
    at = f"/v1/secret/data/{RUN}/bad"
    for body, text in [("", "no data provided"), ("{}", "no data provided"), ("[]", None), ("{", "error parsing JSON"),
                       ('{"data":"x"}', None), ('{"data":{"a":1}', "error parsing JSON"), ("\x00", "error parsing JSON")]:
        if body == "\x00":
            continue
        answer = api("POST", at, body, status=400)
        if text:
            want(answer["errors"][0], text, body)
    for kind in ["delete", "undelete", "destroy"]:
        answer = api("POST", f"/v1/secret/{kind}/{RUN}/a", "{}", status=400)
        want(answer["errors"][0].lower(), "no version number provided", kind)
    want(api("POST", f"/v1/secret/data/{RUN}/x/", {"data": {}}, status=400)["errors"], ["cannot write to a path ending in '/'"])
    want(curl("GET", f"/v1/secret/data/{RUN}/a?version=abc")[0], 400)
    want(api("GET", f"/v1/secret/data/{RUN}/a?version=99", status=404), {"errors": []})
    api("GET", f"/v1/secret/data/{RUN}/a?version=0", status=200)


@check
def versions_are_numbers_texts_or_a_list_in_a_text():
    at = f"{RUN}/versions"
    for n in range(6):
        api("POST", f"/v1/secret/data/{at}", {"data": {"n": n}}, status=200)
    api("POST", f"/v1/secret/delete/{at}", {"versions": [1]}, status=204)
    api("PUT", f"/v1/secret/delete/{at}", {"versions": ["2"]}, status=204)
    api("POST", f"/v1/secret/delete/{at}", {"versions": "3,4"}, status=204)
    versions = api("GET", f"/v1/secret/metadata/{at}", status=200)["data"]["versions"]
    want([n for n in versions if versions[n]["deletion_time"]], ["1", "2", "3", "4"])
    api("POST", f"/v1/secret/destroy/{at}", {"versions": [1]}, status=204)
    api("POST", f"/v1/secret/undelete/{at}", {"versions": [1, 2]}, status=204)
    want(curl("GET", f"/v1/secret/data/{at}?version=1")[0], 404, "destroyed")
    want(curl("GET", f"/v1/secret/data/{at}?version=2")[0], 200, "undeleted")


@check
def old_versions_are_pruned_and_numbers_never_used_again():
    at = f"{RUN}/prune"
    api("POST", f"/v1/secret/metadata/{at}", {"max_versions": "11"}, status=204)
    for n in range(1, 13):
        api("POST", f"/v1/secret/data/{at}", {"data": {"n": n}}, status=200)
    data = api("GET", f"/v1/secret/metadata/{at}", status=200)["data"]
    want((data["current_version"], data["oldest_version"], len(data["versions"])), (12, 2, 11))
    want(curl("GET", f"/v1/secret/data/{at}?version=1")[0], 404)
    api("DELETE", f"/v1/secret/metadata/{at}", status=204)
    want(api("POST", f"/v1/secret/data/{at}", {"data": {}}, status=200)["data"]["version"], 13)


@check
def versions_delete_themselves_in_time():
    at = f"{RUN}/ttl"
    api("POST", f"/v1/secret/metadata/{at}", {"delete_version_after": "2s"}, status=204)
    want(api("GET", f"/v1/secret/metadata/{at}", status=200)["data"]["delete_version_after"], "2s")
    api("POST", f"/v1/secret/data/{at}", {"data": {"k": "v"}}, status=200)
    assert api("GET", f"/v1/secret/data/{at}", status=200)["data"]["metadata"]["deletion_time"]
    for _ in range(100):
        if curl("GET", f"/v1/secret/data/{at}")[0] == 404:
            break
        time.sleep(0.1)
    want(api("GET", f"/v1/secret/data/{at}", status=404)["data"]["data"], None)
    api("POST", f"/v1/secret/undelete/{at}", {"versions": [1]}, status=204)
    api("GET", f"/v1/secret/data/{at}", status=200)


@check
def subkeys_show_structure_and_no_value():
    at = f"{RUN}/sub"
    api("POST", f"/v1/secret/data/{at}", {"data": {"a": "x", "b": {"c": {"d": 1}}, "l": [1, 2]}}, status=200)
    want(api("GET", f"/v1/secret/subkeys/{at}", status=200)["data"]["subkeys"], {"a": None, "b": {"c": {"d": None}}, "l": None})
    want(api("GET", f"/v1/secret/subkeys/{at}?depth=1", status=200)["data"]["subkeys"], {"a": None, "b": None, "l": None})


@check
def custom_metadata_has_limits():
    at = f"/v1/secret/metadata/{RUN}/custom"
    api("POST", at, {"custom_metadata": {f"k{n}": "v" for n in range(64)}}, status=204)
    for bad in [{f"k{n}": "v" for n in range(65)}, {"k": "v" * 513}, {"k" * 129: "v"}, {"": "v"}, {"k": "\x07"}]:
        api("POST", at, {"custom_metadata": bad}, status=400)
    want(len(api("GET", at, status=200)["data"]["custom_metadata"]), 64)


@check
def numbers_and_nesting_come_back_as_they_went():
    text = '{"data":{"i":12345678901234567890123,"f":1.10,"deep":{"a":[{"b":[null,true,"ü\\u0000"]}]}}}'
    api("POST", f"/v1/secret/data/{RUN}/exact", text, status=200)
    _, _, body = curl("GET", f"/v1/secret/data/{RUN}/exact")
    assert b'12345678901234567890123' in body and b'1.10' in body, body
    want(json.loads(body)["data"]["data"]["deep"]["a"][0]["b"], [None, True, "ü\0"])


@check
def paths_are_decoded_once():
    for name in ["with space", "plus+plus", "per%cent", "größe", "x..y", "a:b;c", "q?r#s", "~tilde", "(x)"]:
        at = f"/v1/secret/data/{RUN}/odd/{quote(name, safe='')}"
        api("POST", at, {"data": {"name": name}}, status=200)
        want(api("GET", at, status=200)["data"]["data"]["name"], name)
    listed = api("LIST", f"/v1/secret/metadata/{RUN}/odd", status=200)["data"]["keys"]
    assert "plus+plus" in listed and "with space" in listed and "per%cent" in listed, listed
    want(api("GET", f"/v1/secret/data/{RUN}%2Fodd%2Fx..y", status=200)["data"]["data"]["name"], "x..y")


@check
def http_1_0_is_answered_and_closed():
    got = bare(f"GET /v1/secret/data/{RUN}/a HTTP/1.0\r\nHost: {HOST}\r\nX-Vault-Token: {TOKEN}\r\n\r\n".encode())
    assert got.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")), got[:80]
    assert b'"k":"v"' in got


@check
def connections_outlive_refused_bodies():
    host, port = HOST.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = link.makefile("rb")
        for path in ["secret/data/x/", "nomount/data/x", "secret/foo/x"] * 8:
            # Head and body apart, as Python's clients send them.
            link.sendall(f"POST /v1/{path} HTTP/1.1\r\nHost: {HOST}\r\nX-Vault-Token: {TOKEN}\r\nContent-Length: 11\r\n\r\n".encode())
            link.sendall(b'{"data":{}}')
            line = got.readline()
            assert line.startswith(b"HTTP/1.1 4"), (path, line)
            length = 0
            while (line := got.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            got.read(length)


@check
def requests_in_a_pipeline_are_answered_in_order():
    one = f"GET /v1/secret/data/{RUN}/a HTTP/1.1\r\nHost: {HOST}\r\nX-Vault-Token: {TOKEN}\r\n\r\n"
    last = f"GET /v1/secret/data/{RUN}/none HTTP/1.1\r\nHost: {HOST}\r\nX-Vault-Token: {TOKEN}\r\nConnection: close\r\n\r\n"
    got = bare((one * 4 + last).encode())
    want([part[:3] for part in got.split(b"HTTP/1.1 ")[1:]], [b"200"] * 4 + [b"404"])


@check
def chunked_and_expect_continue_are_understood():
    body = json.dumps({"data": {"v": "x" * 100_000}})
    for more in [("-H", "Transfer-Encoding: chunked"), ("-H", "Expect: 100-continue")]:
        code, _, text = curl("POST", f"/v1/secret/data/{RUN}/big", *more, "--data-binary", body)
        want(code, 200, f"{more} {text[:200]}")
    want(len(api("GET", f"/v1/secret/data/{RUN}/big", status=200)["data"]["data"]["v"]), 100_000)


@check
def large_values_pass_and_larger_ones_are_413():
    host, port = HOST.rsplit(":", 1)
    import http.client
    link = http.client.HTTPConnection(host, int(port), timeout=60)
    for size, expected in [(64 << 10, 200), (512 << 10, 200), (900 << 10, (400, 413)), (33 << 20, 413)]:
        try:
            link.request("POST", f"/v1/secret/data/{RUN}/size", json.dumps({"data": {"v": "x" * size}}), {"X-Vault-Token": TOKEN})
            answer = link.getresponse()
            code, text = answer.status, answer.read()
        except (BrokenPipeError, ConnectionResetError):
            code, text = 413, b""
            link.close()
        assert code in (expected if isinstance(expected, tuple) else (expected,)), (size, code, text[:200])
    want(len(api("GET", f"/v1/secret/data/{RUN}/size", status=200)["data"]["data"]["v"]), 512 << 10)


@check
def sixteen_writers_lose_nothing():
    def write(n):
        return api("POST", f"/v1/secret/data/{RUN}/busy", {"data": {"n": n}}, status=200)["data"]["version"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        want(sorted(pool.map(write, range(64))), list(range(1, 65)))


@check
def pages_of_other_sites_are_refused():
    at = f"/v1/secret/data/{RUN}/a"
    want(curl("GET", at, "-H", "Origin: https://example.org")[0], 403, "Origin")
    want(curl("GET", at, "-H", "Host: rebound.example.org")[0], 403, "Host")
    want(curl("GET", at, "-H", f"Host: localhost:{HOST.rsplit(':')[-1]}")[0], 200, "localhost")


@check
def tokens_are_demanded_in_either_header():
    at = f"/v1/secret/data/{RUN}/a"
    want(curl("GET", at, token=None)[0], 403, "none")
    want(curl("GET", at, token="wrong")[0], 403, "wrong")
    want(curl("GET", at, "-H", f"Authorization: Bearer {TOKEN}", token=None)[0], 200, "bearer")
    want(curl("GET", at, "-H", "X-Vault-Namespace;")[0], 200, "empty namespace")
    answer = api("GET", "/v1/auth/token/lookup-self", status=200)["data"]
    for key in ["accessor", "creation_time", "creation_ttl", "display_name", "entity_id", "explicit_max_ttl", "id", "num_uses",
                "orphan", "path", "policies", "ttl"]:
        assert key in answer, key


@check
def unknown_routes_and_methods_say_so():
    want(api("GET", f"/v1/secret/foo/{RUN}", status=404)["warnings"][0][:52], "Invalid path for a versioned K/V secrets engine. See")
    assert "no handler for route" in api("GET", "/v1/nomount/data/x", status=404)["errors"][0]
    want(api("GET", "/v1/sys/internal/ui/mounts/nomount/x", status=403)["errors"][0][:40], "preflight capability check returned 403,")
    mount = api("GET", f"/v1/sys/internal/ui/mounts/secret/{RUN}/a", status=200)["data"]
    want((mount["path"], mount["type"], mount["options"]["version"]), ("secret/", "kv", "2"))
    want(api("POST", f"/v1/secret/subkeys/{RUN}/a", "{}", status=405), {"errors": ["1 error occurred:\n\t* unsupported operation\n\n"]})


@check
def smuggled_and_malformed_requests_are_refused():
    at = f"/v1/secret/data/{RUN}/smuggled"
    both = f"POST {at} HTTP/1.1\r\nHost: {HOST}\r\nX-Vault-Token: {TOKEN}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nX"
    two = f"POST {at} HTTP/1.1\r\nHost: {HOST}\r\nX-Vault-Token: {TOKEN}\r\nContent-Length: 5\r\nContent-Length: 6\r\nConnection: close\r\n\r\n123456"
    for text in [both, two, "GET / HTTP/9.9\r\n\r\n", "nonsense\r\n\r\n", f"GET {at}\x00 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"]:
        got = bare(text.encode())
        assert got == b"" or got.startswith(b"HTTP/1.1 4") or got.startswith(b"HTTP/1.0 4") or b" 505 " in got[:20], got[:100]
    want(curl("GET", at)[0], 404)


end()
