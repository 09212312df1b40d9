'use strict';
// A client for tests: no network, no clock.

const { Features } = require('./client');

/** Stands in for `Client`. Answers what it is told, and remembers what it was asked. */
class FakeClient {
  constructor(answer = {}) {
    this.asked = [];
    this.recorded = [];
    this.set(answer);
  }

  /** Changes the answer: members of a result, `features` an array. */
  set({ valid = true, features = [], ...members } = {}) {
    this.result = {
      valid, code: valid ? 'valid' : 'not_found', source: 'online', age: 0, licenseId: null, plan: null, limits: {},
      expiresAt: null, grace: false, overLimit: false, explanation: null, problem: null, ...members,
      features: new Features(features),
    };
  }

  async validate(domain) {
    this.asked.push(domain);
    return this.result;
  }

  validateOffline(domain) {
    this.asked.push(domain);
    return this.result;
  }

  record(meter, quantity = 1, details = {}) {
    this.recorded.push({ meter, quantity, ...details });
    return true;
  }

  async close() {}
}

module.exports = { FakeClient };
