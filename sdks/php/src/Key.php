<?php

declare(strict_types=1);

namespace LicenseMetering;

/** A public key of a set. The algorithm is the key's, never the token's. */
final class Key
{
    private const ALGORITHMS = ['EdDSA' => 'EdDSA', 'Ed25519' => 'EdDSA', 'ES256' => 'ES256', 'RS256' => 'RS256'];
    // SubjectPublicKeyInfo up to the point of P-256, and the identifier of RSA.
    private const EC_PREFIX = '3059301306072a8648ce3d020106082a8648ce3d030107034200';
    private const RSA_IDENTIFIER = '300d06092a864886f70d0101010500';

    private function __construct(
        public readonly string $keyId,
        public readonly string $algorithm,
        public readonly string $purpose,
        public readonly string $thumbprint,
        private readonly string|\OpenSSLAsymmetricKey $material,
        private readonly int $signatureBytes,
    ) {
    }

    /** The algorithm that a name means; null where it is not known. */
    public static function algorithm(mixed $name): ?string
    {
        return is_string($name) ? self::ALGORITHMS[$name] ?? null : null;
    }

    /** Whether the signature fits, by the key's own algorithm. */
    public function verifies(string $signature, string $data): bool
    {
        if (strlen($signature) !== $this->signatureBytes) {
            return false;
        }
        if (is_string($this->material)) {
            return $this->material !== '' && $signature !== ''
                && sodium_crypto_sign_verify_detached($signature, $data, $this->material);
        }
        $form = $this->algorithm === 'ES256' ? self::ecdsa($signature) : $signature;
        $found = openssl_verify($data, $form, $this->material, OPENSSL_ALGO_SHA256);
        while (openssl_error_string() !== false) {
            // What is left there would be taken for another call's.
        }
        return $found === 1;
    }

    /** Keys of other kinds, curves, uses and algorithms are left out, as RFC 7517 asks; what is malformed stays. */
    public static function isOfUse(JsonObject $members): bool
    {
        $is = static function (string $name, string ...$known) use ($members): bool {
            $text = Json::text($members->get($name));
            return $text === null || in_array($text, $known, true);
        };
        $operations = $members->get('key_ops');
        if (is_array($operations) && !in_array('verify', $operations, true) && !in_array('sign', $operations, true)) {
            return Json::text($members->get('kty')) === null;
        }
        return match (Json::text($members->get('kty'))) {
            null => true,
            'OKP' => $is('crv', 'Ed25519'),
            'EC' => $is('crv', 'P-256'),
            'RSA' => true,
            default => false,
        } && (Json::text($members->get('kty')) === null || ($is('use', 'sig')
            && $is('alg', ...array_keys(self::ALGORITHMS)) && $is('purpose', 'license', 'verdict')));
    }

    /** @throws InvalidKeySet */
    public static function read(JsonObject $members): self
    {
        self::check($members);
        $purpose = $members->has('purpose') ? $members->get('purpose') : 'license';
        $keyId = $members->has('kid') ? Json::text($members->get('kid'), 256, 1) : null;
        if ($members->has('kid') && $keyId === null) {
            throw new InvalidKeySet('kid must be a text of 1 to 256 bytes');
        }
        [$algorithm, $material, $size, $required] = self::material($members);
        if ($members->has('alg') && self::algorithm($members->get('alg')) !== $algorithm) {
            throw new InvalidKeySet('alg does not fit the key');
        }
        $thumbprint = Base64Url::encode(hash('sha256', (string) json_encode($required), true));
        return new self($keyId ?? $thumbprint, $algorithm, $purpose, $thumbprint, $material, $size);
    }

    private static function check(JsonObject $members): void
    {
        if ($members->repeated) {
            throw new InvalidKeySet('a member stands twice');
        }
        if ($members->has('use') && $members->get('use') !== 'sig') {
            throw new InvalidKeySet('use must be sig');
        }
        $operations = $members->has('key_ops') ? $members->get('key_ops') : [];
        if (!is_array($operations) || $operations !== array_filter($operations, 'is_string')) {
            throw new InvalidKeySet('key_ops must be an array of texts');
        }
        if ($members->has('purpose') && !in_array($members->get('purpose'), ['license', 'verdict'], true)) {
            throw new InvalidKeySet('purpose must be license or verdict');
        }
    }

    /** @return array{string, string|\OpenSSLAsymmetricKey, int, array<string, string>} */
    private static function material(JsonObject $members): array
    {
        [$kind, $curve] = [$members->get('kty'), $members->get('crv')];
        if ($kind === 'OKP' && $curve === 'Ed25519') {
            $x = self::bytes($members, 'x', 32);
            return ['EdDSA', $x, 64, ['crv' => 'Ed25519', 'kty' => 'OKP', 'x' => Base64Url::encode($x)]];
        }
        if ($kind === 'EC' && $curve === 'P-256') {
            [$x, $y] = [self::bytes($members, 'x', 32), self::bytes($members, 'y', 32)];
            $required = ['crv' => 'P-256', 'kty' => 'EC', 'x' => Base64Url::encode($x), 'y' => Base64Url::encode($y)];
            return ['ES256', self::publicKey(hex2bin(self::EC_PREFIX) . "\x04" . $x . $y), 64, $required];
        }
        if ($kind !== 'RSA') {
            throw new InvalidKeySet('kty and crv must be OKP with Ed25519, EC with P-256, or RSA');
        }
        [$n, $e] = [self::bytes($members, 'n'), self::bytes($members, 'e')];
        $bits = strlen($n) * 8 - ($n[0] === "\0" ? 8 : 7 - (int) floor(log(ord($n[0]), 2)));
        if ($n[0] === "\0" || $bits < 2048 || $bits > 8192 || strlen($e) > 8) {
            throw new InvalidKeySet('n and e are no RSA key of 2,048 to 8,192 bits');
        }
        $key = self::der(0x30, self::integer($n) . self::integer($e));
        $info = self::der(0x30, hex2bin(self::RSA_IDENTIFIER) . self::der(0x03, "\0" . $key));
        $required = ['e' => Base64Url::encode($e), 'kty' => 'RSA', 'n' => Base64Url::encode($n)];
        return ['RS256', self::publicKey($info), strlen($n), $required];
    }

    private static function publicKey(string $info): \OpenSSLAsymmetricKey
    {
        $pem = "-----BEGIN PUBLIC KEY-----\n" . chunk_split(base64_encode($info), 64, "\n") . "-----END PUBLIC KEY-----\n";
        $key = openssl_pkey_get_public($pem);
        while (openssl_error_string() !== false) {
            // As above.
        }
        return $key === false ? throw new InvalidKeySet('the members are no key') : $key;
    }

    private static function bytes(JsonObject $members, string $name, ?int $count = null): string
    {
        $text = Json::text($members->get($name), 2048);
        $bytes = $text === null ? null : Base64Url::decode($text);
        if ($bytes === null || $bytes === '' || ($count !== null && strlen($bytes) !== $count)) {
            throw new InvalidKeySet("$name must be base64url" . ($count === null ? '' : " of $count bytes"));
        }
        return $bytes;
    }

    /** r || s as OpenSSL takes it. */
    private static function ecdsa(string $signature): string
    {
        return self::der(0x30, self::integer(substr($signature, 0, 32)) . self::integer(substr($signature, 32)));
    }

    private static function integer(string $bytes): string
    {
        $bytes = ltrim($bytes, "\0");
        return self::der(0x02, $bytes === '' || ord($bytes[0]) >= 0x80 ? "\0" . $bytes : $bytes);
    }

    private static function der(int $tag, string $content): string
    {
        $size = strlen($content);
        $length = match (true) {
            $size < 0x80 => chr($size),
            $size < 0x100 => "\x81" . chr($size),
            default => "\x82" . pack('n', $size),
        };
        return chr($tag) . $length . $content;
    }
}
