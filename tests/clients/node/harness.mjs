// Shared parts of the Node checks: running and reporting checks, and common texts.
// A script is called as CLIENT_MODULES=DIRECTORY node SCRIPT BASE_URL. It prints `ok …` or `FAILED …`
// for each check; the exit code is 0 if all passed.

import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

// The packages are not installed next to the scripts.
const modules = createRequire(path.join(path.resolve(process.env.CLIENT_MODULES), "package.json"));
export const load = (name) => import(pathToFileURL(modules.resolve(name)));

export const baseURL = process.argv[2];
export const model = (await (await fetch(`${baseURL}/models`)).json()).data[0].id;
export const noModel = /no model wrote this/;
export const redDot =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

export const weatherIn = (city) => `12 degrees in ${city}`;

export async function collect(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

export async function run(client, checks) {
  let failures = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok ${client} ${name}`);
    } catch (error) {
      failures += 1;
      console.log(`FAILED ${client} ${name}: ${String(error?.message ?? error).replaceAll("\n", " ")}`);
      console.error(error);
    }
  }
  process.exit(failures === 0 ? 0 : 1);
}
