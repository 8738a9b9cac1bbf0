// node-vault, @litehex/node-vault, hashi-vault-js and node-vault-client, unmodified, against the vault that
// VAULT_ADDR and VAULT_TOKEN name.
import assert from "node:assert/strict";
import nodeVault from "node-vault";
import { Client as LitehexClient } from "@litehex/node-vault";
import HashiVault from "hashi-vault-js";
import VaultClient from "node-vault-client";

const endpoint = process.env.VAULT_ADDR;
const token = process.env.VAULT_TOKEN;
const run = `node-${process.pid}`;
let passed = 0;
let failed = 0;

async function check(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok ${name}: ${error?.message ?? error}`);
    console.error(error);
  }
}

const status = (error) => error?.response?.statusCode ?? error?.response?.status;
const refused = (promise, code) =>
  promise.then(
    () => assert.fail(`expected ${code}`),
    (error) => assert.equal(status(error), code),
  );

// node-vault
const vault = nodeVault({ apiVersion: "v1", endpoint, token });
await check("node-vault: health, status, mounts, token", async () => {
  assert.equal((await vault.health()).sealed, false);
  assert.equal((await vault.status()).sealed, false);
  assert.equal((await vault.initialized()).initialized, true);
  assert.equal((await vault.mounts())["secret/"].options.version, "2");
  assert.ok((await vault.tokenLookupSelf()).data.id);
});
await check("node-vault: write, read, versions", async () => {
  const path = `secret/data/${run}/nv`;
  assert.equal((await vault.write(path, { data: { a: "1" } })).data.version, 1);
  assert.equal((await vault.write(path, { data: { a: "2", n: { deep: [1, "x", null] } } })).data.version, 2);
  assert.deepEqual((await vault.read(path)).data.data, { a: "2", n: { deep: [1, "x", null] } });
  assert.deepEqual((await vault.read(`${path}?version=1`)).data.data, { a: "1" });
  assert.deepEqual((await vault.list(`secret/metadata/${run}`)).data.keys, ["nv"]);
});
await check("node-vault: merge patch", async () => {
  const path = `secret/data/${run}/patch`;
  await vault.write(path, { data: { keep: "k", drop: "d" } });
  await vault.update(path, { data: { drop: null, add: "a" } });
  assert.deepEqual((await vault.read(path)).data.data, { keep: "k", add: "a" });
});
await check("node-vault: check-and-set", async () => {
  const path = `secret/data/${run}/cas`;
  await vault.write(path, { data: { a: "1" }, options: { cas: 0 } });
  await refused(vault.write(path, { data: { a: "2" }, options: { cas: 0 } }), 400);
  await vault.write(path, { data: { a: "2" }, options: { cas: 1 } });
});
await check("node-vault: delete, undelete, destroy, metadata", async () => {
  const path = `${run}/life`;
  await vault.write(`secret/data/${path}`, { data: { a: "1" } });
  await vault.delete(`secret/data/${path}`);
  await refused(vault.read(`secret/data/${path}`), 404);
  await vault.write(`secret/undelete/${path}`, { versions: [1] });
  assert.equal((await vault.read(`secret/data/${path}`)).data.data.a, "1");
  await vault.write(`secret/destroy/${path}`, { versions: [1] });
  assert.equal((await vault.read(`secret/metadata/${path}`)).data.versions["1"].destroyed, true);
  await vault.delete(`secret/metadata/${path}`);
  await refused(vault.read(`secret/metadata/${path}`), 404);
});
await check("node-vault: a token that is none is refused", () =>
  refused(nodeVault({ endpoint, token: "none" }).read(`secret/data/${run}/nv`), 403));

// @litehex/node-vault
const lite = new LitehexClient({ endpoint, token });
const fine = (answer) => {
  const error = answer?.error ?? answer?.errors;
  assert.ok(!error, JSON.stringify(error));
  return answer?.data?.data?.data !== undefined ? answer.data : answer;
};
await check("litehex: write, read, list, patch", async () => {
  const at = { mountPath: "secret", path: `${run}-lite` };
  fine(await lite.kv2.write({ ...at, data: { k: "v" } }));
  assert.equal(fine(await lite.kv2.read(at)).data.data.k, "v");
  fine(await lite.kv2.write({ ...at, data: { k: "w", l: "x" } }));
  assert.equal(fine(await lite.kv2.read(at)).data.data.k, "w");
  fine(await lite.kv2.list({ mountPath: "secret", path: "" }));
});
await check("litehex: delete, undelete, destroy, metadata", async () => {
  const at = { mountPath: "secret", path: `${run}-lite2` };
  fine(await lite.kv2.write({ ...at, data: { k: "v" } }));
  fine(await lite.kv2.readMetadata(at));
  fine(await lite.kv2.deleteLatest(at));
  fine(await lite.kv2.undelete({ ...at, versions: [1] }));
  assert.equal(fine(await lite.kv2.read(at)).data.data.k, "v");
  fine(await lite.kv2.destroy({ ...at, versions: [1] }));
  fine(await lite.kv2.deleteMetadata(at));
});
await check("litehex: engine config, seal status", async () => {
  fine(await lite.kv2.info({ mountPath: "secret" }));
  assert.equal(fine(await lite.sealStatus()).sealed ?? (await lite.sealStatus()).data.sealed, false);
});

// hashi-vault-js
const hashi = new HashiVault({ https: false, baseUrl: `${endpoint}/v1`, rootPath: "secret", timeout: 5000 });
await check("hashi-vault-js: health and key/value version 2", async () => {
  assert.equal((await hashi.healthCheck()).sealed, false);
  const name = `${run}-hvj`;
  await hashi.createKVSecret(token, name, { a: "1" }, "secret");
  assert.equal((await hashi.readKVSecret(token, name, 0, "secret")).data.a, "1");
  await hashi.updateKVSecret(token, name, { a: "2" }, 1, "secret");
  assert.equal((await hashi.readKVSecret(token, name, 1, "secret")).data.a, "1");
  await hashi.deleteLatestVerKVSecret(token, name, "secret");
  await hashi.undeleteVersionsKVSecret(token, name, [2], "secret");
  await hashi.destroyVersionsKVSecret(token, name, [1], "secret");
  assert.ok((await hashi.listKVSecrets(token, "", "secret")).keys.includes(name));
  assert.equal((await hashi.readKVSecretMetadata?.(token, name, "secret"))?.versions?.["1"]?.destroyed ?? true, true);
  await hashi.eliminateKVSecret(token, name, "secret");
});

// node-vault-client
await check("node-vault-client: token, write, read, list", async () => {
  const client = VaultClient.boot(`suite-${run}`, {
    api: { url: `${endpoint}/` },
    auth: { type: "token", config: { token } },
    logger: false,
  });
  await client.write(`secret/data/${run}/nvc`, { data: { a: "1" } });
  const lease = await client.read(`secret/data/${run}/nvc`);
  assert.equal(lease.getValue("data").a, "1");
  const listed = await client.list(`secret/metadata/${run}`);
  assert.ok(listed.getValue("keys").includes("nvc"));
});

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
