// Readers of what `export` prints: node formats.mjs READER FILE prints what it reads as JSON.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import dotenv from "dotenv";
import { load } from "js-yaml";

const [reader, file] = process.argv.slice(2);
const print = "process.stdout.write(JSON.stringify(process.env))";
const readers = {
  "env-file": () => JSON.parse(execFileSync(process.execPath, [`--env-file=${file}`, "-e", print], { env: {} })),
  dotenv: () => dotenv.parse(readFileSync(file)),
  json: () => JSON.parse(readFileSync(file, "utf8")),
  yaml: () => load(readFileSync(file, "utf8")),
};
process.stdout.write(JSON.stringify(readers[reader]()));
