// @aws-sdk/client-ssm against whatever AWS_ENDPOINT_URL_SSM names: node check.mjs expected.json
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import {
  GetParameterCommand,
  GetParametersCommand,
  paginateGetParametersByPath,
  ParameterNotFound,
  SSMClient,
} from "@aws-sdk/client-ssm";

const { ask, parameters } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const names = Object.keys(parameters).sort();
const client = new SSMClient();

function fail(message) {
  console.error(`@aws-sdk/client-ssm: ${message}`);
  process.exit(1);
}

function same(what, wanted, got) {
  if (!isDeepStrictEqual(wanted, got)) {
    fail(`${what}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`);
  }
}

function check(call, name, { Name, Type, Value, Version, LastModifiedDate }) {
  same(`${call} ${name}`, { name, ...parameters[name] }, { name: Name, type: Type, value: Value, version: Version });
  // Seconds taken for milliseconds, or the other way round, are decades off.
  const year = LastModifiedDate instanceof Date && LastModifiedDate.getUTCFullYear();
  if (!(year > 2020 && LastModifiedDate < Date.now() + 86_400_000)) {
    fail(`${call} ${name}: LastModifiedDate is ${LastModifiedDate}`);
  }
}

for (const name of [ask.string, ask.secureString]) {
  const { Parameter } = await client.send(new GetParameterCommand({ Name: name, WithDecryption: true }));
  check("GetParameter", name, Parameter);
}

const many = await client.send(new GetParametersCommand({ Names: [ask.absent, ...ask.many], WithDecryption: true }));
same("GetParameters, InvalidParameters", [ask.absent], many.InvalidParameters);
same("GetParameters, names", [...ask.many].sort(), many.Parameters.map(({ Name }) => Name).sort());
for (const parameter of many.Parameters) check("GetParameters", parameter.Name, parameter);

const listed = [];
const input = { Path: ask.path, Recursive: true, WithDecryption: true };
for await (const page of paginateGetParametersByPath({ client, pageSize: 3 }, input)) {
  if (page.Parameters.length > 3) fail(`GetParametersByPath: a page of ${page.Parameters.length}`);
  listed.push(...page.Parameters);
}
same("GetParametersByPath, names", names, listed.map(({ Name }) => Name));
for (const parameter of listed) check("GetParametersByPath", parameter.Name, parameter);

try {
  await client.send(new GetParameterCommand({ Name: ask.absent }));
  fail(`GetParameter ${ask.absent}: expected ParameterNotFound, got a parameter`);
} catch (error) {
  if (!(error instanceof ParameterNotFound)) fail(`GetParameter ${ask.absent}: expected ParameterNotFound, got ${error}`);
}

console.log(`@aws-sdk/client-ssm: ${listed.length} parameters as expected`);
