// Prints the parameters of one mirror as JSON: node reader.mjs REDIS_URL KEY [FILE_WITH_SUB_KEYS [All]]
import { createDecipheriv, createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createClient } from "redis";

const COVERED = ["@format", "@enc", "@source", "@revision", "@readAt", "@count", "@params", "@mac"];

const must = (holds, why) => {
  if (!holds) throw new Error(why);
};

const lp = (items) =>
  Buffer.concat(
    items.flatMap((item) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(item));
      return [length, Buffer.from(item)];
    }),
  );

// Fails unless these fields were written with the sub-key of this mirror.
function verify(fields, key, subKeys) {
  const [, keyId = "", mac = ""] = (fields["@readerMac"] ?? "").split(":");
  must(subKeys[keyId], `@readerMac needs the key ${keyId}, which is not given`);
  const macKey = createHmac("sha256", subKeys[keyId]).update("parameter-mirror/1/reader-mac").digest();
  const names = Object.keys(fields).filter((name) => name.startsWith("/")).sort();
  const covered = ["pm1", keyId, "set", key, ...COVERED.map((name) => fields[name] ?? "")];
  const expected = createHmac("sha256", macKey).update(lp([...covered, ...names.flatMap((name) => [name, fields[name]])])).digest();
  const found = Buffer.from(mac, "base64url");
  const fits = found.length === expected.length && timingSafeEqual(found, expected);
  must(fits, "@readerMac does not fit: the hash was changed, or the sub-key is that of another mirror");
}

async function read(url, key, subKeys, least) {
  const redis = createClient({ url, socket: { reconnectStrategy: false } });
  redis.on("error", () => {}); // the call that fails says it
  await redis.connect();
  const fields = await redis.hGetAll(key).finally(() => redis.destroy()); // one command, so all of it is of one moment
  must(Object.keys(fields).length > 0, "no such hash");
  must(fields["@format"] === "1", `the layout is ${fields["@format"]}, not 1`);
  if (subKeys) verify(fields, key, subKeys);
  const params = Object.entries(JSON.parse(fields["@params"]));
  must(fields["@count"] === `${params.length}`, `@count is ${fields["@count"]}, but @params names ${params.length}`);
  const enc = /^(?:none|(SecureStrings|All):pm1:([a-z0-9-]+))$/.exec(fields["@enc"]);
  must(enc, `@enc is ${fields["@enc"]}`);
  const [, encrypted, keyId] = enc;

  const value = (name, type) => {
    const stored = fields[name];
    must(stored !== undefined, `${name} is in @params and has no field`);
    if (!(encrypted === "All" || (encrypted === "SecureStrings" && type === "SecureString"))) {
      const mayBePlain = least !== "All" && !(subKeys && type === "SecureString");
      must(mayBePlain, `${name} is a ${type} that is not encrypted`);
      return stored;
    }
    must(subKeys?.[keyId], `${name} is encrypted with the key ${keyId}, which is not given`);
    must(stored.startsWith(`pm1:${keyId}:`), `${name} is not encrypted with the key ${keyId}`);
    const sealed = Buffer.from(stored.split(":")[2], "base64url");
    try {
      const cipher = createDecipheriv("aes-256-gcm", subKeys[keyId], sealed.subarray(0, 12), { authTagLength: 16 });
      cipher.setAAD(lp(["pm1", keyId, key, name])).setAuthTag(sealed.subarray(-16));
      return Buffer.concat([cipher.update(sealed.subarray(12, -16)), cipher.final()]).toString();
    } catch {
      throw new Error(`${name} does not decrypt`);
    }
  };
  return Object.fromEntries(params.map(([name, { type }]) => [name, value(name, type)]));
}

const [url, key, file, least] = process.argv.slice(2);
try {
  const lines = file && readFileSync(file, "utf8").match(/\S+/g);
  const subKeys = (lines ?? []).map((line) => line.split(":")).map(([id, text]) => [id, Buffer.from(text, "base64url")]);
  console.log(JSON.stringify(await read(url, key, file && Object.fromEntries(subKeys), least)));
} catch (error) {
  console.error(`${key}: ${error.message}`);
  process.exit(1);
}
