'use strict';
// Key sets (RFC 7517) and compact JWS (RFC 7515), by the rules of docs/verification.md.

const crypto = require('node:crypto');
const json = require('./json');

const MAXIMUM_TOKEN_BYTES = 8192;
const MAXIMUM_SET_BYTES = 1 << 20;
const MAXIMUM_KEYS = 100;
const ALGORITHMS = new Map([['EdDSA', 'EdDSA'], ['Ed25519', 'EdDSA'], ['ES256', 'ES256'], ['RS256', 'RS256']]);

/** A token that is not believed. `code` names the rule; `claim` the claim of `bad_claims`. */
class TokenRefused extends Error {
  constructor(code, claim) {
    super(claim === undefined ? code : `${code}: ${claim}`);
    this.name = 'TokenRefused';
    this.code = code;
    this.claim = claim;
  }
}

/** A key set that is malformed. The message names the key and the member, never a value. */
class InvalidKeySet extends Error {
  constructor(message) {
    super(message);
    this.name = 'InvalidKeySet';
  }
}

/** The keys of `GET /.well-known/jwks.json`: `new KeySet(text)`, or of a Buffer or an object. */
class KeySet {
  constructor(source) {
    if (typeof source === 'object' && source !== null && !(source instanceof Uint8Array)) source = JSON.stringify(source);
    const bytes = Buffer.from(source);
    if (bytes.length > MAXIMUM_SET_BYTES) throw new InvalidKeySet('more than 1 MiB');
    let members;
    try {
      members = json.parse(bytes);
    } catch {
      throw new InvalidKeySet('not a JSON Web Key Set');
    }
    if (!(members instanceof Map) || members.repeated || !Array.isArray(members.get('keys'))) {
      throw new InvalidKeySet('not a JSON Web Key Set');
    }
    const elements = members.get('keys');
    if (elements.length > MAXIMUM_KEYS) throw new InvalidKeySet('more than 100 keys');
    this.source = bytes.toString();
    this.keys = [];
    elements.forEach((element, index) => {
      if (!(element instanceof Map)) throw new InvalidKeySet(`key ${index + 1}: not an object`);
      if (!isOfUse(element)) return;
      try {
        this.#add(readKey(element));
      } catch (error) {
        throw new InvalidKeySet(`key ${index + 1}: ${error.message}`);
      }
    });
  }

  #add(key) {
    for (const other of this.keys) {
      if (other.keyId !== key.keyId || other.purpose !== key.purpose || other.algorithm !== key.algorithm) continue;
      if (other.thumbprint === key.thumbprint) return;
      throw new InvalidKeySet('kid stands twice');
    }
    this.keys.push(key);
  }

  /** The keys of a purpose: `license` or `verdict`. */
  forPurpose(purpose) {
    return this.keys.filter((key) => key.purpose === purpose);
  }
}

/** Base64url without padding, in its one spelling; null for all else. */
function decode(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : null;
}

/**
 * The payload of a compact JWS that one of the keys signed. Throws TokenRefused.
 * `types` is what `typ` may be, in lower case and without `application/`; null stands for an absent one.
 */
function verify(token, keys, types) {
  if (Buffer.byteLength(token) > MAXIMUM_TOKEN_BYTES) throw new TokenRefused('too_large');
  const parts = token.split('.', 4);
  const [head, payload, signature] = parts.map(decode);
  if (parts.length !== 3 || !head || !payload || !signature) throw new TokenRefused('not_compact');
  const header = readHeader(head);
  if (!types.includes(header.type)) throw new TokenRefused('wrong_type');
  const named = header.keyId === null ? keys : keys.filter((key) => key.keyId === header.keyId);
  if (named.length === 0) throw new TokenRefused('unknown_key');
  const fitting = named.filter((key) => key.algorithm === header.algorithm);
  if (fitting.length === 0) throw new TokenRefused('algorithm_mismatch');
  if (fitting.length !== 1) throw new TokenRefused('unknown_key');
  if (!isSigned(fitting[0], signature, Buffer.from(`${parts[0]}.${parts[1]}`))) throw new TokenRefused('bad_signature');
  return payload;
}

/** By the key's own algorithm, whatever the token says. */
function isSigned(key, signature, data) {
  if (signature.length !== key.signatureBytes) return false;
  try {
    switch (key.algorithm) {
      case 'EdDSA': return crypto.verify(null, data, key.material, signature);
      case 'ES256': return crypto.verify('sha256', data, { key: key.material, dsaEncoding: 'ieee-p1363' }, signature);
      default:
        return crypto.verify('sha256', data, { key: key.material, padding: crypto.constants.RSA_PKCS1_PADDING }, signature);
    }
  } catch {
    return false; // What is no signature is not valid, for whichever reason.
  }
}

function readHeader(bytes) {
  let members;
  try {
    members = json.parse(bytes);
  } catch {
    throw new TokenRefused('bad_header');
  }
  const name = members instanceof Map && !members.repeated ? json.text(members.get('alg')) : null;
  if (name === null) throw new TokenRefused('bad_header');
  const algorithm = ALGORITHMS.get(name);
  if (algorithm === undefined) throw new TokenRefused('unsupported_algorithm');
  if (members.has('crit') || members.has('b64')) throw new TokenRefused('critical');
  const header = { algorithm, keyId: null, type: null };
  if (members.has('kid')) {
    header.keyId = json.text(members.get('kid'), 256);
    if (header.keyId === null) throw new TokenRefused('bad_header');
  }
  if (members.has('typ')) {
    const type = json.text(members.get('typ'));
    if (type === null) throw new TokenRefused('bad_header');
    header.type = type.toLowerCase().replace(/^application\//, '');
  }
  return header;
}

/** Keys of other kinds, curves, uses and algorithms are left out, as RFC 7517 asks; what is malformed stays. */
function isOfUse(members) {
  const get = (name) => json.text(members.get(name));
  const kind = get('kty');
  if (kind === null) return true;
  if (!['OKP', 'EC', 'RSA'].includes(kind)) return false;
  const curve = get('crv');
  if (curve !== null && ((kind === 'OKP' && curve !== 'Ed25519') || (kind === 'EC' && curve !== 'P-256'))) return false;
  if (get('use') !== null && get('use') !== 'sig') return false;
  const operations = members.get('key_ops');
  if (Array.isArray(operations) && !operations.some((operation) => operation === 'verify' || operation === 'sign')) return false;
  if (get('alg') !== null && !ALGORITHMS.has(get('alg'))) return false;
  return get('purpose') === null || ['license', 'verdict'].includes(get('purpose'));
}

function readKey(members) {
  if (members.repeated) throw new InvalidKeySet('a member stands twice');
  if (members.has('use') && members.get('use') !== 'sig') throw new InvalidKeySet('use must be sig');
  const operations = members.has('key_ops') ? members.get('key_ops') : [];
  if (!Array.isArray(operations) || operations.some((operation) => json.text(operation) === null)) {
    throw new InvalidKeySet('key_ops must be an array of texts');
  }
  const purpose = members.has('purpose') ? members.get('purpose') : 'license';
  if (purpose !== 'license' && purpose !== 'verdict') throw new InvalidKeySet('purpose must be license or verdict');
  const keyId = members.has('kid') ? json.text(members.get('kid'), 256, 1) : null;
  if (members.has('kid') && keyId === null) throw new InvalidKeySet('kid must be a text of 1 to 256 bytes');
  const key = readMaterial(members);
  if (members.has('alg') && ALGORITHMS.get(members.get('alg')) !== key.algorithm) {
    throw new InvalidKeySet('alg does not fit the key');
  }
  const thumbprint = crypto.createHash('sha256').update(JSON.stringify(key.required)).digest('base64url');
  return { ...key, keyId: keyId ?? thumbprint, purpose, thumbprint };
}

function readMaterial(members) {
  const kind = members.get('kty');
  const curve = members.get('crv');
  if (kind === 'OKP' && curve === 'Ed25519') {
    const required = { crv: curve, kty: kind, x: readBytes(members, 'x', 32) };
    return { algorithm: 'EdDSA', material: publicKey(required), signatureBytes: 64, required };
  }
  if (kind === 'EC' && curve === 'P-256') {
    const required = { crv: curve, kty: kind, x: readBytes(members, 'x', 32), y: readBytes(members, 'y', 32) };
    return { algorithm: 'ES256', material: publicKey(required), signatureBytes: 64, required };
  }
  if (kind !== 'RSA') throw new InvalidKeySet('kty and crv must be OKP with Ed25519, EC with P-256, or RSA');
  const required = { e: readBytes(members, 'e'), kty: kind, n: readBytes(members, 'n') };
  const modulus = decode(required.n);
  const exponent = decode(required.e);
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  if (!modulus[0] || bits < 2048 || bits > 8192 || exponent.length < 1 || exponent.length > 8) {
    throw new InvalidKeySet('n and e are no RSA key of 2,048 to 8,192 bits');
  }
  return { algorithm: 'RS256', material: publicKey(required), signatureBytes: modulus.length, required };
}

function publicKey(jwk) {
  try {
    return crypto.createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    throw new InvalidKeySet('the members are no key');
  }
}

function readBytes(members, name, count) {
  const value = json.text(members.get(name), 2048);
  const bytes = value === null ? null : decode(value);
  if (bytes === null || (count !== undefined && bytes.length !== count)) {
    throw new InvalidKeySet(`${name} must be base64url${count === undefined ? '' : ` of ${count} bytes`}`);
  }
  return value;
}

module.exports = { KeySet, TokenRefused, InvalidKeySet, verify };
