'use strict';
// JSON by RFC 8259, strictly: repeated names are noticed, and numbers stay as they are spelled.

const MAXIMUM_DEPTH = 512;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const BLANK = /[ \t\n\r]*/y;
const LONE_SURROGATE = /[\uD800-\uDFFF]/u;
const ESCAPES = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };
const MAXIMUM_EXPONENT = 1_000_000;
const MAXIMUM_INTEGER = 2n ** 63n - 1n;

/** A number's own characters, such as `1.9e9`. */
class JSONNumber {
  constructor(text) {
    this.text = text;
    const [, sign, whole, fraction = '', power = '0'] = /^(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$/.exec(text);
    this.isNegative = sign === '-';
    const digits = (whole + fraction).replace(/^0+/, '');
    this.digits = digits.replace(/0+$/, '');
    const limited = Math.max(-MAXIMUM_EXPONENT, Math.min(MAXIMUM_EXPONENT, Number(power)));
    this.exponent = this.digits === '' ? 0 : limited - fraction.length + digits.length - this.digits.length;
  }

  /** The number times 10^decimals, rounded down, as a BigInt; null beyond 64 bits. */
  scaled(decimals) {
    const shift = this.exponent + decimals;
    const kept = shift >= 0 ? this.digits : this.digits.slice(0, Math.max(0, this.digits.length + shift));
    const zeros = kept === '' ? 0 : Math.max(shift, 0);
    if (kept.length + zeros > 19) return null;
    const value = BigInt(kept + '0'.repeat(zeros) || '0');
    if (value > MAXIMUM_INTEGER) return null;
    if (!this.isNegative) return value;
    return this.digits === '' || shift >= 0 ? -value : -value - 1n;
  }

  /** The number where it is whole, however it is spelled. */
  get integer() {
    return this.digits === '' || this.exponent >= 0 ? this.scaled(0) : null;
  }
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) throw new SyntaxError('not JSON');
    this.at = pattern.lastIndex;
    return found[0];
  }

  take(text) {
    if (!this.text.startsWith(text, this.at)) throw new SyntaxError('not JSON');
    this.at += text.length;
  }

  skips(letter) {
    this.match(BLANK);
    if (this.text[this.at] !== letter) return false;
    this.at += 1;
    return true;
  }

  value(depth) {
    if (depth > MAXIMUM_DEPTH) throw new SyntaxError('nested too deep');
    this.match(BLANK);
    switch (this.text[this.at]) {
      case '{': return this.object(depth);
      case '[': return this.array(depth);
      case '"': return this.string();
      case 't': this.take('true'); return true;
      case 'f': this.take('false'); return false;
      case 'n': this.take('null'); return null;
      default: return new JSONNumber(this.match(NUMBER));
    }
  }

  object(depth) {
    const members = new Map();
    this.at += 1;
    if (this.skips('}')) return members;
    do {
      this.match(BLANK);
      if (this.text[this.at] !== '"') throw new SyntaxError('not JSON');
      const name = this.string();
      if (!this.skips(':')) throw new SyntaxError('not JSON');
      if (members.has(name)) members.repeated = true;
      members.set(name, this.value(depth + 1));
    } while (this.skips(','));
    if (!this.skips('}')) throw new SyntaxError('not JSON');
    return members;
  }

  array(depth) {
    const elements = [];
    this.at += 1;
    if (this.skips(']')) return elements;
    do elements.push(this.value(depth + 1)); while (this.skips(','));
    if (!this.skips(']')) throw new SyntaxError('not JSON');
    return elements;
  }

  string() {
    let result = '';
    this.at += 1;
    for (;;) {
      result += this.match(PLAIN);
      const letter = this.text[this.at];
      this.at += 1;
      if (letter === '"') return result;
      if (letter !== '\\') throw new SyntaxError('not JSON');
      const escape = this.text[this.at];
      this.at += 1;
      if (escape === 'u') {
        result += String.fromCharCode(parseInt(this.match(/[0-9A-Fa-f]{4}/y), 16));
      } else if (Object.hasOwn(ESCAPES, escape)) {
        result += ESCAPES[escape];
      } else {
        throw new SyntaxError('not JSON');
      }
    }
  }
}

/** One JSON text from bytes. Objects become Maps, numbers JSONNumbers. Throws SyntaxError. */
function parse(bytes) {
  let text;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SyntaxError('not UTF-8');
  }
  const reader = new Reader(text);
  const value = reader.value(1);
  reader.match(BLANK);
  if (reader.at !== text.length) throw new SyntaxError('not JSON');
  return value;
}

/** A string without lone surrogates and of so many bytes of UTF-8; else null. */
function text(value, maximum = 1 << 20, minimum = 0) {
  if (typeof value !== 'string' || LONE_SURROGATE.test(value)) return null;
  const size = Buffer.byteLength(value);
  return size >= minimum && size <= maximum ? value : null;
}

/** As `text`, not empty and without control characters. */
function plainText(value, maximum) {
  const plain = text(value, maximum, 1);
  // eslint-disable-next-line no-control-regex
  return plain === null || /[\u0000-\u001f\u007f]/.test(plain) ? null : plain;
}

module.exports = { JSONNumber, parse, text, plainText };
