'use strict';
// Signed answers of the validation service.

const crypto = require('node:crypto');
const json = require('./json');
const { TokenRefused, verify } = require('./tokens');

const TOLERANCE_MILLISECONDS = 300_000;
const TIMESTAMP = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$/;

/** SHA-256 of the key's bytes, in base64url without padding. */
function licenseKeyHash(licenseKey) {
  return crypto.createHash('sha256').update(licenseKey).digest('base64url');
}

/**
 * The verdict of a signature, where it answers this very question. Throws TokenRefused.
 * `nonce` and `now` are null for an answer that was verified when it came and is read back from a cache.
 */
function verifyVerdict(signature, keys, { licenseKey, domain, nonce, now }) {
  const payload = verify(signature, keys.forPurpose('verdict'), ['verdict+jwt']);
  let members;
  try {
    members = json.parse(payload);
  } catch {
    members = null;
  }
  if (!(members instanceof Map) || members.repeated) throw new TokenRefused('other_nonce');
  if (nonce !== null && !equals(members.get('nonce'), nonce)) throw new TokenRefused('other_nonce');
  if (!equals(members.get('licenseKeyHash'), licenseKeyHash(licenseKey))) throw new TokenRefused('other_question');
  if (members.get('domain') !== (domain === null ? null : domain.text)) throw new TokenRefused('other_question');
  const timestamp = milliseconds(members.get('timestamp'));
  if (timestamp === null || (now !== null && Math.abs(now - timestamp) > TOLERANCE_MILLISECONDS)) {
    throw new TokenRefused('stale');
  }
  return readVerdict(members, timestamp);
}

/** When the service signed a verdict, whatever it answers; 0 where it is none of the service's. */
function signedTime(signature, keys) {
  try {
    const members = json.parse(verify(signature, keys.forPurpose('verdict'), ['verdict+jwt']));
    return (members instanceof Map && milliseconds(members.get('timestamp'))) || 0;
  } catch {
    return 0;
  }
}

/** Of `2026-11-23T18:40:00.123Z`; null for any other spelling. */
function milliseconds(value) {
  if (typeof value !== 'string' || !TIMESTAMP.test(value)) return null;
  const time = new Date(value);
  return !Number.isNaN(time.getTime()) && time.toISOString() === value ? time.getTime() : null;
}

function equals(value, expected) {
  if (json.text(value) === null) return false;
  const [a, b] = [Buffer.from(value), Buffer.from(expected)];
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}

function readVerdict(members, timestamp) {
  const valid = members.get('valid');
  const code = json.text(members.get('code'));
  const features = members.has('features') ? members.get('features') : [];
  if (typeof valid !== 'boolean' || code === null || !Array.isArray(features)) throw new TokenRefused('bad_claims', 'verdict');
  const limits = Object.create(null);
  if (members.get('limits') instanceof Map) {
    for (const [name, value] of members.get('limits')) {
      if (value instanceof json.JSONNumber && value.integer !== null) limits[name] = Number(value.integer);
    }
  }
  return {
    valid, code, timestamp, limits,
    licenseId: json.text(members.get('licenseId')),
    plan: json.text(members.get('plan')),
    features: features.filter((feature) => json.text(feature) !== null),
    expiresAt: milliseconds(members.get('expiresAt')),
    grace: members.get('grace') === true,
    overLimit: members.get('overLimit') === true,
    error: json.text(members.get('error')),
  };
}

module.exports = { TOLERANCE_MILLISECONDS, verifyVerdict, signedTime, licenseKeyHash };
