<?php

declare(strict_types=1);

namespace LicenseMetering;

/** What a verified license token says of itself. Times are milliseconds since 1970. */
final class LicenseClaims
{
    public const GRACE_MILLISECONDS = 7 * 86_400_000;
    private const MAXIMUM_MILLISECONDS = 253_402_300_799_999;
    private const MAXIMUM_ITEMS = 100;

    /**
     * @param list<string> $domains
     * @param list<string> $features
     * @param array<array-key, int> $limits
     */
    private function __construct(
        public readonly string $licenseId,
        public readonly array $domains,
        public readonly string $plan,
        public readonly array $features,
        public readonly array $limits,
        public readonly int $issuedAt,
        public readonly int $expiresAt,
        public readonly ?int $notBefore,
        public readonly bool $isTrial,
    ) {
    }

    /**
     * The claims of a token that a license key of the set has signed. Asks no clock.
     *
     * @throws TokenRefused
     */
    public static function verify(string $token, KeySet $keys): self
    {
        $payload = Token::verify($token, $keys->forPurpose('license'), [null, 'jwt', 'license+jwt']);
        $members = Json::object($payload) ?? throw new TokenRefused('bad_claims', 'claims');
        if ($members->repeated) {
            throw new TokenRefused('bad_claims', 'repeated claim');
        }
        $read = static fn (string $claim, callable $reader): mixed => !$members->has($claim) ? null
            : $reader($members->get($claim)) ?? throw new TokenRefused('bad_claims', $claim);
        $short = static fn (mixed $value): ?string => Json::plainText($value, 256);
        $licenseId = Json::plainText($members->get('sub'), 512) ?? throw new TokenRefused('bad_claims', 'sub');
        $plan = $read('plan', $short) ?? '';
        $features = $read('features', self::texts(...)) ?? [];
        $single = $read('domain', $short);
        $several = $read('domains', self::texts(...)) ?? [];
        $limits = $read('limits', self::limits(...)) ?? [];
        $isTrial = $read('trial', static fn (mixed $value): ?bool => is_bool($value) ? $value : null) ?? false;
        $notBefore = $read('nbf', self::time(...));
        $issuedAt = $read('iat', self::time(...)) ?? throw new TokenRefused('bad_claims', 'iat');
        $expiresAt = $read('exp', self::time(...));
        if ($expiresAt === null || $expiresAt <= $issuedAt) {
            throw new TokenRefused('bad_claims', 'exp');
        }
        $domains = [];
        foreach ([...($single === null ? [] : [$single]), ...$several] as $domain) {
            if (!in_array($domain, $domains, true)) {
                $domains[] = $domain;
            }
        }
        return new self($licenseId, $domains, $plan, $features, $limits, $issuedAt, $expiresAt, $notBefore, $isTrial);
    }

    /**
     * not_yet_valid, expired, domain_mismatch, grace or valid; the last two hold.
     *
     * @param int|null $now milliseconds since 1970
     */
    public function judge(string $domain, ?int $now = null): string
    {
        $now ??= (int) (microtime(true) * 1000);
        if ($this->notBefore !== null && $now < $this->notBefore) {
            return 'not_yet_valid';
        }
        $isExpired = $now >= $this->expiresAt;
        if ($isExpired && ($this->isTrial || $now >= $this->expiresAt + self::GRACE_MILLISECONDS)) {
            return 'expired';
        }
        if (DomainName::normalize($domain)?->isCoveredBy($this->domains) !== true) {
            return 'domain_mismatch';
        }
        return $isExpired ? 'grace' : 'valid';
    }

    /** @return list<string>|null */
    private static function texts(mixed $value): ?array
    {
        if (!is_array($value) || count($value) > self::MAXIMUM_ITEMS) {
            return null;
        }
        $texts = array_map(static fn (mixed $element): ?string => Json::plainText($element, 256), $value);
        return in_array(null, $texts, true) ? null : $texts;
    }

    /** @return array<array-key, int>|null */
    private static function limits(mixed $value): ?array
    {
        if (!$value instanceof JsonObject || $value->repeated || count($value->all()) > self::MAXIMUM_ITEMS) {
            return null;
        }
        $limits = [];
        foreach ($value->all() as $name => $quantity) {
            if ($quantity === null) {
                continue;
            }
            $number = $quantity instanceof JsonNumber ? $quantity->integer() : null;
            if (Json::plainText((string) $name, 64) === null || $number === null || $number < 0) {
                return null;
            }
            $limits[$name] = $number;
        }
        return $limits;
    }

    private static function time(mixed $value): ?int
    {
        $milliseconds = $value instanceof JsonNumber ? $value->scaled(3) : null;
        return $milliseconds !== null && $milliseconds >= 0 && $milliseconds <= self::MAXIMUM_MILLISECONDS ? $milliseconds : null;
    }
}
