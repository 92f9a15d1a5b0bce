"""Readers of what `export` prints: python formats.py READER FILE prints what it reads as JSON."""

import json
import sys

import dotenv
import yaml

reader, file = sys.argv[1:]


def text():
    with open(file, encoding="utf-8", newline="") as opened:
        return opened.read()


readers = {
    "dotenv": lambda: dotenv.dotenv_values(file),
    "json": lambda: json.loads(text()),
    "yaml": lambda: yaml.safe_load(text()),
}
print(json.dumps(readers[reader]()), end="")
