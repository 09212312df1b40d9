'use strict';
// Usage on its way to the service: a bounded queue that never makes its caller wait.

const crypto = require('node:crypto');
const json = require('./json');

const BATCH = 500;
const INTERVAL = 1_000;
const MAXIMUM_DELAY = 60_000;
// The service will never take such a batch, however often it comes.
const FOR_GOOD = new Set(['http_400', 'http_404', 'http_413', 'http_415', 'http_422']);

/** Sends events in batches; a retry has the same ids, so that each counts once. */
class UsageQueue {
  #events = [];
  #timer = null;
  #sending = null;
  #failures = 0;
  #isClosed = false;
  #counts = { accepted: 0, sent: 0, rejected: 0, dropped: 0 };
  #beforeExit = () => void this.close();

  /** `send(events, milliseconds)` gives the places of those that the service refused for good, or throws NoAnswer. */
  constructor(send, maximum, report) {
    Object.assign(this, { send, maximum, report });
    this.source = `sdk/node/${crypto.randomBytes(8).toString('hex')}`;
  }

  /** What became of the events so far. */
  get statistics() {
    return { ...this.#counts, pending: this.#events.length };
  }

  /** Queues an event. False: it was dropped, and counted. */
  record(subject, meter, quantity, now, { domain, feature } = {}) {
    const isGood = json.plainText(subject, 512) !== null
      && typeof meter === 'string' && /^[a-z][a-z0-9_]{0,63}$/.test(meter)
      && Number.isInteger(quantity) && quantity >= 0 && quantity <= 1e9
      && [domain, feature].every((text) => text === undefined || (json.text(text, 1024) !== null && !text.includes('\0')));
    if (!isGood || this.#isClosed || this.#events.length >= this.maximum) {
      this.#counts.dropped += 1;
      this.report(isGood ? 'usage_dropped' : 'usage_invalid');
      return false;
    }
    this.#events.push({
      specversion: '1.0', id: crypto.randomUUID(), source: this.source, type: 'license.usage.recorded',
      subject, time: new Date(now).toISOString(), data: { meter, quantity, domain, feature },
    });
    this.#counts.accepted += 1;
    if (this.#counts.accepted === 1) process.once('beforeExit', this.#beforeExit);
    if (this.#events.length >= BATCH && this.#failures === 0) void this.#deliver();
    else this.#schedule();
    return true;
  }

  /** Sends what is queued now. Whether all of it went out in time (milliseconds). */
  async flush(timeout = 5_000) {
    const end = performance.now() + timeout;
    while (this.#events.length > 0 && performance.now() < end) {
      const isDelivered = await within(this.#deliver(end), end - performance.now());
      if (isDelivered === false) await sleep(Math.min(200, Math.max(0, end - performance.now())));
    }
    return this.#events.length === 0;
  }

  /** Flushes, and takes nothing more. What is left is dropped, counted and reported. */
  async close(timeout = 5_000) {
    if (this.#isClosed) return;
    await this.flush(timeout);
    this.#isClosed = true;
    clearTimeout(this.#timer);
    process.removeListener('beforeExit', this.#beforeExit);
    if (this.#events.length > 0) {
      this.#counts.dropped += this.#events.length;
      this.#events = [];
      this.report('usage_dropped');
    }
  }

  #schedule() {
    if (this.#timer !== null || this.#isClosed || this.#events.length === 0) return;
    const delay = this.#failures === 0 ? INTERVAL : Math.min(INTERVAL * 2 ** this.#failures, MAXIMUM_DELAY);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#deliver();
    }, delay);
    // A process may end meanwhile: `beforeExit` sends the rest then.
    this.#timer.unref();
  }

  /** One batch at a time, whose events stay in the queue until it is known what became of them. Whether that is known. */
  #deliver(end = Infinity) {
    this.#sending ??= this.#deliverOne(end).finally(() => {
      this.#sending = null;
      this.#schedule();
    });
    return this.#sending;
  }

  async #deliverOne(end) {
    const batch = this.#events.slice(0, BATCH);
    if (batch.length === 0) return true;
    let rejected = 0;
    let problem = null;
    try {
      rejected = new Set(await this.send(batch, Math.max(end - performance.now(), 100))).size;
    } catch (error) {
      problem = error.problem ?? 'usage_failed';
    }
    if (problem !== null && !FOR_GOOD.has(problem)) {
      this.#failures = Math.min(this.#failures + 1, 6);
      this.report(problem);
      return false;
    }
    this.#failures = 0;
    if (this.#isClosed) return true; // It was counted as dropped, and may count all the same.
    this.#events.splice(0, batch.length);
    if (problem === null) {
      this.#counts.sent += batch.length - rejected;
      this.#counts.rejected += rejected;
      if (rejected > 0) this.report('usage_rejected');
    } else {
      this.#counts.dropped += batch.length;
      this.report('usage_dropped');
    }
    return true;
  }
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)));
}

/** What a promise gives, or undefined after so long. No timer is left, which would keep a process alive. */
async function within(promise, milliseconds) {
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, Math.max(0, milliseconds)); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

module.exports = { UsageQueue, sleep };
