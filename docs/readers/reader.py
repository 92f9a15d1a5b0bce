"""Prints the parameters of one mirror as JSON: python reader.py REDIS_URL KEY [FILE_WITH_SUB_KEYS [All]]"""

import hmac
import json
import re
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode

import redis
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

COVERED = ("@format", "@enc", "@source", "@revision", "@readAt", "@count", "@params", "@mac")


def lp(items: list[bytes]) -> bytes:
    return b"".join(len(item).to_bytes(4, "big") + item for item in items)


def verify(fields: dict[bytes, bytes], key: str, sub_keys: dict[str, bytes]) -> None:
    """Fails unless these fields were written with the sub-key of this mirror."""
    mac = fields.get(b"@readerMac", b"").decode()
    key_id = mac.split(":")[1] if mac.count(":") == 2 else ""
    if key_id not in sub_keys:
        raise ValueError(f"@readerMac needs the key {key_id}, which is not given")
    mac_key = hmac.digest(sub_keys[key_id], b"parameter-mirror/1/reader-mac", "sha256")
    covered = [b"pm1", key_id.encode(), b"set", key.encode()] + [fields.get(name.encode(), b"") for name in COVERED]
    for name in sorted(name for name in fields if name.startswith(b"/")):
        covered += [name, fields[name]]
    expected = urlsafe_b64encode(hmac.digest(mac_key, lp(covered), "sha256")).decode().rstrip("=")
    if not hmac.compare_digest(mac, f"pm1:{key_id}:{expected}"):
        raise ValueError("@readerMac does not fit: the hash was changed, or the sub-key is that of another mirror")


def read(url: str, key: str, sub_keys: dict[str, bytes] | None, least: str = "") -> dict[str, str]:
    fields = redis.from_url(url).hgetall(key)  # one command, so all of it is of one moment
    text = {name: fields.get(name.encode(), b"").decode() for name in ("@format", "@params", "@count", "@enc")}
    if text["@format"] != "1":
        raise ValueError(f"the layout is {text['@format']}, not 1" if fields else "no such hash")
    if sub_keys is not None:
        verify(fields, key, sub_keys)
    params = json.loads(text["@params"])
    if text["@count"] != str(len(params)):
        raise ValueError(f"@count is {text['@count']}, but @params names {len(params)}")
    enc = re.fullmatch("none|(SecureStrings|All):pm1:([a-z0-9-]+)", text["@enc"])
    if not enc:
        raise ValueError(f"@enc is {text['@enc']}")
    encrypted, key_id = enc.groups()

    def value(name: str, kind: str) -> str:
        stored = fields.get(name.encode())
        if stored is None:
            raise ValueError(f"{name} is in @params and has no field")
        if not (encrypted == "All" or encrypted == "SecureStrings" == kind + "s"):
            if least == "All" or sub_keys is not None and kind == "SecureString":
                raise ValueError(f"{name} is a {kind} that is not encrypted")
            return stored.decode()
        if not sub_keys or key_id not in sub_keys:
            raise ValueError(f"{name} is encrypted with the key {key_id}, which is not given")
        if not stored.startswith(f"pm1:{key_id}:".encode()):
            raise ValueError(f"{name} is not encrypted with the key {key_id}")
        sealed = urlsafe_b64decode(stored.split(b":")[2] + b"==")
        bound = lp([part.encode() for part in ("pm1", key_id, key, name)])
        try:
            return AESGCM(sub_keys[key_id]).decrypt(sealed[:12], sealed[12:], bound).decode()
        except InvalidTag:
            raise ValueError(f"{name} does not decrypt") from None

    return {name: value(name, line["type"]) for name, line in params.items()}


try:
    sub_keys = None
    if len(sys.argv) > 3:
        lines = [line.split(":") for line in open(sys.argv[3]).read().split()]
        sub_keys = {key_id: urlsafe_b64decode(text + "=") for key_id, text in lines}
    print(json.dumps(read(sys.argv[1], sys.argv[2], sub_keys, *sys.argv[4:])))
except (ValueError, OSError, redis.RedisError) as error:
    sys.exit(f"{sys.argv[2]}: {error}")
