package licensemetering;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.ToLongFunction;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Verdicts in memory and on disk, at most 1,000; the oldest leave first. What lies on disk is the signed verdict itself,
 * and is verified again when it is read.
 */
final class Cache {
    private static final int MAXIMUM_ENTRIES = 1000;
    private static final int MAXIMUM_FILE_BYTES = 1 << 21;
    private static final String LATEST = "latest.json";
    private static final String KEYS = "keys.json";
    private static final Pattern FILE = Pattern.compile("[0-9a-f]{32}-[0-9a-f]{32}\\.json");
    // These are about the license and not about the domain that was asked for.
    private static final Set<String> LICENSE_WIDE =
        Set.of("invalid_signature", "not_found", "canceled", "suspended", "expired");

    /** A verdict, its signature, and when it came by the local clock, in milliseconds. */
    record Entry(Verdict verdict, String signature, long received) {
    }

    /** Gives the verdict of a saved signature; null where it is not believed. */
    interface Verify {
        Verdict verify(String signature, String licenseKey, DomainName domain);
    }

    record Key(String licenseKey, String domain) {
    }

    private final Path folder;
    private final Verify verify;
    private final ToLongFunction<String> signedTime;
    private final Map<Key, Entry> entries = new LinkedHashMap<>(16, 0.75f, true) {
        private static final long serialVersionUID = 1;

        @Override
        protected boolean removeEldestEntry(Map.Entry<Key, Entry> eldest) {
            return size() > MAXIMUM_ENTRIES;
        }
    };
    private long highest;
    private boolean isLatestRead;

    Cache(Path folder, Verify verify, ToLongFunction<String> signedTime) {
        this.folder = folder;
        this.verify = verify;
        this.signedTime = signedTime;
    }

    /** The latest time that the service has signed, in milliseconds; 0 where none is known. */
    synchronized long highest() {
        if (!isLatestRead) {
            isLatestRead = true;
            String saved = read(LATEST, "signature");
            highest = Math.max(highest, saved == null ? 0 : signedTime.applyAsLong(saved));
        }
        return highest;
    }

    /** What memory holds. */
    synchronized Entry get(String licenseKey, DomainName domain) {
        return entries.get(new Key(licenseKey, domain.text()));
    }

    /** The newer of what memory and disk hold; another process may have written it. */
    synchronized Entry load(String licenseKey, DomainName domain) {
        Entry entry = get(licenseKey, domain);
        String saved = read(file(licenseKey, domain), "signature");
        if (saved == null || (entry != null && saved.equals(entry.signature))) {
            return entry;
        }
        Verdict verdict = verify.verify(saved, licenseKey, domain);
        if (verdict == null || (entry != null && entry.verdict.timestamp() >= verdict.timestamp())) {
            return entry;
        }
        Entry loaded = new Entry(verdict, saved, verdict.timestamp());
        keep(licenseKey, domain, loaded);
        return loaded;
    }

    /** Keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where it is about that. */
    synchronized void put(String licenseKey, DomainName domain, Entry entry) {
        boolean isLicenseWide = !entry.verdict.valid() && LICENSE_WIDE.contains(entry.verdict.code());
        if (isLicenseWide) {
            entries.keySet().removeIf(key -> key.licenseKey.equals(licenseKey));
        }
        boolean isLatest = entry.verdict.timestamp() >= highest();
        keep(licenseKey, domain, entry);
        if (folder == null) {
            return;
        }
        try {
            save(licenseKey, domain, entry, isLicenseWide, isLatest);
        } catch (IOException | UnsupportedOperationException full) {
            // A full or forbidden disk takes the cache's survival of a restart away, and nothing else.
        }
    }

    /** Keeps a fetched key set, without which saved verdicts cannot be verified. */
    void saveKeys(String source) {
        try {
            if (folder != null) {
                write(KEYS, "keys", source);
            }
        } catch (IOException | UnsupportedOperationException full) {
            // As above.
        }
    }

    /** The key set that was kept. */
    String savedKeys() {
        return read(KEYS, "keys");
    }

    private void keep(String licenseKey, DomainName domain, Entry entry) {
        entries.put(new Key(licenseKey, domain.text()), entry);
        highest = Math.max(highest, entry.verdict.timestamp());
    }

    private void save(String licenseKey, DomainName domain, Entry entry, boolean isLicenseWide, boolean isLatest)
        throws IOException {
        String name = file(licenseKey, domain);
        if (entry.verdict.valid()) {
            write(name, "signature", entry.signature);
            trim(name);
        } else {
            for (Path other : isLicenseWide ? files(hash(licenseKey) + "-") : List.<Path>of()) {
                if (!other.endsWith(name)) {
                    Files.deleteIfExists(other);
                }
            }
            // Names that were never valid leave no file: whoever asks for them must not fill the disk.
            if (Files.exists(folder.resolve(name))) {
                write(name, "signature", entry.signature);
            }
        }
        if (isLatest) {
            write(LATEST, "signature", entry.signature);
        }
    }

    private List<Path> files(String prefix) throws IOException {
        if (!Files.isDirectory(folder)) {
            return List.of();
        }
        try (Stream<Path> found = Files.list(folder)) {
            return found.filter(file -> file.getFileName().toString().startsWith(prefix)
                && FILE.matcher(file.getFileName().toString()).matches()).toList();
        }
    }

    private void trim(String kept) throws IOException {
        List<Path> files = new ArrayList<>(files(""));
        if (files.size() <= MAXIMUM_ENTRIES) {
            return;
        }
        files.sort(Comparator.comparingLong(file -> file.toFile().lastModified()));
        for (Path file : files.subList(0, files.size() - MAXIMUM_ENTRIES)) {
            if (!file.endsWith(kept)) {
                Files.deleteIfExists(file);
            }
        }
    }

    /** A file of the owner's alone, whole or not at all. */
    private void write(String name, String member, String value) throws IOException {
        if (!Files.isDirectory(folder)) {
            Files.createDirectories(
                folder, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        }
        // It has the mode 0600.
        Path temporary = Files.createTempFile(folder, ".", ".tmp");
        try {
            Files.writeString(temporary, Json.write(Map.of(member, value)));
            Files.move(temporary, folder.resolve(name), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    private String read(String name, String member) {
        if (folder == null) {
            return null;
        }
        try (InputStream stream = Files.newInputStream(folder.resolve(name))) {
            Json.Members members = Json.members(stream.readNBytes(MAXIMUM_FILE_BYTES));
            return members == null ? null : Json.text(members.get(member));
        } catch (IOException missing) {
            return null; // What cannot be read is not known.
        }
    }

    private static String hash(String text) {
        return HexFormat.of().formatHex(KeySet.sha256(text.getBytes(StandardCharsets.UTF_8)), 0, 16);
    }

    private static String file(String licenseKey, DomainName domain) {
        return hash(licenseKey) + "-" + hash(domain.text()) + ".json";
    }
}
