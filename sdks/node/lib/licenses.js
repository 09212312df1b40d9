'use strict';
// License tokens: what a license says of itself, and whether it holds, without the service.

const domains = require('./domains');
const json = require('./json');
const { TokenRefused, verify } = require('./tokens');

const GRACE_MILLISECONDS = 7 * 86_400_000;
const MAXIMUM_MILLISECONDS = 253_402_300_799_999n;
const MAXIMUM_ITEMS = 100;

/** The claims of a token that a license key of the set has signed. Throws TokenRefused; asks no clock. */
function verifyLicense(token, keys) {
  const payload = verify(token, keys.forPurpose('license'), [null, 'jwt', 'license+jwt']);
  let members;
  try {
    members = json.parse(payload);
  } catch {
    throw new TokenRefused('bad_claims', 'claims');
  }
  if (!(members instanceof Map)) throw new TokenRefused('bad_claims', 'claims');
  if (members.repeated) throw new TokenRefused('bad_claims', 'repeated claim');
  const licenseId = json.plainText(members.get('sub'), 512);
  if (licenseId === null) throw new TokenRefused('bad_claims', 'sub');
  const read = (claim, reader) => {
    if (!members.has(claim)) return null;
    const value = reader(members.get(claim));
    if (value === null) throw new TokenRefused('bad_claims', claim);
    return value;
  };
  const short = (value) => json.plainText(value, 256);
  const plan = read('plan', short) ?? '';
  const features = read('features', readTexts) ?? [];
  const single = read('domain', short);
  const several = read('domains', readTexts) ?? [];
  const limits = read('limits', readLimits) ?? {};
  const isTrial = read('trial', (value) => (typeof value === 'boolean' ? value : null)) ?? false;
  const notBefore = read('nbf', readTime);
  const issuedAt = read('iat', readTime);
  if (issuedAt === null) throw new TokenRefused('bad_claims', 'iat');
  const expiresAt = read('exp', readTime);
  if (expiresAt === null || expiresAt <= issuedAt) throw new TokenRefused('bad_claims', 'exp');
  const bound = [...new Set([...(single === null ? [] : [single]), ...several])];
  return { licenseId, domains: bound, plan, features, limits, issuedAt, expiresAt, notBefore, isTrial };
}

/** `not_yet_valid`, `expired`, `domain_mismatch`, `grace` or `valid`; the last two hold. */
function judge(claims, domain, now = Date.now()) {
  if (claims.notBefore !== null && now < claims.notBefore) return 'not_yet_valid';
  const isExpired = now >= claims.expiresAt;
  if (isExpired && (claims.isTrial || now >= claims.expiresAt + GRACE_MILLISECONDS)) return 'expired';
  if (!domains.covers(claims.domains, domains.normalize(domain))) return 'domain_mismatch';
  return isExpired ? 'grace' : 'valid';
}

function readTexts(value) {
  if (!Array.isArray(value) || value.length > MAXIMUM_ITEMS) return null;
  const texts = value.map((element) => json.plainText(element, 256));
  return texts.includes(null) ? null : texts;
}

function readLimits(value) {
  if (!(value instanceof Map) || value.repeated || value.size > MAXIMUM_ITEMS) return null;
  const limits = Object.create(null);
  for (const [name, quantity] of value) {
    if (quantity === null) continue;
    const number = quantity instanceof json.JSONNumber ? quantity.integer : null;
    if (json.plainText(name, 64) === null || number === null || number < 0n) return null;
    limits[name] = Number(number);
  }
  return limits;
}

function readTime(value) {
  const milliseconds = value instanceof json.JSONNumber ? value.scaled(3) : null;
  if (milliseconds === null || milliseconds < 0n || milliseconds > MAXIMUM_MILLISECONDS) return null;
  return Number(milliseconds);
}

module.exports = { GRACE_MILLISECONDS, verifyLicense, judge };
