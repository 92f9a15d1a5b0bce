"""Computes format-vectors.json again, from docs/reference/redis-format.md and docs/adr/0003 and without a line of our Rust code.

    python3 crates/format/tests/vectors.py > new.json && mv new.json crates/format/tests/format-vectors.json

Of each vector it keeps what is put in (keys, owner, source, times, manifest, values, nonces) and computes the rest. It needs
Python 3.10 and the package cryptography. Run it when the layout changes; the tests of crates/format compare every byte.
"""

import hashlib
import hmac
import json
import pathlib
from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def lp(*items: str | bytes | int) -> bytes:
    encoded = [item if isinstance(item, bytes) else str(item).encode() for item in items]
    return b"".join(len(item).to_bytes(4, "big") + item for item in encoded)


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def hkdf(key: bytes, info: str) -> bytes:
    """HKDF-SHA256 with an empty salt (RFC 5869), 32 bytes."""
    return mac(mac(bytes(32), key), info.encode() + b"\x01")


def short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def bytewise(names) -> list[str]:
    return sorted(names, key=lambda name: name.encode())


def complete(vector: dict) -> dict:
    key_id, redis_key, source = vector["keyId"], vector["redisKey"], vector["source"]
    key = bytes.fromhex(vector["keyHex"])
    manifest, values = vector["manifest"], vector["values"]
    names = bytewise(manifest)

    def head(name: str) -> list:
        return [name, manifest[name]["type"], manifest[name]["version"], manifest[name]["date"]]

    revision = short(b"".join(lp(*head(name)) for name in names))
    signed = lp("pm1", key_id, vector["owner"], source, vector["readAt"], revision, len(names))
    for name in names:
        secret_key = manifest[name].get("key") or ""
        given = "given:" if secret_key and manifest[name].get("keyGiven") else ""
        signed += lp(*head(name), given + secret_key, values[name])
    set_mac = f"pm1:{key_id}:{b64(mac(hkdf(key, 'parameter-mirror/1/mac'), signed))}"

    sub_key = hkdf(key, f"parameter-mirror/1/enc/{redis_key}")
    mode = vector["encryption"]
    enc = "none" if mode == "None" else f"{mode}:pm1:{key_id}"
    fields = {}
    for name in names:
        if mode == "All" or mode == "SecureStrings" and manifest[name]["type"] == "SecureString":
            nonce = vector["fields"][name]["nonce"]
            bound = lp("pm1", key_id, redis_key, name)
            sealed = bytes.fromhex(nonce) + AESGCM(sub_key).encrypt(bytes.fromhex(nonce), values[name].encode(), bound)
            fields[name] = {"nonce": nonce, "text": f"pm1:{key_id}:{b64(sealed)}"}
        else:
            fields[name] = {"text": values[name]}

    members = ("key", "keyGiven", "type", "version", "date")
    lines = {name: {m: manifest[name][m] for m in members if m in manifest[name]} for name in names}
    params = json.dumps(lines, separators=(",", ":"), ensure_ascii=False)

    reader_key = mac(sub_key, b"parameter-mirror/1/reader-mac")
    covered = [1, enc, source, revision, vector["readAt"], len(names), params, set_mac]
    covered += [item for name in names for item in (name, fields[name]["text"])]
    reader_mac = mac(reader_key, lp("pm1", key_id, "set", redis_key, *covered))
    checked_mac = mac(reader_key, lp("pm1", key_id, "checked", redis_key, set_mac, vector["checkedAt"]))
    return vector | {
        "revision": revision,
        "mac": set_mac,
        "subKey": f"{key_id}:{b64(sub_key)}",
        "enc": enc,
        "params": params,
        "readerMac": f"pm1:{key_id}:{b64(reader_mac)}",
        "checkedMac": f"pm1:{key_id}:{b64(checked_mac)}",
        "fields": fields,
        "shrinkIdOfAllNames": short(b"".join(lp(name) for name in names)),
    }


vectors = json.loads(pathlib.Path(__file__).with_name("format-vectors.json").read_text())
print(json.dumps([complete(vector) for vector in vectors], indent=1, ensure_ascii=False))
