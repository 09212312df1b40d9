'use strict';
// Asks the validation service whether a license holds, and remembers what it said.

const crypto = require('node:crypto');
const json = require('./json');
const { Cache } = require('./cache');
const { normalize } = require('./domains');
const { NoAnswer, Transport, readAuthorities } = require('./http');
const { GRACE_MILLISECONDS, judge, verifyLicense } = require('./licenses');
const { KeySet, TokenRefused } = require('./tokens');
const { UsageQueue, sleep } = require('./usage');
const verdicts = require('./verdicts');
const { version } = require('../package.json');

const MAXIMUM_ANSWER_BYTES = 65_536;
const MAXIMUM_KEYS_BYTES = 1 << 20;
const TRIES = 3;
const KEYS_PAUSE = 60_000;
const NO_IS_FRESH = 60_000;
const EXPLANATIONS = {
  domain_mismatch: 'The license is not valid for this domain.',
  expired: 'The license has expired.',
  not_yet_valid: 'The license is not valid yet.',
  invalid_signature: 'The license key is not accepted: it was not signed by its vendor, or was changed since.',
  clock_rolled_back: 'The clock is behind a time that the license service has signed.',
  unreachable: 'The license service gave no valid answer, and nothing is known about the license.',
};
const DEFAULTS = {
  pins: [], pinMode: 'enforce', freshFor: 300, graceFor: GRACE_MILLISECONDS / 1000, onUnknown: 'graceThenDeny',
  offlineFallback: false, connectTimeout: 2, totalTimeout: 5, pauseAfterFailure: 10, maxUsageQueue: 10_000,
  onProblem: () => {}, clock: Date.now,
};

/** What a license unlocks: `features.has('analytics')`. */
class Features extends Set {}

/** A client of one validation service; see index.d.ts for its options. */
class Client {
  #keys;
  #isCompiled;
  #keysAsked = -Infinity;
  #flights = new Map();
  #pausedUntil = -Infinity;
  #problem = 'connection';
  #cache;
  #transport;
  #options;

  constructor(options) {
    this.#options = { ...DEFAULTS, ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) };
    const { url, pins, pinMode, connectTimeout, freshFor, graceFor, onUnknown, keys, cacheDir } = this.#options;
    if (!(freshFor >= 60 && freshFor <= 3600)) throw new RangeError('freshFor must be 60 to 3,600 seconds');
    if (!(graceFor >= 0 && graceFor <= GRACE_MILLISECONDS / 1000)) {
      throw new RangeError('graceFor must be 0 to 604,800 seconds: seven days');
    }
    if (!['graceThenDeny', 'allow', 'deny'].includes(onUnknown)) {
      throw new TypeError('onUnknown must be graceThenDeny, allow or deny');
    }
    this.#transport = new Transport({
      url, pins, pinMode, connectTimeout: connectTimeout * 1000, ca: readAuthorities(this.#options.caFile),
      report: (problem) => this.#report(problem),
    });
    this.#isCompiled = keys !== undefined && keys !== null;
    this.#keys = this.#isCompiled ? (keys instanceof KeySet ? keys : new KeySet(keys)) : null;
    this.#cache = new Cache(
      cacheDir,
      (signature, licenseKey, domain) => this.#saved(signature, licenseKey, domain),
      (signature) => (this.#keys === null || typeof signature !== 'string' ? 0 : verdicts.signedTime(signature, this.#keys)),
    );
    this.usage = new UsageQueue(
      (events, timeout) => this.#sendUsage(events, timeout), this.#options.maxUsageQueue, (problem) => this.#report(problem),
    );
    if (this.#keys === null) {
      try {
        const saved = this.#cache.savedKeys();
        if (saved !== null) this.#keys = new KeySet(saved);
      } catch {
        // Keys that cannot be read are fetched.
      }
    }
  }

  // --- Validation ---------------------------------------------------------------------------------------------------

  /** Whether the license holds for a domain. Rejects for wrong arguments alone, never for a "no". */
  async validate(domain, licenseKey) {
    const key = this.#key(licenseKey);
    const name = normalize(domain);
    if (name === null) return denied('domain_mismatch', 'offline');
    const remembered = this.#remembered(key, name);
    if (remembered !== null) return remembered;
    let problem = this.#problem;
    if (performance.now() >= this.#pausedUntil) {
      try {
        return this.#result(await this.#ask(key, name), 'online');
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error;
        problem = error.problem;
      }
    }
    return this.#withoutAnswer(key, name, problem);
  }

  /** The verdict on a license token, by its signature alone. Needs keys, compiled in or fetched before. */
  validateOffline(domain, licenseKey) {
    const key = this.#key(licenseKey);
    if (this.#isRolledBack()) return denied('clock_rolled_back', 'offline');
    if (this.#keys === null) return denied('unreachable', 'offline', 'no_keys');
    let claims;
    try {
      claims = verifyLicense(key, this.#keys);
    } catch (error) {
      if (!(error instanceof TokenRefused)) throw error;
      return denied('invalid_signature', 'offline', error.code);
    }
    return offlineResult(claims, judge(claims, domain, this.#options.clock()));
  }

  /** Queues usage, without waiting. False where it was dropped: the queue is full, or an argument is wrong. */
  record(meter, quantity = 1, { licenseId, domain, feature } = {}) {
    const own = this.#options.licenseKey;
    const subject = licenseId ?? (typeof own === 'string' && !own.includes('.') ? own : undefined);
    return this.usage.record(subject, meter, quantity, this.#options.clock(), { domain, feature });
  }

  /** Sends what is queued, for at most so many milliseconds. */
  close(timeout = 5_000) {
    return this.usage.close(timeout);
  }

  // --- What is remembered -------------------------------------------------------------------------------------------

  #remembered(key, name) {
    if (this.#isRolledBack()) return denied('clock_rolled_back', 'none');
    let entry = this.#cache.get(key, name);
    if (entry === null || this.#age(entry) >= this.#freshness(entry)) entry = this.#cache.load(key, name);
    if (entry === null || this.#isOver(entry)) return null;
    const age = this.#age(entry);
    if (age < this.#freshness(entry)) return this.#result(entry, 'cache');
    if (!entry.verdict.valid || age >= 2 * this.#options.freshFor * 1000) return null;
    if (performance.now() >= this.#pausedUntil) this.#ask(key, name).catch(() => {}); // It was reported.
    return this.#result(entry, 'cache');
  }

  #withoutAnswer(key, name, problem) {
    if (this.#isRolledBack()) return denied('clock_rolled_back', 'none', problem);
    const entry = this.#cache.load(key, name);
    const { clock, onUnknown, graceFor, offlineFallback } = this.#options;
    const now = clock();
    if (entry !== null && !entry.verdict.valid) return this.#result(entry, 'cache', problem);
    if (entry !== null && onUnknown !== 'deny') {
      const { expiresAt, timestamp } = entry.verdict;
      if (expiresAt !== null && now >= expiresAt + GRACE_MILLISECONDS) return denied('expired', 'cache', problem);
      if (now - timestamp <= graceFor * 1000) return this.#result(entry, 'grace', problem);
    }
    if (offlineFallback && this.#keys !== null) {
      const offline = this.validateOffline(name.text, key);
      if (offline.problem === null) return offline;
    }
    return { ...denied('unreachable', 'none', problem), valid: onUnknown === 'allow' };
  }

  #isRolledBack() {
    return this.#options.clock() < this.#cache.highest() - verdicts.TOLERANCE_MILLISECONDS;
  }

  #age(entry) {
    return Math.max(0, this.#options.clock() - entry.received);
  }

  #freshness(entry) {
    const fresh = this.#options.freshFor * 1000;
    return entry.verdict.valid ? fresh : Math.min(fresh, NO_IS_FRESH);
  }

  /** Whether the license has reached an end since: it is asked about then. */
  #isOver({ verdict }) {
    if (verdict.expiresAt === null || !verdict.valid) return false;
    return this.#options.clock() >= verdict.expiresAt + (verdict.grace ? GRACE_MILLISECONDS : 0);
  }

  #result({ verdict }, source, problem = null) {
    const now = this.#options.clock();
    const grace = verdict.grace || (verdict.valid && verdict.expiresAt !== null && now >= verdict.expiresAt);
    return {
      valid: verdict.valid,
      code: grace && verdict.code === 'valid' ? 'grace' : verdict.code,
      source,
      age: source === 'online' ? 0 : Math.max(0, now - verdict.timestamp) / 1000,
      licenseId: verdict.licenseId,
      plan: verdict.plan,
      features: new Features(verdict.valid ? verdict.features : []),
      limits: { ...verdict.limits },
      expiresAt: verdict.expiresAt === null ? null : new Date(verdict.expiresAt),
      grace,
      overLimit: verdict.overLimit,
      explanation: verdict.error,
      problem,
    };
  }

  // --- Asking -------------------------------------------------------------------------------------------------------

  /** Equal questions that are on their way are one. */
  #ask(key, name) {
    const flightKey = `${key}\0${name.text}`;
    let flight = this.#flights.get(flightKey);
    if (flight === undefined) {
      flight = this.#fly(key, name).finally(() => this.#flights.delete(flightKey));
      this.#flights.set(flightKey, flight);
    }
    return flight;
  }

  async #fly(key, name) {
    try {
      const entry = await this.#answer(key, name);
      this.#cache.put(key, name, entry);
      return entry;
    } catch (error) {
      if (error instanceof NoAnswer) {
        this.#problem = error.problem;
        const pause = Math.max(this.#options.pauseAfterFailure, Math.min(error.retryAfter, 300));
        this.#pausedUntil = performance.now() + pause * 1000;
        this.#report(error.problem);
      }
      throw error;
    }
  }

  async #answer(key, name) {
    const deadline = performance.now() + this.#options.totalTimeout * 1000;
    const nonce = crypto.randomBytes(16).toString('hex');
    const headers = { ...this.#headers('application/json'), 'Idempotency-Key': crypto.randomBytes(16).toString('hex') };
    const body = JSON.stringify({ licenseKey: key, domain: name.text, nonce });
    const options = { headers, deadline, limit: MAXIMUM_ANSWER_BYTES, body };
    const answer = await this.#retrying('POST', '/v1/licenses/validate', options);
    let signature = null;
    try {
      const members = json.parse(answer);
      if (members instanceof Map) signature = json.text(members.get('signature'));
    } catch {
      // It is no answer of the service's.
    }
    if (signature === null) throw new NoAnswer('untrusted');
    const verdict = await this.#verified(signature, key, name, nonce, deadline);
    return { verdict, signature, received: this.#options.clock() };
  }

  async #verified(signature, licenseKey, domain, nonce, deadline) {
    let keys = this.#keys ?? (await this.#fetchKeys(deadline));
    for (let isLast = this.#isCompiled; ; isLast = true) {
      try {
        return verdicts.verifyVerdict(signature, keys, { licenseKey, domain, nonce, now: this.#options.clock() });
      } catch (error) {
        // The service may have a new key; it is asked at most once a minute.
        if (error.code !== 'unknown_key' || isLast || performance.now() < this.#keysAsked + KEYS_PAUSE) {
          throw new NoAnswer('untrusted');
        }
        keys = await this.#fetchKeys(deadline);
      }
    }
  }

  async #fetchKeys(deadline) {
    this.#keysAsked = performance.now();
    const options = { headers: this.#headers(), deadline, limit: MAXIMUM_KEYS_BYTES };
    const body = await this.#retrying('GET', '/.well-known/jwks.json', options);
    try {
      this.#keys = new KeySet(body);
    } catch {
      throw new NoAnswer('untrusted');
    }
    this.#cache.saveKeys(this.#keys.source);
    return this.#keys;
  }

  async #retrying(method, path, options) {
    for (let retry = 0; ; retry += 1) {
      try {
        const answer = await this.#transport.request(method, path, options);
        if (answer.status === 200) return answer.body;
        throw refusal(answer);
      } catch (error) {
        const delay = Math.max((0.5 + Math.random() / 2) * 100 * 2 ** retry, (error.retryAfter ?? 0) * 1000);
        const isLast = !error.isTemporary || retry === TRIES - 1 || performance.now() + delay >= options.deadline;
        if (isLast) throw error;
        await sleep(delay);
      }
    }
  }

  #headers(contentType) {
    const headers = { Accept: 'application/json', 'User-Agent': `license-metering-node/${version}` };
    if (contentType !== undefined) headers['Content-Type'] = contentType;
    if (this.#options.token !== undefined) headers.Authorization = `Bearer ${this.#options.token}`;
    return headers;
  }

  async #sendUsage(events, timeout) {
    const answer = await this.#transport.request('POST', '/v1/events', {
      headers: this.#headers('application/cloudevents-batch+json'),
      deadline: performance.now() + Math.min(timeout, this.#options.totalTimeout * 1000),
      limit: MAXIMUM_KEYS_BYTES,
      body: JSON.stringify(events),
    });
    if (answer.status !== 202) throw refusal(answer);
    try {
      return JSON.parse(answer.body.toString()).rejected.map((event) => event.index);
    } catch {
      throw new NoAnswer('untrusted', true);
    }
  }

  #key(licenseKey) {
    const key = licenseKey ?? this.#options.licenseKey;
    if (json.plainText(key, 8192) === null) {
      throw new TypeError('licenseKey must be a text of 1 to 8,192 bytes without control characters');
    }
    return key;
  }

  #saved(signature, licenseKey, domain) {
    if (this.#keys === null || typeof signature !== 'string') return null;
    try {
      return verdicts.verifyVerdict(signature, this.#keys, { licenseKey, domain, nonce: null, now: null });
    } catch {
      return null; // What was changed is not known.
    }
  }

  #report(problem) {
    this.#options.onProblem(problem);
  }
}

function refusal({ status, headers }) {
  const isTemporary = status === 408 || status === 429 || status >= 500;
  const seconds = headers['retry-after'];
  const retryAfter = isTemporary && /^[0-9]{1,6}$/.test(seconds ?? '') ? Number(seconds) : 0;
  return new NoAnswer(`http_${status}`, isTemporary, retryAfter);
}

function denied(code, source, problem = null) {
  return {
    valid: false, code, source, age: 0, licenseId: null, plan: null, features: new Features(), limits: {},
    expiresAt: null, grace: false, overLimit: false, explanation: EXPLANATIONS[code] ?? null, problem,
  };
}

function offlineResult(claims, code) {
  const valid = code === 'valid' || code === 'grace';
  return {
    ...denied(code, 'offline'),
    valid,
    licenseId: claims.licenseId,
    plan: claims.plan,
    features: new Features(valid ? claims.features : []),
    limits: { ...claims.limits },
    expiresAt: new Date(claims.expiresAt),
    grace: code === 'grace',
    explanation: valid ? null : EXPLANATIONS[code] ?? null,
  };
}

module.exports = { Client, Features };
