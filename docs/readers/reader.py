"""Prints the parameters of one mirror as JSON: python reader.py REDIS_URL KEY [FILE_WITH_SUB_KEYS]"""

import json
import re
import sys
from base64 import urlsafe_b64decode

import redis
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def read(url: str, key: str, sub_keys: dict[str, bytes]) -> dict[str, str]:
    fields = redis.from_url(url).hgetall(key)  # one command, so all of it is of one moment
    text = {name: fields.get(name.encode(), b"").decode() for name in ("@format", "@params", "@count", "@enc")}
    if text["@format"] != "1":
        raise ValueError(f"the layout is {text['@format']}, not 1" if fields else "no such hash")
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
            return stored.decode()
        if key_id not in sub_keys:
            raise ValueError(f"{name} is encrypted with the key {key_id}, which is not given")
        if not stored.startswith(f"pm1:{key_id}:".encode()):
            raise ValueError(f"{name} is not encrypted with the key {key_id}")
        sealed = urlsafe_b64decode(stored.split(b":")[2] + b"==")
        bound = [part.encode() for part in ("pm1", key_id, key, name)]
        bound = b"".join(len(part).to_bytes(4, "big") + part for part in bound)
        try:
            return AESGCM(sub_keys[key_id]).decrypt(sealed[:12], sealed[12:], bound).decode()
        except InvalidTag:
            raise ValueError(f"{name} does not decrypt") from None

    return {name: value(name, line["type"]) for name, line in params.items()}


try:
    lines = open(sys.argv[3]).read().split() if len(sys.argv) > 3 else []
    sub_keys = {key_id: urlsafe_b64decode(text + "=") for key_id, text in (line.split(":") for line in lines)}
    print(json.dumps(read(sys.argv[1], sys.argv[2], sub_keys)))
except (ValueError, OSError, redis.RedisError) as error:
    sys.exit(f"{sys.argv[2]}: {error}")
