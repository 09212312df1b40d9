<?php

declare(strict_types=1);

namespace LicenseMetering;

/**
 * Verdicts in memory and on disk, at most 1,000; the oldest leave first. What lies on disk is the signed verdict itself,
 * and is verified again when it is read.
 *
 * An entry is an array of verdict, signature, and when it came by the local clock, in milliseconds.
 *
 * @internal
 */
final class Cache
{
    private const MAXIMUM_ENTRIES = 1000;
    private const MAXIMUM_FILE_BYTES = 1 << 21;
    private const LATEST = 'latest.json';
    private const KEYS = 'keys.json';
    private const PAUSE = 'pause.json';
    // These are about the license and not about the domain that was asked for.
    private const LICENSE_WIDE = ['invalid_signature', 'not_found', 'canceled', 'suspended', 'expired'];

    /** @var array<string, array{Verdict, string, int}> */
    private array $entries = [];
    private ?int $highest = null;

    /**
     * @param \Closure(string, string, DomainName): ?Verdict $verify
     * @param \Closure(string): int $signedTime
     */
    public function __construct(
        private readonly ?string $folder,
        private readonly \Closure $verify,
        private readonly \Closure $signedTime,
    ) {
    }

    /** The latest time that the service has signed, in milliseconds; 0 where none is known. */
    public function highest(): int
    {
        if ($this->highest === null) {
            $signature = $this->read(self::LATEST)['signature'] ?? null;
            $this->highest = is_string($signature) ? ($this->signedTime)($signature) : 0;
        }
        return $this->highest;
    }

    /** @return array{Verdict, string, int}|null What memory holds. */
    public function get(string $licenseKey, DomainName $domain): ?array
    {
        return $this->entries["$licenseKey\0$domain->text"] ?? null;
    }

    /** @return array{Verdict, string, int}|null The newer of what memory and disk hold; other processes write too. */
    public function load(string $licenseKey, DomainName $domain): ?array
    {
        $entry = $this->get($licenseKey, $domain);
        $signature = $this->read(self::file($licenseKey, $domain))['signature'] ?? null;
        if (!is_string($signature) || ($entry !== null && $entry[1] === $signature)) {
            return $entry;
        }
        $verdict = ($this->verify)($signature, $licenseKey, $domain);
        if ($verdict === null || ($entry !== null && $entry[0]->timestamp >= $verdict->timestamp)) {
            return $entry;
        }
        $loaded = [$verdict, $signature, $verdict->timestamp];
        $this->keep($licenseKey, $domain, $loaded);
        return $loaded;
    }

    /**
     * Keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where it is about that.
     *
     * @param array{Verdict, string, int} $entry
     */
    public function put(string $licenseKey, DomainName $domain, array $entry): void
    {
        $verdict = $entry[0];
        $isLicenseWide = !$verdict->valid && in_array($verdict->code, self::LICENSE_WIDE, true);
        if ($isLicenseWide) {
            $isAnother = static fn (string $key): bool => !str_starts_with($key, "$licenseKey\0");
            $this->entries = array_filter($this->entries, $isAnother, ARRAY_FILTER_USE_KEY);
        }
        $isLatest = $verdict->timestamp >= $this->highest();
        $this->keep($licenseKey, $domain, $entry);
        if ($this->folder === null) {
            return;
        }
        $name = self::file($licenseKey, $domain);
        $saved = ['signature' => $entry[1]];
        if ($verdict->valid) {
            $this->write($name, $saved);
            $this->trim($name);
        } else {
            foreach ($isLicenseWide ? $this->files(self::hash($licenseKey) . '-') : [] as $other) {
                if (basename($other) !== $name) {
                    @unlink($other);
                }
            }
            // Names that were never valid leave no file: whoever asks for them must not fill the disk.
            if (is_file("$this->folder/$name")) {
                $this->write($name, $saved);
            }
        }
        if ($isLatest) {
            $this->write(self::LATEST, $saved);
        }
    }

    /** Keeps a fetched key set, without which saved verdicts cannot be verified. */
    public function saveKeys(string $source): void
    {
        $this->write(self::KEYS, ['keys' => $source]);
    }

    /** The key set that was kept. */
    public function savedKeys(): ?string
    {
        $keys = $this->read(self::KEYS)['keys'] ?? null;
        return is_string($keys) ? $keys : null;
    }

    /** Lets other processes know until when the service is left alone, by the machine's clock in milliseconds. */
    public function savePause(int $until, string $problem): void
    {
        $this->write(self::PAUSE, ['until' => $until, 'problem' => $problem]);
    }

    /** @return array{int, string} Until when another process leaves the service alone, and why. */
    public function savedPause(): array
    {
        $saved = $this->read(self::PAUSE);
        [$until, $problem] = [$saved['until'] ?? 0, $saved['problem'] ?? 'connection'];
        return [is_int($until) ? $until : 0, is_string($problem) ? $problem : 'connection'];
    }

    /** @param array{Verdict, string, int} $entry */
    private function keep(string $licenseKey, DomainName $domain, array $entry): void
    {
        $key = "$licenseKey\0$domain->text";
        unset($this->entries[$key]);
        $this->entries[$key] = $entry;
        $this->highest = max($this->highest(), $entry[0]->timestamp);
        if (count($this->entries) > self::MAXIMUM_ENTRIES) {
            unset($this->entries[array_key_first($this->entries)]);
        }
    }

    /** @return list<string> */
    private function files(string $prefix): array
    {
        $found = @scandir((string) $this->folder) ?: [];
        $isEntry = static fn (string $name): bool => str_starts_with($name, $prefix)
            && preg_match('/^[0-9a-f]{32}-[0-9a-f]{32}\.json$/D', $name) === 1;
        return array_map(fn (string $name): string => "$this->folder/$name", array_values(array_filter($found, $isEntry)));
    }

    private function trim(string $kept): void
    {
        $files = $this->files('');
        if (count($files) <= self::MAXIMUM_ENTRIES) {
            return;
        }
        usort($files, static fn (string $a, string $b): int => (int) @filemtime($a) <=> (int) @filemtime($b));
        foreach (array_slice($files, 0, count($files) - self::MAXIMUM_ENTRIES) as $file) {
            if (basename($file) !== $kept) {
                @unlink($file);
            }
        }
    }

    /**
     * A file of the owner's alone, whole or not at all. A full or forbidden disk takes the cache's survival of a request
     * away, and nothing else.
     *
     * @param array<string, mixed> $value
     */
    private function write(string $name, array $value): void
    {
        $text = json_encode($value);
        if ($this->folder === null || $text === false || (!is_dir($this->folder) && !@mkdir($this->folder, 0700, true))) {
            return;
        }
        // It has the mode 0600.
        $temporary = @tempnam($this->folder, '.tmp');
        if ($temporary === false) {
            return;
        }
        $isWhole = @file_put_contents($temporary, $text) === strlen($text);
        if (dirname($temporary) !== realpath($this->folder) || !$isWhole || !@rename($temporary, "$this->folder/$name")) {
            @unlink($temporary);
        }
    }

    /** @return array<string, mixed> What cannot be read is not known. */
    private function read(string $name): array
    {
        if ($this->folder === null) {
            return [];
        }
        $text = @file_get_contents("$this->folder/$name", false, null, 0, self::MAXIMUM_FILE_BYTES);
        $value = $text === false ? null : json_decode($text, true, 8);
        return is_array($value) ? $value : [];
    }

    private static function hash(string $text): string
    {
        return substr(hash('sha256', $text), 0, 32);
    }

    private static function file(string $licenseKey, DomainName $domain): string
    {
        return self::hash($licenseKey) . '-' . self::hash($domain->text) . '.json';
    }
}
