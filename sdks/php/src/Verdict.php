<?php

declare(strict_types=1);

namespace LicenseMetering;

/** What the service has signed. Times are milliseconds since 1970. */
final class Verdict
{
    public const TOLERANCE_MILLISECONDS = 300_000;

    /**
     * @param list<string> $features
     * @param array<array-key, int> $limits
     */
    private function __construct(
        public readonly bool $valid,
        public readonly string $code,
        public readonly int $timestamp,
        public readonly ?string $licenseId,
        public readonly ?string $plan,
        public readonly array $features,
        public readonly array $limits,
        public readonly ?int $expiresAt,
        public readonly bool $grace,
        public readonly bool $overLimit,
        public readonly ?string $error,
    ) {
    }

    /**
     * The verdict of a signature, where it answers this very question.
     *
     * @param string|null $nonce null, as $now, for an answer that was verified when it came and is read from a cache
     * @throws TokenRefused
     */
    public static function verify(
        string $signature,
        KeySet $keys,
        string $licenseKey,
        ?DomainName $domain,
        ?string $nonce,
        ?int $now,
    ): self {
        $members = self::members($signature, $keys);
        if ($members === null || $members->repeated || ($nonce !== null && !self::equals($members->get('nonce'), $nonce))) {
            throw new TokenRefused('other_nonce');
        }
        $hash = Base64Url::encode(hash('sha256', $licenseKey, true));
        if (!self::equals($members->get('licenseKeyHash'), $hash)) {
            throw new TokenRefused('other_question');
        }
        if (!$members->has('domain') || $members->get('domain') !== $domain?->text) {
            throw new TokenRefused('other_question');
        }
        $timestamp = self::milliseconds($members->get('timestamp'));
        if ($timestamp === null || ($now !== null && abs($now - $timestamp) > self::TOLERANCE_MILLISECONDS)) {
            throw new TokenRefused('stale');
        }
        return self::read($members, $timestamp);
    }

    /** When the service signed a verdict, whatever it answers; 0 where it is none of the service's. */
    public static function signedTime(string $signature, KeySet $keys): int
    {
        try {
            return self::milliseconds(self::members($signature, $keys)?->get('timestamp')) ?? 0;
        } catch (TokenRefused) {
            return 0;
        }
    }

    private static function members(string $signature, KeySet $keys): ?JsonObject
    {
        return Json::object(Token::verify($signature, $keys->forPurpose('verdict'), ['verdict+jwt']));
    }

    private static function equals(mixed $value, string $expected): bool
    {
        $text = Json::text($value);
        return $text !== null && hash_equals($expected, $text);
    }

    /** Of 2026-11-23T18:40:00.123Z; null for any other spelling. */
    private static function milliseconds(mixed $value): ?int
    {
        $pattern = '/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$/D';
        if (!is_string($value) || preg_match($pattern, $value) !== 1) {
            return null;
        }
        $date = \DateTimeImmutable::createFromFormat('Y-m-d\TH:i:s.v\Z', $value, new \DateTimeZone('UTC'));
        return $date !== false && $date->format('Y-m-d\TH:i:s.v\Z') === $value ? (int) $date->format('Uv') : null;
    }

    private static function read(JsonObject $members, int $timestamp): self
    {
        [$valid, $code] = [$members->get('valid'), Json::text($members->get('code'))];
        $features = $members->has('features') ? $members->get('features') : [];
        if (!is_bool($valid) || $code === null || !is_array($features)) {
            throw new TokenRefused('bad_claims', 'verdict');
        }
        $limits = [];
        $quantities = $members->get('limits') instanceof JsonObject ? $members->get('limits')->all() : [];
        foreach ($quantities as $name => $quantity) {
            $number = $quantity instanceof JsonNumber ? $quantity->integer() : null;
            if ($number !== null) {
                $limits[$name] = $number;
            }
        }
        return new self(
            $valid,
            $code,
            $timestamp,
            Json::text($members->get('licenseId')),
            Json::text($members->get('plan')),
            array_values(array_filter($features, is_string(...))),
            $limits,
            self::milliseconds($members->get('expiresAt')),
            $members->get('grace') === true,
            $members->get('overLimit') === true,
            Json::text($members->get('error')),
        );
    }
}
