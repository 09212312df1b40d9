<?php

declare(strict_types=1);

namespace LicenseMetering;

/** Compact JWS (RFC 7515). @internal */
final class Token
{
    private const MAXIMUM_BYTES = 8192;

    /**
     * The payload that one of the keys signed.
     *
     * @param list<Key> $keys
     * @param list<string|null> $types what typ may be, in lower case and without application/; null: an absent one
     * @throws TokenRefused
     */
    public static function verify(string $token, array $keys, array $types): string
    {
        if (strlen($token) > self::MAXIMUM_BYTES) {
            throw new TokenRefused('too_large');
        }
        $parts = explode('.', $token);
        $decoded = count($parts) === 3 ? array_map(Base64Url::decode(...), $parts) : [null];
        if (in_array(null, $decoded, true)) {
            throw new TokenRefused('not_compact');
        }
        [$algorithm, $keyId, $type] = self::header($decoded[0]);
        if (!in_array($type, $types, true)) {
            throw new TokenRefused('wrong_type');
        }
        $named = $keyId === null ? $keys : array_filter($keys, static fn (Key $key): bool => $key->keyId === $keyId);
        if ($named === []) {
            throw new TokenRefused('unknown_key');
        }
        $fitting = array_values(array_filter($named, static fn (Key $key): bool => $key->algorithm === $algorithm));
        if ($fitting === []) {
            throw new TokenRefused('algorithm_mismatch');
        }
        if (count($fitting) > 1) {
            throw new TokenRefused('unknown_key');
        }
        if (!$fitting[0]->verifies($decoded[2], "$parts[0].$parts[1]")) {
            throw new TokenRefused('bad_signature');
        }
        return $decoded[1];
    }

    /** @return array{string, string|null, string|null} */
    private static function header(string $bytes): array
    {
        $members = Json::object($bytes);
        $name = $members === null || $members->repeated ? null : Json::text($members->get('alg'));
        if ($members === null || $name === null) {
            throw new TokenRefused('bad_header');
        }
        $algorithm = Key::algorithm($name) ?? throw new TokenRefused('unsupported_algorithm');
        if ($members->has('crit') || $members->has('b64')) {
            throw new TokenRefused('critical');
        }
        $read = static fn (string $member, int $maximum): ?string => !$members->has($member) ? null
            : Json::text($members->get($member), $maximum) ?? throw new TokenRefused('bad_header');
        $keyId = $read('kid', 256);
        $type = $read('typ', 1 << 20);
        return [$algorithm, $keyId, $type === null ? null : (string) preg_replace('#^application/#', '', strtolower($type))];
    }
}
