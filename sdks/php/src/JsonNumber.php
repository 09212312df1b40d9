<?php

declare(strict_types=1);

namespace LicenseMetering;

/** A number as digits and a power of ten, whatever its size and however it is spelled. @internal */
final class JsonNumber
{
    private const MAXIMUM_EXPONENT = 1_000_000;

    private readonly bool $isNegative;
    private readonly string $digits;
    private readonly int $exponent;

    public function __construct(string $text)
    {
        preg_match('/^(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?$/D', $text, $found);
        $fraction = $found[3] ?? '';
        $power = ltrim($found[5] ?? '', '0');
        // Larger exponents are beyond every use, and stand for it.
        $magnitude = strlen($power) > 6 ? self::MAXIMUM_EXPONENT : (int) $power;
        $digits = ltrim($found[2] . $fraction, '0');
        $this->isNegative = $found[1] === '-';
        $this->digits = rtrim($digits, '0');
        $signed = ($found[4] ?? '') === '-' ? -$magnitude : $magnitude;
        $this->exponent = $this->digits === '' ? 0 : $signed - strlen($fraction) + strlen($digits) - strlen($this->digits);
    }

    /** The number times 10^decimals, rounded down; null beyond 64 bits. */
    public function scaled(int $decimals): ?int
    {
        $shift = $this->exponent + $decimals;
        $kept = $shift >= 0 ? $this->digits : substr($this->digits, 0, max(0, strlen($this->digits) + $shift));
        $zeros = $kept === '' ? 0 : max($shift, 0);
        if (strlen($kept) + $zeros > 19) {
            return null;
        }
        $text = $kept . str_repeat('0', $zeros);
        if (strlen($text) === 19 && strcmp($text, (string) PHP_INT_MAX) > 0) {
            return null;
        }
        $value = (int) $text;
        if (!$this->isNegative) {
            return $value;
        }
        return $this->digits === '' || $shift >= 0 ? -$value : -$value - 1;
    }

    /** The number where it is whole, however it is spelled. */
    public function integer(): ?int
    {
        return $this->digits === '' || $this->exponent >= 0 ? $this->scaled(0) : null;
    }
}
