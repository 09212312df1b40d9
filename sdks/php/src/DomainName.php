<?php

declare(strict_types=1);

namespace LicenseMetering;

/** A name in lower case and ASCII without port and trailing dot, or an address. */
final class DomainName
{
    private const LABEL = '/^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/D';
    private const QUAD = '/^(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}$/D';

    /** @var array<string, int>|null */
    private static ?array $rules = null;

    private function __construct(public readonly string $text, public readonly bool $isAddress)
    {
    }

    /** The name or address that a Host header means; null where it is neither. */
    public static function normalize(string $text): ?self
    {
        if ($text === '' || strlen($text) > 1024 || !Json::isUtf8($text)) {
            return null;
        }
        $address = self::address($text);
        if ($address !== null) {
            return new self($address, true);
        }
        $name = (string) preg_replace('/\.$/D', '', self::withoutPort($text));
        $name = strtr($name, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz');
        if (preg_match('/[^\x00-\x7f]/', $name) === 1 || preg_match('/(?:^|\.)xn--/', $name) === 1) {
            $name = self::ascii($name);
        }
        return $name !== null && self::isName($name) ? new self($name, false) : null;
    }

    /** localhost, names below .localhost and .test, loopback addresses: no license holds there. */
    public function isLocal(): bool
    {
        $pattern = $this->isAddress
            ? '/^(?:127\.|0:0:0:0:0:0:0:1$|0:0:0:0:0:ffff:7f[0-9a-f]{2}:)/D' : '/(?:^|\.)(?:localhost|test)$/D';
        return preg_match($pattern, $this->text) === 1;
    }

    /**
     * Whether a license that is bound to these domains holds there: example.com covers itself, *.example.com every name
     * below it. Public suffixes and local names are never covered.
     *
     * @param iterable<string> $bound
     */
    public function isCoveredBy(iterable $bound): bool
    {
        if ($this->isLocal()) {
            return false;
        }
        foreach ($bound as $pattern) {
            $isWildcard = str_starts_with($pattern, '*.');
            $name = self::normalize($isWildcard ? substr($pattern, 2) : $pattern);
            if ($name === null || ($name->isAddress && $isWildcard) || (!$name->isAddress && self::isPublicSuffix($name->text))) {
                continue;
            }
            $suffix = ".{$name->text}";
            $covers = !$isWildcard ? $this->text === $name->text
                : !$this->isAddress && strlen($this->text) > strlen($suffix) && str_ends_with($this->text, $suffix);
            if ($covers) {
                return true;
            }
        }
        return false;
    }

    /** Whether anybody may register below the name, by the Public Suffix List that the package brings. */
    public static function isPublicSuffix(string $name): bool
    {
        self::$rules ??= array_flip(array_filter(
            (array) file(__DIR__ . '/../data/public_suffixes.txt', FILE_IGNORE_NEW_LINES | FILE_SKIP_EMPTY_LINES),
            static fn (string|bool $line): bool => !str_starts_with((string) $line, '//'),
        ));
        $dot = strpos($name, '.');
        if ($dot === false) {
            return true;
        }
        if (isset(self::$rules["!$name"])) {
            return false;
        }
        // Where anybody may have any name below a name, that name is nobody's own either.
        return isset(self::$rules[$name]) || isset(self::$rules["*.$name"]) || isset(self::$rules['*' . substr($name, $dot)]);
    }

    /** By UTS #46, non-transitional; without the extension intl null for all but ASCII. */
    private static function ascii(string $name): ?string
    {
        if (!function_exists('idn_to_ascii')) {
            return preg_match('/[^\x00-\x7f]/', $name) === 1 ? null : $name;
        }
        // Letters that no name has are not for the converter to map away.
        if (preg_match('/[\x00-\x2c\x2f\x3a-\x5e\x60\x7b-\x7f]/', $name) === 1) {
            return null;
        }
        // ICU limits a name to 255 bytes, and refuses an empty label.
        $ascii = strlen($name) > 1000 ? false : @idn_to_ascii($name, IDNA_NONTRANSITIONAL_TO_ASCII, INTL_IDNA_VARIANT_UTS46, $info);
        return is_string($ascii) && ($info['errors'] ?? 1) === 0 ? (string) preg_replace('/\.$/D', '', $ascii) : null;
    }

    private static function withoutPort(string $text): string
    {
        $colon = strpos($text, ':');
        return $colon !== false && self::isPort(substr($text, $colon)) ? substr($text, 0, $colon) : $text;
    }

    /** Nothing, or a colon and a port's digits, or none. */
    private static function isPort(string $text): bool
    {
        return $text === '' || (preg_match('/^:[0-9]*$/D', $text) === 1
            && strlen(ltrim($text, ':0')) <= 5 && (int) substr($text, 1) <= 65_535);
    }

    private static function address(string $text): ?string
    {
        if ($text[0] === '[') {
            $close = strpos($text, ']');
            return $close !== false && self::isPort(substr($text, $close + 1)) ? self::v6(substr($text, 1, $close - 1)) : null;
        }
        return self::v6($text) ?? self::v4($text) ?? self::v4(self::withoutPort($text));
    }

    private static function v4(string $text): ?string
    {
        return preg_match(self::QUAD, $text) === 1 && max(array_map('intval', explode('.', $text))) <= 255 ? $text : null;
    }

    private static function v6(string $text): ?string
    {
        if (strlen($text) > 45 || !str_contains($text, ':')) {
            return null;
        }
        $halves = explode('::', $text);
        if (count($halves) > 2) {
            return null;
        }
        $head = self::groups($halves[0], count($halves) === 1);
        if ($head === null || count($halves) === 1) {
            return $head !== null && count($head) === 8 ? self::spell($head) : null;
        }
        $tail = self::groups($halves[1], true);
        if ($tail === null || count($head) + count($tail) > 7) {
            return null;
        }
        return self::spell([...$head, ...array_fill(0, 8 - count($head) - count($tail), 0), ...$tail]);
    }

    /** @return list<int>|null */
    private static function groups(string $text, bool $isLast): ?array
    {
        if ($text === '') {
            return [];
        }
        $groups = [];
        $parts = explode(':', $text);
        foreach ($parts as $index => $part) {
            if (str_contains($part, '.')) {
                if (!$isLast || $index !== count($parts) - 1 || self::v4($part) === null) {
                    return null;
                }
                [$a, $b, $c, $d] = array_map('intval', explode('.', $part));
                array_push($groups, $a * 256 + $b, $c * 256 + $d);
            } elseif (preg_match('/^[0-9A-Fa-f]{1,4}$/D', $part) === 1) {
                $groups[] = (int) hexdec($part);
            } else {
                return null;
            }
        }
        return count($groups) <= 8 ? $groups : null;
    }

    /** @param list<int> $groups */
    private static function spell(array $groups): string
    {
        return implode(':', array_map('dechex', $groups));
    }

    private static function isName(string $name): bool
    {
        if ($name === '' || strlen($name) > 253) {
            return false;
        }
        $labels = explode('.', $name);
        foreach ($labels as $label) {
            if (preg_match(self::LABEL, $label) !== 1) {
                return false;
            }
        }
        // Some readers would take a name that ends in a number for an address.
        return preg_match('/^(?:[0-9]+|0x[0-9a-f]*)$/D', end($labels)) !== 1;
    }
}
