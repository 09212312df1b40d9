<?php

declare(strict_types=1);

namespace LicenseMetering;

/**
 * JSON by RFC 8259, strictly: repeated names are noticed, and numbers stay as they are spelled.
 *
 * Objects become JsonObject, numbers JsonNumber, and a string with a lone surrogate becomes BrokenText.
 *
 * @internal
 */
final class Json
{
    private const MAXIMUM_DEPTH = 512;
    private const ESCAPES = [
        '"' => '"', '\\' => '\\', '/' => '/', 'b' => "\x08", 'f' => "\f", 'n' => "\n", 'r' => "\r", 't' => "\t",
    ];

    private int $at = 0;

    private function __construct(private readonly string $text)
    {
    }

    /**
     * One JSON text.
     *
     * @throws InvalidJson
     */
    public static function parse(string $text): mixed
    {
        if (!self::isUtf8($text)) {
            throw new InvalidJson('not UTF-8');
        }
        $reader = new self($text);
        $value = $reader->value(1);
        $reader->match('/[ \t\n\r]*/A');
        if ($reader->at !== strlen($text)) {
            throw new InvalidJson('more behind the value');
        }
        return $value;
    }

    /** The object that a text holds; null where it holds none. */
    public static function object(string $text): ?JsonObject
    {
        try {
            $value = self::parse($text);
        } catch (InvalidJson) {
            return null;
        }
        return $value instanceof JsonObject ? $value : null;
    }

    /** A string of so many bytes of UTF-8; else null. */
    public static function text(mixed $value, int $maximum = 1 << 20, int $minimum = 0): ?string
    {
        if (!is_string($value) || strlen($value) < $minimum || strlen($value) > $maximum || !self::isUtf8($value)) {
            return null;
        }
        return $value;
    }

    /** As text, not empty and without control characters. */
    public static function plainText(mixed $value, int $maximum): ?string
    {
        $text = self::text($value, $maximum, 1);
        return $text === null || preg_match('/[\x00-\x1f\x7f]/', $text) === 1 ? null : $text;
    }

    /** Whether bytes are UTF-8; without the extension mbstring. */
    public static function isUtf8(string $text): bool
    {
        return preg_match('//u', $text) === 1;
    }

    private function match(string $pattern): string
    {
        if (preg_match($pattern, $this->text, $found, 0, $this->at) !== 1) {
            throw new InvalidJson('not JSON');
        }
        $this->at += strlen($found[0]);
        return $found[0];
    }

    private function peek(): string
    {
        return $this->text[$this->at] ?? '';
    }

    private function skips(string $letter): bool
    {
        $this->match('/[ \t\n\r]*/A');
        if ($this->peek() !== $letter) {
            return false;
        }
        $this->at++;
        return true;
    }

    private function value(int $depth): mixed
    {
        if ($depth > self::MAXIMUM_DEPTH) {
            throw new InvalidJson('nested too deep');
        }
        $this->match('/[ \t\n\r]*/A');
        switch ($this->peek()) {
            case '{':
                return $this->readObject($depth);
            case '[':
                return $this->readArray($depth);
            case '"':
                return $this->readString();
            case 't':
                $this->match('/true/A');
                return true;
            case 'f':
                $this->match('/false/A');
                return false;
            case 'n':
                $this->match('/null/A');
                return null;
            default:
                return new JsonNumber($this->match('/-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/A'));
        }
    }

    private function readObject(int $depth): JsonObject
    {
        $object = new JsonObject();
        $this->at++;
        if ($this->skips('}')) {
            return $object;
        }
        do {
            $this->match('/[ \t\n\r]*(?=")/A');
            $name = $this->readString();
            if (!$this->skips(':')) {
                throw new InvalidJson('not JSON');
            }
            $object->add($name instanceof BrokenText ? "\xFF" . $name->bytes : $name, $this->value($depth + 1));
        } while ($this->skips(','));
        if (!$this->skips('}')) {
            throw new InvalidJson('not JSON');
        }
        return $object;
    }

    /** @return list<mixed> */
    private function readArray(int $depth): array
    {
        $elements = [];
        $this->at++;
        if ($this->skips(']')) {
            return $elements;
        }
        do {
            $elements[] = $this->value($depth + 1);
        } while ($this->skips(','));
        if (!$this->skips(']')) {
            throw new InvalidJson('not JSON');
        }
        return $elements;
    }

    private function readString(): string|BrokenText
    {
        $result = '';
        $isBroken = false;
        $this->at++;
        while (true) {
            $result .= $this->match('/[^"\\\\\x00-\x1f]*+/A');
            $letter = $this->peek();
            $this->at++;
            if ($letter === '"') {
                return $isBroken ? new BrokenText($result) : $result;
            }
            if ($letter !== '\\') {
                throw new InvalidJson('not JSON');
            }
            $escape = $this->peek();
            $this->at++;
            if ($escape !== 'u') {
                $result .= self::ESCAPES[$escape] ?? throw new InvalidJson('no such escape');
                continue;
            }
            $code = $this->hex();
            if ($code >= 0xD800 && $code <= 0xDBFF && preg_match('/\\\\u[dD][c-fC-F]/A', $this->text, $_, 0, $this->at) === 1) {
                $this->at += 2;
                $code = 0x10000 + (($code - 0xD800) << 10) + $this->hex() - 0xDC00;
            }
            $isBroken = $isBroken || ($code >= 0xD800 && $code <= 0xDFFF);
            $result .= self::utf8($code);
        }
    }

    private function hex(): int
    {
        return (int) hexdec($this->match('/[0-9A-Fa-f]{4}/A'));
    }

    private static function utf8(int $code): string
    {
        return match (true) {
            $code < 0x80 => chr($code),
            $code < 0x800 => chr(0xC0 | $code >> 6) . chr(0x80 | $code & 63),
            $code < 0x10000 => chr(0xE0 | $code >> 12) . chr(0x80 | $code >> 6 & 63) . chr(0x80 | $code & 63),
            default => chr(0xF0 | $code >> 18) . chr(0x80 | $code >> 12 & 63) . chr(0x80 | $code >> 6 & 63) . chr(0x80 | $code & 63),
        };
    }
}
