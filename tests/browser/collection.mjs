// Runs the Postman collection of deploy/postman against a coordinator: node collection.mjs FILE URL KEY.
// Of what collections can do it knows what ours does: folders, variables, raw bodies, bearer tokens, cookies, test scripts with
// pm.test, pm.response, pm.collectionVariables and pm.execution.setNextRequest. Anything else fails.

import { readFileSync } from "node:fs";

const STEPS_MAX = 10_000;
const [file, url, key] = process.argv.slice(2);
const collection = JSON.parse(readFileSync(file, "utf8"));
const variables = new Map(collection.variable.map(({ key, value }) => [key, value]));
variables.set("url", url);
variables.set("key", key);
const filled = (text) => text.replace(/\{\{(\w+)\}\}/g, (_, name) => {
  if (!variables.has(name)) throw new Error(`no variable ${name}`);
  return encodeFree(variables.get(name));
});
const encodeFree = (value) => String(value);
const steps = [];
const collect = (items) => { for (const item of items) item.item ? collect(item.item) : steps.push(item); };
collect(collection.item);

const cookies = new Map();
let tests = 0, failed = 0;
for (let at = 0, taken = 0; at < steps.length; taken++) {
  if (taken > STEPS_MAX) throw new Error("it does not end");
  const { name, request, event, protocolProfileBehavior } = steps[at];
  const headers = Object.fromEntries(request.header.map(({ key, value }) => [key, filled(value)]));
  if (request.auth) headers.authorization = `Bearer ${filled(request.auth.bearer[0].value)}`;
  else if (cookies.size) headers.cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  const answer = await fetch(filled(request.url.raw), {
    method: request.method,
    headers,
    body: request.body ? filled(request.body.raw) : undefined,
    redirect: protocolProfileBehavior?.followRedirects === false ? "manual" : "follow",
  });
  for (const set of answer.headers.getSetCookie()) {
    const [, name, value] = set.match(/^([^=]+)=([^;]*)/);
    cookies.set(name, value);
  }
  const text = await answer.text();
  let next = null;
  const pm = {
    test(title, check) {
      tests++;
      try { check(); } catch (error) { failed++; console.log(`FAILED ${name}: ${title}: ${error.message}`); }
    },
    response: { code: answer.status, text: () => text, json: () => JSON.parse(text), headers: answer.headers },
    collectionVariables: { set: (name, value) => variables.set(name, String(value)), get: (name) => variables.get(name) },
    execution: { setNextRequest: (name) => { next = name; } },
  };
  for (const { listen, script } of event) {
    if (listen !== "test") throw new Error(`${name}: ${listen} is not known`);
    new Function("pm", script.exec.join("\n"))(pm);
  }
  at = next === null ? at + 1 : steps.findIndex((step) => step.name === next);
  if (at < 0) throw new Error(`no request ${next}`);
}
console.log(`${steps.length} requests, ${tests} tests, ${failed} failed`);
process.exit(failed ? 1 : 0);
