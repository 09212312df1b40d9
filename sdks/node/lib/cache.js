'use strict';
// Verdicts in memory and on disk. What lies on disk is the signed verdict itself, and is verified again when it is read.

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const MAXIMUM_ENTRIES = 1000;
const MAXIMUM_FILE_BYTES = 1 << 21;
const LATEST = 'latest.json';
const KEYS = 'keys.json';
// These are about the license and not about the domain that was asked for.
const LICENSE_WIDE = new Set(['invalid_signature', 'not_found', 'canceled', 'suspended', 'expired']);

/** At most 1,000 verdicts; the oldest leave first. */
class Cache {
  #entries = new Map();
  #highest = 0;
  #isLatestRead = false;

  /** `verify(signature, licenseKey, domain)` gives a verdict or null, `signedTime(signature)` milliseconds or 0. */
  constructor(folder, verify, signedTime) {
    Object.assign(this, { folder, verify, signedTime });
  }

  /** The latest time that the service has signed, in milliseconds; 0 where none is known. */
  highest() {
    if (!this.#isLatestRead) {
      this.#isLatestRead = true;
      const saved = this.#read(LATEST);
      if (saved !== null) this.#highest = Math.max(this.#highest, this.signedTime(saved.signature));
    }
    return this.#highest;
  }

  /** What memory holds. */
  get(licenseKey, domain) {
    const key = keyOf(licenseKey, domain);
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
    }
    return entry ?? null;
  }

  /** The newer of what memory and disk hold; another process may have written it. */
  load(licenseKey, domain) {
    const entry = this.get(licenseKey, domain);
    const saved = this.#read(fileOf(licenseKey, domain));
    if (saved === null || (entry !== null && saved.signature === entry.signature)) return entry;
    const verdict = this.verify(saved.signature, licenseKey, domain);
    if (verdict === null || (entry !== null && entry.verdict.timestamp >= verdict.timestamp)) return entry;
    const loaded = { verdict, signature: saved.signature, received: verdict.timestamp };
    this.#keep(licenseKey, domain, loaded);
    return loaded;
  }

  /** Keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where it is about that. */
  put(licenseKey, domain, entry) {
    const { verdict } = entry;
    if (!verdict.valid && LICENSE_WIDE.has(verdict.code)) {
      const prefix = keyOf(licenseKey, { text: '' });
      for (const key of [...this.#entries.keys()]) if (key.startsWith(prefix)) this.#entries.delete(key);
    }
    const isLatest = verdict.timestamp >= this.highest();
    this.#keep(licenseKey, domain, entry);
    if (this.folder === undefined) return;
    try {
      this.#save(licenseKey, domain, entry, isLatest);
    } catch {
      // A full or forbidden disk takes the cache's survival of a restart away, and nothing else.
    }
  }

  /** Keeps a fetched key set, without which saved verdicts cannot be verified. */
  saveKeys(source) {
    try {
      if (this.folder !== undefined) this.#write(KEYS, { keys: source });
    } catch {
      // As above.
    }
  }

  /** The key set that was kept. */
  savedKeys() {
    const keys = this.#read(KEYS)?.keys;
    return typeof keys === 'string' ? keys : null;
  }

  #keep(licenseKey, domain, entry) {
    const key = keyOf(licenseKey, domain);
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    this.#highest = Math.max(this.#highest, entry.verdict.timestamp);
    if (this.#entries.size > MAXIMUM_ENTRIES) this.#entries.delete(this.#entries.keys().next().value);
  }

  #save(licenseKey, domain, entry, isLatest) {
    const name = fileOf(licenseKey, domain);
    const saved = { signature: entry.signature };
    if (entry.verdict.valid) {
      this.#write(name, saved);
      this.#trim(name);
    } else {
      if (LICENSE_WIDE.has(entry.verdict.code)) {
        for (const other of this.#files()) {
          if (other !== name && other.startsWith(`${hash(licenseKey)}-`)) fs.rmSync(path.join(this.folder, other), { force: true });
        }
      }
      // Names that were never valid leave no file: whoever asks for them must not fill the disk.
      if (fs.existsSync(path.join(this.folder, name))) this.#write(name, saved);
    }
    if (isLatest) this.#write(LATEST, saved);
  }

  #files() {
    return fs.existsSync(this.folder) ? fs.readdirSync(this.folder).filter((name) => /^[0-9a-f]{32}-[0-9a-f]{32}\.json$/.test(name)) : [];
  }

  #trim(kept) {
    const names = this.#files();
    if (names.length <= MAXIMUM_ENTRIES) return;
    const aged = names.map((name) => ({ name, time: fs.statSync(path.join(this.folder, name)).mtimeMs }));
    aged.sort((a, b) => a.time - b.time);
    for (const { name } of aged.slice(0, names.length - MAXIMUM_ENTRIES)) {
      if (name !== kept) fs.rmSync(path.join(this.folder, name), { force: true });
    }
  }

  /** A file of the owner's alone, whole or not at all. */
  #write(name, value) {
    fs.mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    const temporary = path.join(this.folder, `.${name}.${crypto.randomBytes(8).toString('hex')}`);
    try {
      fs.writeFileSync(temporary, JSON.stringify(value), { mode: 0o600, flag: 'wx' });
      fs.renameSync(temporary, path.join(this.folder, name));
    } catch (error) {
      fs.rmSync(temporary, { force: true });
      throw error;
    }
  }

  #read(name) {
    if (this.folder === undefined) return null;
    try {
      const file = path.join(this.folder, name);
      if (fs.statSync(file).size > MAXIMUM_FILE_BYTES) return null;
      const value = JSON.parse(fs.readFileSync(file, 'utf8'));
      return typeof value === 'object' && value !== null ? value : null;
    } catch {
      return null; // What cannot be read is not known.
    }
  }
}

function hash(text) {
  return crypto.createHash('sha256').update(text).digest('hex').slice(0, 32);
}

function keyOf(licenseKey, domain) {
  return `${licenseKey}\0${domain.text}`;
}

function fileOf(licenseKey, domain) {
  return `${hash(licenseKey)}-${hash(domain.text)}.json`;
}

module.exports = { Cache };
