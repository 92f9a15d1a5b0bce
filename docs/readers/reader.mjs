// Prints the parameters of one mirror as JSON: node reader.mjs REDIS_URL KEY [FILE_WITH_SUB_KEYS]
import { createDecipheriv } from "node:crypto";
import { readFileSync } from "node:fs";
import { createClient } from "redis";

async function read(url, key, subKeys) {
  const redis = createClient({ url, socket: { reconnectStrategy: false } });
  redis.on("error", () => {}); // the call that fails says it
  await redis.connect();
  const fields = await redis.hGetAll(key).finally(() => redis.destroy()); // one command, so all of it is of one moment
  const must = (holds, why) => {
    if (!holds) throw new Error(why);
  };
  must(Object.keys(fields).length > 0, "no such hash");
  must(fields["@format"] === "1", `the layout is ${fields["@format"]}, not 1`);
  const params = Object.entries(JSON.parse(fields["@params"]));
  must(fields["@count"] === `${params.length}`, `@count is ${fields["@count"]}, but @params names ${params.length}`);
  const enc = /^(?:none|(SecureStrings|All):pm1:([a-z0-9-]+))$/.exec(fields["@enc"]);
  must(enc, `@enc is ${fields["@enc"]}`);
  const [, encrypted, keyId] = enc;

  const value = (name, type) => {
    const stored = fields[name];
    must(stored !== undefined, `${name} is in @params and has no field`);
    if (!(encrypted === "All" || (encrypted === "SecureStrings" && type === "SecureString"))) return stored;
    must(subKeys[keyId], `${name} is encrypted with the key ${keyId}, which is not given`);
    must(stored.startsWith(`pm1:${keyId}:`), `${name} is not encrypted with the key ${keyId}`);
    const sealed = Buffer.from(stored.split(":")[2], "base64url");
    const bound = ["pm1", keyId, key, name].flatMap((part) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(part));
      return [length, Buffer.from(part)];
    });
    try {
      const cipher = createDecipheriv("aes-256-gcm", subKeys[keyId], sealed.subarray(0, 12), { authTagLength: 16 });
      cipher.setAAD(Buffer.concat(bound)).setAuthTag(sealed.subarray(-16));
      return Buffer.concat([cipher.update(sealed.subarray(12, -16)), cipher.final()]).toString();
    } catch {
      throw new Error(`${name} does not decrypt`);
    }
  };
  return Object.fromEntries(params.map(([name, { type }]) => [name, value(name, type)]));
}

const [url, key, file] = process.argv.slice(2);
try {
  const lines = file ? readFileSync(file, "utf8").trim().split(/\s+/) : [];
  const subKeys = lines.map((line) => line.split(":")).map(([id, text]) => [id, Buffer.from(text, "base64url")]);
  console.log(JSON.stringify(await read(url, key, Object.fromEntries(subKeys))));
} catch (error) {
  console.error(`${key}: ${error.message}`);
  process.exit(1);
}
