//! Verdicts in memory and on disk: at most 1,000; the oldest leave first.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::domains::DomainName;
use crate::encoding::{random_hex, short_hash};
use crate::json;
use crate::locked;
use crate::tokens::KeySet;
use crate::verdicts::{signed_time, Verdict};

const MAXIMUM_ENTRIES: usize = 1000;
const MAXIMUM_FILE_BYTES: u64 = 1 << 21;
const LATEST_FILE: &str = "latest.json";
const KEYS_FILE: &str = "keys.json";
/// These are about the license and not about the domain that was asked for.
const LICENSE_WIDE: [&str; 5] = [
    "invalid_signature",
    "not_found",
    "canceled",
    "suspended",
    "expired",
];

/// A verdict, its signature, and when it came by the local clock, in milliseconds.
#[derive(Debug)]
pub(crate) struct Entry {
    pub verdict: Verdict,
    pub signature: String,
    pub received: i64,
}

impl Entry {
    fn ends_license(&self) -> bool {
        !self.verdict.valid && LICENSE_WIDE.contains(&self.verdict.code.as_str())
    }
}

/// What is asked: a license key and a domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub license_key: String,
    pub domain: DomainName,
}

impl Asked {
    fn file_name(&self) -> String {
        format!(
            "{}-{}.json",
            short_hash(&self.license_key),
            short_hash(self.domain.as_str())
        )
    }
}

#[derive(Default)]
struct Memory {
    entries: HashMap<Asked, (u64, Arc<Entry>)>,
    /// Counts uses, so that the oldest is known.
    uses: u64,
    highest_time: i64,
    is_latest_read: bool,
}

impl Memory {
    fn keep(&mut self, asked: &Asked, entry: Arc<Entry>) {
        self.uses += 1;
        self.highest_time = self.highest_time.max(entry.verdict.timestamp);
        self.entries.insert(asked.clone(), (self.uses, entry));
        if self.entries.len() > MAXIMUM_ENTRIES {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(asked, _)| asked.clone()) {
                self.entries.remove(&oldest);
            }
        }
    }
}

pub(crate) struct Cache {
    folder: Option<PathBuf>,
    memory: Mutex<Memory>,
    /// Held while files are written.
    writing: Mutex<()>,
}

impl Cache {
    pub fn new(folder: Option<PathBuf>) -> Cache {
        Cache {
            folder,
            memory: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// The latest time that the service has signed, in milliseconds; 0 where none is known.
    pub fn highest_time(&self, keys: Option<&KeySet>) -> i64 {
        let mut memory = locked(&self.memory);
        if !memory.is_latest_read {
            memory.is_latest_read = true;
            let saved = self.read(LATEST_FILE, "signature");
            let time = saved
                .zip(keys)
                .and_then(|(saved, keys)| signed_time(&saved, keys));
            memory.highest_time = memory.highest_time.max(time.unwrap_or(0));
        }
        memory.highest_time
    }

    /// What memory holds.
    pub fn get(&self, asked: &Asked) -> Option<Arc<Entry>> {
        let mut memory = locked(&self.memory);
        memory.uses += 1;
        let uses = memory.uses;
        let (used, entry) = memory.entries.get_mut(asked)?;
        *used = uses;
        Some(entry.clone())
    }

    /// The newer of what memory and disk hold; another process may have written it.
    pub fn load(&self, asked: &Asked, keys: Option<&KeySet>) -> Option<Arc<Entry>> {
        let known = self.get(asked);
        let Some((signature, keys)) = self.read(&asked.file_name(), "signature").zip(keys) else {
            return known;
        };
        if known
            .as_ref()
            .is_some_and(|known| known.signature == signature)
        {
            return known;
        }
        // What was changed is not known.
        let saved = Verdict::verify_saved(&signature, keys, &asked.license_key, &asked.domain).ok();
        let Some(verdict) = saved else {
            return known;
        };
        if known
            .as_ref()
            .is_some_and(|known| known.verdict.timestamp >= verdict.timestamp)
        {
            return known;
        }
        let received = verdict.timestamp;
        let entry = Arc::new(Entry {
            verdict,
            signature,
            received,
        });
        locked(&self.memory).keep(asked, entry.clone());
        Some(entry)
    }

    /// Keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where it is about that.
    pub fn put(&self, asked: &Asked, entry: &Arc<Entry>, keys: Option<&KeySet>) {
        let is_latest = entry.verdict.timestamp >= self.highest_time(keys);
        {
            let mut memory = locked(&self.memory);
            if entry.ends_license() {
                memory
                    .entries
                    .retain(|kept, _| kept.license_key != asked.license_key);
            }
            memory.keep(asked, entry.clone());
        }
        if let Some(folder) = &self.folder {
            let _writing = locked(&self.writing);
            // A full or forbidden disk takes the cache's survival of a restart away, and nothing else.
            let _ = save(folder, asked, entry, is_latest);
        }
    }

    pub fn saved_keys(&self) -> Option<String> {
        self.read(KEYS_FILE, "keys")
    }

    pub fn save_keys(&self, keys: &str) {
        if let Some(folder) = &self.folder {
            // Without it a restart fetches the keys again, and nothing else.
            let _ = write(folder, KEYS_FILE, "keys", keys);
        }
    }

    fn read(&self, name: &str, member: &str) -> Option<String> {
        let file = fs::File::open(self.folder.as_ref()?.join(name)).ok()?;
        let mut data = Vec::new();
        file.take(MAXIMUM_FILE_BYTES).read_to_end(&mut data).ok()?;
        json::parse_object(&data)?
            .any_text(member)
            .map(str::to_string)
    }
}

fn save(folder: &Path, asked: &Asked, entry: &Entry, is_latest: bool) -> io::Result<()> {
    let name = asked.file_name();
    if entry.verdict.valid {
        write(folder, &name, "signature", &entry.signature)?;
        trim(folder, &name)?;
    } else {
        if entry.ends_license() {
            let prefix = format!("{}-", short_hash(&asked.license_key));
            for other in files(folder)? {
                if other != name && other.starts_with(&prefix) {
                    fs::remove_file(folder.join(other))?;
                }
            }
        }
        // Names that were never valid leave no file: whoever asks for them must not fill the disk.
        if folder.join(&name).exists() {
            write(folder, &name, "signature", &entry.signature)?;
        }
    }
    if is_latest {
        write(folder, LATEST_FILE, "signature", &entry.signature)?;
    }
    Ok(())
}

fn files(folder: &Path) -> io::Result<Vec<String>> {
    let found = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let names = found
        .flatten()
        .filter_map(|file| file.file_name().into_string().ok());
    Ok(names.filter(|name| is_entry(name)).collect())
}

fn is_entry(name: &str) -> bool {
    let is_hash =
        |text: &str| text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let parts = name
        .strip_suffix(".json")
        .and_then(|name| name.split_once('-'));
    parts.is_some_and(|(key, domain)| is_hash(key) && is_hash(domain))
}

fn trim(folder: &Path, kept: &str) -> io::Result<()> {
    let mut names = files(folder)?;
    if names.len() <= MAXIMUM_ENTRIES {
        return Ok(());
    }
    let age = |name: &String| {
        fs::metadata(folder.join(name))
            .and_then(|file| file.modified())
            .ok()
    };
    names.sort_by_cached_key(age);
    for name in &names[..names.len() - MAXIMUM_ENTRIES] {
        if name != kept {
            fs::remove_file(folder.join(name))?;
        }
    }
    Ok(())
}

/// Makes a file of the owner's alone, whole or not at all.
fn write(folder: &Path, name: &str, member: &str, value: &str) -> io::Result<()> {
    let mut directory = fs::DirBuilder::new();
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        directory.mode(0o700);
        options.mode(0o600);
    }
    directory.recursive(true).create(folder)?;
    let temporary = folder.join(format!(".{name}.{}", random_hex()));
    let written = options
        .open(&temporary)
        .and_then(|mut file| file.write_all(json::object(&[(member, value)]).as_bytes()))
        .and_then(|()| fs::rename(&temporary, folder.join(name)));
    if written.is_err() {
        // It may not have been made.
        let _ = fs::remove_file(&temporary);
    }
    written
}
