"""boto3 against whatever AWS_ENDPOINT_URL_SSM names: python check.py expected.json"""

import datetime
import json
import sys

import boto3

with open(sys.argv[1], encoding="utf-8") as file:
    expected = json.load(file)
ask, parameters = expected["ask"], expected["parameters"]
names = sorted(parameters)
ssm = boto3.client("ssm")


def same(what, wanted, got):
    if wanted != got:
        sys.exit(f"boto3: {what}: expected {wanted!r}, got {got!r}")


def check(call, name, got):
    same(f"{call} {name}", {"name": name, **parameters[name]}, {key: got.get(key.title()) for key in ("name", "type", "value", "version")})
    modified, now = got["LastModifiedDate"], datetime.datetime.now(datetime.timezone.utc)
    # Seconds taken for milliseconds, or the other way round, are decades off.
    if not now.replace(year=2020) < modified < now + datetime.timedelta(days=1):
        sys.exit(f"boto3: {call} {name}: LastModifiedDate is {modified}")


for name in (ask["string"], ask["secureString"]):
    check("GetParameter", name, ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"])

answer = ssm.get_parameters(Names=[ask["absent"], *ask["many"]], WithDecryption=True)
same("GetParameters, InvalidParameters", [ask["absent"]], answer["InvalidParameters"])
many = {parameter["Name"]: parameter for parameter in answer["Parameters"]}
same("GetParameters, names", sorted(ask["many"]), sorted(many))
for name, parameter in many.items():
    check("GetParameters", name, parameter)

pages = ssm.get_paginator("get_parameters_by_path").paginate(
    Path=ask["path"], Recursive=True, WithDecryption=True, PaginationConfig={"PageSize": 3}
)
listed = []
for page in pages:
    if len(page["Parameters"]) > 3:
        sys.exit(f"boto3: GetParametersByPath: a page of {len(page['Parameters'])}")
    listed += page["Parameters"]
same("GetParametersByPath, names", names, [parameter["Name"] for parameter in listed])
for parameter in listed:
    check("GetParametersByPath", parameter["Name"], parameter)

try:
    ssm.get_parameter(Name=ask["absent"])
    sys.exit(f"boto3: GetParameter {ask['absent']}: expected ParameterNotFound, got a parameter")
except ssm.exceptions.ParameterNotFound:
    pass

print(f"boto3 {boto3.__version__}: {len(listed)} parameters as expected")
