'use strict';
// Domain names in the one spelling that is compared, and which names a license covers.

const fs = require('node:fs');
const path = require('node:path');
const { domainToASCII } = require('node:url');

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const QUAD = /^(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}$/;
let rules;

/** A name in lower case and ASCII without port and trailing dot, or an address. */
class DomainName {
  constructor(text, isAddress) {
    this.text = text;
    this.isAddress = isAddress;
    Object.freeze(this);
  }

  /** `localhost`, names below `.localhost` and `.test`, loopback addresses: no license holds there. */
  get isLocal() {
    if (!this.isAddress) return /(?:^|\.)(?:localhost|test)$/.test(this.text);
    return /^127\./.test(this.text) || this.text === '0:0:0:0:0:0:0:1' || /^0:0:0:0:0:ffff:7f[0-9a-f]{2}:/.test(this.text);
  }
}

/** The name or address that a `Host` header means; null where it is neither. Never throws. */
function normalize(text) {
  if (typeof text !== 'string') return null;
  const size = Buffer.byteLength(text);
  if (size < 1 || size > 1024) return null;
  const address = readAddress(text);
  if (address !== null) return new DomainName(address, true);
  let name = withoutPort(text).replace(/\.$/, '').replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  // eslint-disable-next-line no-control-regex
  const isASCII = /^[\u0000-\u007f]*$/.test(name);
  if (!isASCII || /(?:^|\.)xn--/.test(name)) {
    // The converter would decode and drop letters that no name has.
    // eslint-disable-next-line no-control-regex
    if (/[\u0000-\u002c\u002f\u003a-\u0060\u007b-\u007f]/.test(name.replaceAll('_', ''))) return null;
    if (/(?:^|[.\u3002\uff0e\uff61])-|-(?:$|[.\u3002\uff0e\uff61])/.test(name)) return null;
    name = domainToASCII(name).replace(/\.$/, '');
  }
  return isName(name) ? new DomainName(name, false) : null;
}

/** Whether a license that is bound to these domains holds there. */
function covers(bound, domain) {
  if (domain === null || domain.isLocal) return false;
  return bound.some((pattern) => {
    const isWildcard = pattern.startsWith('*.');
    const name = normalize(isWildcard ? pattern.slice(2) : pattern);
    if (name === null || (name.isAddress && isWildcard)) return false;
    if (!name.isAddress && isPublicSuffix(name.text)) return false;
    if (!isWildcard) return domain.text === name.text;
    const suffix = `.${name.text}`;
    return !domain.isAddress && domain.text.length > suffix.length && domain.text.endsWith(suffix);
  });
}

/** Whether anybody may register below the name, by the Public Suffix List that the package brings. */
function isPublicSuffix(name) {
  rules ??= new Set(
    fs.readFileSync(path.join(__dirname, '..', 'data', 'public_suffixes.txt'), 'ascii')
      .split('\n').filter((line) => line !== '' && !line.startsWith('//')),
  );
  const dot = name.indexOf('.');
  if (dot < 0) return true;
  if (rules.has(`!${name}`)) return false;
  // Where anybody may have any name below a name, that name is nobody's own either.
  return rules.has(name) || rules.has(`*.${name}`) || rules.has(`*.${name.slice(dot + 1)}`);
}

function withoutPort(text) {
  const colon = text.indexOf(':');
  return colon >= 0 && isPort(text.slice(colon)) ? text.slice(0, colon) : text;
}

/** Nothing, or `:` and a port's digits, or none. */
function isPort(text) {
  return text === '' || (/^:[0-9]*$/.test(text) && Number(text.slice(1)) <= 65_535);
}

function readAddress(text) {
  if (text.startsWith('[')) {
    const close = text.indexOf(']');
    return close > 0 && isPort(text.slice(close + 1)) ? readV6(text.slice(1, close)) : null;
  }
  return readV6(text) ?? readV4(text) ?? readV4(withoutPort(text));
}

function readV4(text) {
  return QUAD.test(text) && text.split('.').every((part) => Number(part) <= 255) ? text : null;
}

function readV6(text) {
  if (text.length > 45 || !text.includes(':')) return null;
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const head = readGroups(halves[0], halves.length === 1);
  if (head === null) return null;
  if (halves.length === 1) return head.length === 8 ? spell(head) : null;
  const tail = readGroups(halves[1], true);
  if (tail === null || head.length + tail.length > 7) return null;
  return spell([...head, ...new Array(8 - head.length - tail.length).fill(0), ...tail]);
}

function readGroups(text, isLast) {
  if (text === '') return [];
  const groups = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (part.includes('.')) {
      if (!isLast || index !== parts.length - 1 || readV4(part) === null) return null;
      const [a, b, c, d] = part.split('.').map(Number);
      groups.push(a * 256 + b, c * 256 + d);
    } else if (/^[0-9A-Fa-f]{1,4}$/.test(part)) {
      groups.push(parseInt(part, 16));
    } else {
      return null;
    }
  }
  return groups.length <= 8 ? groups : null;
}

function spell(groups) {
  return groups.map((group) => group.toString(16)).join(':');
}

function isName(name) {
  if (name.length < 1 || name.length > 253) return false;
  const labels = name.split('.');
  // Some readers would take a name that ends in a number for an address.
  return labels.every((label) => LABEL.test(label)) && !/^(?:[0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1));
}

module.exports = { DomainName, normalize, covers, isPublicSuffix };
