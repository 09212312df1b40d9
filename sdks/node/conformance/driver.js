#!/usr/bin/env node
'use strict';
// Lets the conformance runner try this SDK: a JSON object a line in, one a line out.

const readline = require('node:readline');
const sdk = require('..');

let client = null;
let offset = 0;
let problems = [];

function shown(result) {
  return {
    valid: result.valid, code: result.code, source: result.source, age: Math.floor(result.age),
    features: [...result.features].sort(), grace: result.grace, problem: result.problem,
  };
}

function refused(error) {
  if (!(error instanceof sdk.TokenRefused)) throw error;
  return { refusal: error.code, claim: error.claim };
}

const operations = {
  hello: () => ({ idna: true, frameworks: ['express', 'fastify'] }),
  keyset({ set }) {
    try {
      return { keys: new sdk.KeySet(set).keys.map((key) => `${key.keyId} ${key.algorithm} ${key.purpose}`) };
    } catch (error) {
      if (!(error instanceof sdk.InvalidKeySet)) throw error;
      return { invalid: true };
    }
  },
  license({ token, keys }) {
    try {
      const { isTrial, notBefore, ...claims } = sdk.verifyLicense(token, new sdk.KeySet(keys));
      return { claims: { ...claims, trial: isTrial, notBefore: notBefore ?? undefined } };
    } catch (error) {
      return refused(error);
    }
  },
  verdict({ token, keys, licenseKey, domain, nonce, now }) {
    try {
      sdk.verifyVerdict(token, new sdk.KeySet(keys), { licenseKey, domain: sdk.normalize(domain), nonce, now });
      return {};
    } catch (error) {
      return refused(error);
    }
  },
  domain({ text }) {
    const name = sdk.normalize(text);
    return { name: name?.text ?? null, local: name?.isLocal ?? false };
  },
  covers: ({ bound, domain }) => ({ covers: sdk.covers(bound, sdk.normalize(domain)) }),
  offline({ token, keys, domain, now }) {
    let code = 'invalid_signature';
    try {
      code = sdk.judge(sdk.verifyLicense(token, new sdk.KeySet(keys)), domain, now);
    } catch (error) {
      refused(error);
    }
    return { code, valid: code === 'valid' || code === 'grace' };
  },
  open({ options }) {
    offset = 0;
    problems = [];
    try {
      client = new sdk.Client({ ...options, clock: () => Date.now() + offset, onProblem: (problem) => problems.push(problem) });
      return {};
    } catch (error) {
      return { error: error.message };
    }
  },
  validate: async ({ domain, licenseKey }) => shown(await client.validate(domain, licenseKey)),
  validateOffline: ({ domain, licenseKey }) => shown(client.validateOffline(domain, licenseKey)),
  async validateMany({ domain, count }) {
    const results = await Promise.all(Array.from({ length: count }, () => client.validate(domain)));
    return { results: results.map(shown) };
  },
  clock(request) {
    offset = request.offset;
    return {};
  },
  record({ meter, quantity = 1, count = 1 }) {
    return { accepted: Array.from({ length: count }, () => client.record(meter, quantity)).filter(Boolean).length };
  },
  flush: async ({ timeout = 5 }) => ({ flushed: await client.usage.flush(timeout * 1000), ...operations.statistics() }),
  statistics: () => ({ statistics: client.usage.statistics }),
  problems() {
    const taken = problems.splice(0);
    return { problems: taken };
  },
  async close({ timeout = 5 }) {
    await client.close(timeout * 1000);
    return operations.statistics();
  },
  async middleware(request) {
    const { framework, peer, host, forwarded, valid, code, features, domain, trusted } = request;
    const fake = new sdk.FakeClient({ valid, code, features });
    const headers = { host, ...(forwarded === undefined ? {} : { 'x-forwarded-host': forwarded }) };
    const incoming = { headers, socket: { remoteAddress: peer } };
    const options = { domain, trustedProxies: trusted };
    const seen = await (framework === 'express' ? tryExpress : tryFastify)(incoming, fake, options);
    return { ...seen, asked: fake.asked[0], code: seen.body === undefined ? undefined : JSON.parse(seen.body).code };
  },
};

function tryExpress(incoming, fake, options) {
  return new Promise((resolve, reject) => {
    const response = { setHeader() {}, end(body) { resolve({ status: this.statusCode, body, feature: null }); } };
    sdk.express(fake, options)(incoming, response, (error) => {
      if (error) reject(error);
      else resolve({ status: 200, feature: incoming.license.features.has('analytics') });
    });
  });
}

/** What a server of Fastify does with a plugin. */
async function tryFastify(incoming, fake, options) {
  let hook;
  const instance = { decorateRequest() {}, addHook(name, handler) { hook = handler; } };
  await sdk.fastify(instance, { ...options, client: fake });
  const seen = { status: 200 };
  const reply = {
    code(status) { seen.status = status; return this; },
    type() { return this; },
    send(body) { seen.body = body; return this; },
  };
  const request = { raw: incoming };
  await hook(request, reply);
  return { ...seen, feature: seen.status === 200 ? request.license.features.has('analytics') : null };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    process.stdout.write(`${JSON.stringify(await operations[request.op](request))}\n`);
  }
}

main();
