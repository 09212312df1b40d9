'use strict';
// One bounded HTTPS request: no redirect is followed, no body is longer than its limit, no answer takes longer than its deadline.

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const tls = require('node:tls');

const TLS_ERROR = /CERT|SIGNATURE|ISSUER|ALTNAME|SELF_SIGNED|CRL|INVALID_CA|PATH_LENGTH|INVALID_PURPOSE|HOSTNAME/;

/**
 * The service gave no answer that can be believed. `problem` is `timeout`, `connection`, `tls`, `pin_mismatch`,
 * `too_large`, `http_503` (or another status) or `untrusted`; `isTemporary` says whether asking again may help.
 */
class NoAnswer extends Error {
  constructor(problem, isTemporary = false, retryAfter = 0) {
    super(problem);
    this.name = 'NoAnswer';
    this.problem = problem;
    this.isTemporary = isTemporary;
    this.retryAfter = retryAfter;
  }
}

/** Requests to one service. */
class Transport {
  constructor({ url, connectTimeout, pins, pinMode, ca, report }) {
    const parsed = new URL(url);
    if (!['https:', 'http:'].includes(parsed.protocol) || parsed.search || parsed.hash || parsed.username) {
      throw new TypeError('url must be https://host[:port][/path]');
    }
    const host = parsed.hostname.replace(/^\[|\]$/g, '');
    if (parsed.protocol === 'http:' && !(host === 'localhost' || host === '::1' || (net.isIPv4(host) && host.startsWith('127.')))) {
      throw new TypeError('url must be https: license keys and tokens are secrets (http is for loopback addresses)');
    }
    if (!['enforce', 'report'].includes(pinMode)) throw new TypeError('pinMode must be enforce or report');
    this.pins = readPins(pins);
    if (this.pins.length > 0 && parsed.protocol !== 'https:') throw new TypeError('pins need https');
    this.isTLS = parsed.protocol === 'https:';
    this.host = host;
    this.port = Number(parsed.port) || (this.isTLS ? 443 : 80);
    this.path = parsed.pathname.replace(/\/+$/, '');
    Object.assign(this, { connectTimeout, pinMode, report, ca });
  }

  /** Status, headers and body. Rejects with NoAnswer. `deadline` is a time of `performance.now()`. */
  request(method, path, { headers, deadline, limit, body }) {
    return new Promise((resolve, reject) => {
      const left = deadline - performance.now();
      if (left <= 0) {
        reject(new NoAnswer('timeout', true));
        return;
      }
      const options = {
        method, host: this.host, port: this.port, path: this.path + path, agent: false,
        headers: { ...headers, Connection: 'close', ...(body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) }) },
      };
      if (this.isTLS) {
        options.minVersion = 'TLSv1.2';
        options.checkServerIdentity = (name, certificate) => this.#check(name, certificate);
        if (!net.isIP(this.host)) options.servername = this.host;
        if (this.ca !== undefined) options.ca = this.ca;
      }
      const request = (this.isTLS ? https : http).request(options);
      const timers = [];
      const settle = (finish, value) => {
        timers.forEach(clearTimeout);
        finish(value);
        request.destroy();
      };
      const fail = (error) => settle(reject, error instanceof NoAnswer ? error : translated(error));
      timers.push(setTimeout(() => fail(new NoAnswer('timeout', true)), left));
      timers.push(setTimeout(() => fail(new NoAnswer('timeout', true)), Math.min(this.connectTimeout, left)));
      request.on('socket', (socket) => socket.once(this.isTLS ? 'secureConnect' : 'connect', () => clearTimeout(timers[1])));
      request.on('error', fail);
      request.on('response', (response) => {
        const chunks = [];
        let size = 0;
        response.on('data', (chunk) => {
          size += chunk.length;
          if (size > limit) fail(new NoAnswer('too_large'));
          else chunks.push(chunk);
        });
        response.on('aborted', () => fail(new NoAnswer('connection', true)));
        response.on('error', fail);
        response.on('end', () => {
          if (!response.complete) fail(new NoAnswer('connection', true));
          else settle(resolve, { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) });
        });
      });
      request.end(body);
    });
  }

  /** Beside the normal checks, never in their place. */
  #check(name, certificate) {
    const error = tls.checkServerIdentity(name, certificate);
    if (error !== undefined || this.pins.length === 0) return error;
    const key = new crypto.X509Certificate(certificate.raw).publicKey.export({ type: 'spki', format: 'der' });
    const found = crypto.createHash('sha256').update(key).digest();
    if (this.pins.some((pin) => crypto.timingSafeEqual(pin, found))) return undefined;
    this.report('pin_mismatch');
    return this.pinMode === 'enforce' ? new NoAnswer('pin_mismatch') : undefined;
  }
}

function translated(error) {
  return TLS_ERROR.test(String(error.code)) ? new NoAnswer('tls') : new NoAnswer('connection', true);
}

function readPins(pins) {
  const decoded = pins.map((pin) => {
    const match = /^sha256\/([A-Za-z0-9+/]{43}=)$/.exec(pin);
    if (match === null) throw new TypeError('a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)');
    return Buffer.from(match[1], 'base64');
  });
  if (decoded.length > 0 && new Set(decoded.map((pin) => pin.toString('hex'))).size < 2) {
    throw new TypeError('pins must be at least two: without a spare one, a new key of the service locks every client out');
  }
  return decoded;
}

/** The certificates of a file, as Node takes them. */
function readAuthorities(file) {
  return file === undefined ? undefined : fs.readFileSync(file);
}

module.exports = { NoAnswer, Transport, readAuthorities };
