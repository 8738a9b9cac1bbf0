"""What other stores hold, taken over by `vault import`, has to be the same here.

Usage: transfer_tests.py OURS THEIRS THEIR_ADDR THEIR_TOKEN THEIR_CA; VAULT_ADDR and VAULT_TOKEN name our agent's API, SOPS
and AGE_KEYGEN the programs.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from checks import check, end

ours, theirs, their_addr, their_token, ca = sys.argv[1:6]
sops, age_keygen = os.environ["SOPS"], os.environ["AGE_KEYGEN"]
RUN = f"transfer-{os.getpid()}"
folder = pathlib.Path(tempfile.mkdtemp())
token_file = folder / "token"
token_file.write_text(their_token)
token_file.chmod(0o600)
here = {"PATH": os.environ["PATH"], "HOME": str(folder), "VAULT_ADDR": os.environ["VAULT_ADDR"], "VAULT_TOKEN": os.environ["VAULT_TOKEN"]}
there = {**here, "VAULT_ADDR": their_addr, "VAULT_TOKEN": their_token, "VAULT_CACERT": ca}


def run(program, *words, env=here, stdin="", fails=False):
    done = subprocess.run([program, *words], env=env, input=stdin, capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0) == fails, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stderr if fails else done.stdout


def want(got, expected):
    assert got == expected, f"got {got!r}, expected {expected!r}"


def metadata(program, path, env):
    """Settings and versions, without times and names."""
    data = json.loads(run(program, "kv", "metadata", "get", "-format=json", path, env=env))["data"]
    versions = {n: (bool(version["deletion_time"]), version["destroyed"]) for n, version in data["versions"].items()}
    settings = ("cas_required", "custom_metadata", "delete_version_after", "max_versions", "current_version")
    return [data[name] for name in settings] + [versions]


@check
def our_program_trusts_whom_it_is_told_to():
    run(theirs, "kv", "put", "secret/t/app", "user=app", "password=päss", env=there)
    get = ("kv", "get", "-field=password", "secret/t/app")
    want(run(ours, *get, env=there), "päss")
    unknown = {name: value for name, value in there.items() if name != "VAULT_CACERT"}
    assert "certificate" in run(ours, *get, env=unknown, fails=True)
    want(run(ours, "kv", "get", f"-ca-cert={ca}", *get[2:], env=unknown), "päss")
    want(run(ours, *get, env={**unknown, "VAULT_SKIP_VERIFY": "true"}), "päss")
    want(run(ours, *get, env={**unknown, "VAULT_CAPATH": str(pathlib.Path(ca).parent)}), "päss")


@check
def a_vault_behind_tls_is_taken_over_with_all_versions():
    for n in range(2, 5):
        run(theirs, "kv", "put", "secret/t/app", f"n={n}", env=there)
    run(theirs, "kv", "put", "secret/t/deep/er/x", "k=v", env=there)
    run(theirs, "kv", "metadata", "put", "-max-versions=7", "-custom-metadata=owner=jonas", "secret/t/app", env=there)
    run(theirs, "kv", "delete", "-versions=2", "secret/t/app", env=there)
    run(theirs, "kv", "destroy", "-versions=1", "secret/t/app", env=there)
    address = their_addr.replace("https://", "vault+https://") + "/secret/t"
    words = ("import", f"--token-file={token_file}", address, f"secret/{RUN}")
    assert "certificate" in run(ours, *words, fails=True)
    run(ours, "kv", "list", f"secret/{RUN}", fails=True)
    trusting = {**here, "VAULT_CACERT": ca}
    for _ in range(2):  # done again, nothing changes
        run(ours, *words, env=trusting)
        want(metadata(ours, f"secret/{RUN}/app", here), metadata(theirs, "secret/t/app", there))
    for n in (3, 4):
        want(run(ours, "kv", "get", f"-version={n}", "-field=n", f"secret/{RUN}/app"), str(n))
    want(run(ours, "kv", "get", "-field=k", f"secret/{RUN}/deep/er/x"), "v")


@check
def our_program_exports_to_a_vault_behind_tls():
    run(ours, "kv", "put", f"secret/{RUN}/out", "-", stdin='{"a":"b","n":12}')
    text = run(ours, "kv", "get", "-format=json", "-field=data", f"secret/{RUN}/out")
    run(ours, "kv", "put", "secret/t/out", "-", env=there, stdin=text)
    want(json.loads(run(theirs, "kv", "get", "-format=json", "secret/t/out", env=there))["data"]["data"], {"a": "b", "n": 12})


key = folder / "key"
run(age_keygen, "-o", str(key))
recipient = run(age_keygen, "-y", str(key)).strip()
with_key = {**here, "SOPS_AGE_KEY_FILE": str(key)}

PLAIN = {
    "env": ('# for everybody\nUSER=app\nPASSWORD=p@ss#word\nURL=https://x.example/?a=b&c=d\n', {
        "USER": "app", "PASSWORD": "p@ss#word", "URL": "https://x.example/?a=b&c=d"}),
    "yaml": ("# for everybody\nuser: app\nport: 5432\nyes: true\ntext: |\n  two\n  lines\nnested:\n  list: [1, a]\n", {
        "user": "app", "port": 5432, "yes": True, "text": "two\nlines\n", "nested": {"list": [1, "a"]}}),
    "json": ('{"user":"app","port":5432,"nested":{"list":[1,"a"],"empty":""}}', {
        "user": "app", "port": 5432, "nested": {"list": [1, "a"], "empty": ""}}),
}


def from_sops(kind):
    plain, expected = PLAIN[kind]
    (folder / f"plain.{kind}").write_text(plain)
    sealed = folder / f"sealed.{kind}"
    sealed.write_text(run(sops, "encrypt", "--age", recipient, str(folder / f"plain.{kind}"), env=with_key))
    path = f"secret/{RUN}/sops-{kind}"
    refused = run(ours, "import", path, str(sealed), fails=True)
    assert "SOPS has encrypted this" in refused and "sops -d" in refused, refused
    run(ours, "kv", "get", path, fails=True)
    run(ours, "import", path, "-", stdin=run(sops, "-d", str(sealed), env=with_key))
    want(json.loads(run(ours, "kv", "get", "-format=json", path))["data"]["data"], expected)


@check
def a_dotenv_file_comes_from_sops():
    from_sops("env")


@check
def a_yaml_file_comes_from_sops():
    from_sops("yaml")


@check
def a_json_file_comes_from_sops():
    from_sops("json")


end()
