<?php

declare(strict_types=1);

namespace LicenseMetering;

/** The keys of GET /.well-known/jwks.json (RFC 7517). */
final class KeySet
{
    private const MAXIMUM_BYTES = 1 << 20;
    private const MAXIMUM_KEYS = 100;

    /** @var list<Key> */
    public readonly array $keys;

    /** @throws InvalidKeySet Keys of kinds that are not known are left out; a malformed key is refused. */
    public function __construct(public readonly string $source)
    {
        if (strlen($source) > self::MAXIMUM_BYTES) {
            throw new InvalidKeySet('more than 1 MiB');
        }
        $members = Json::object($source);
        if ($members === null || $members->repeated || !is_array($members->get('keys'))) {
            throw new InvalidKeySet('not a JSON Web Key Set');
        }
        if (count($members->get('keys')) > self::MAXIMUM_KEYS) {
            throw new InvalidKeySet('more than 100 keys');
        }
        $keys = [];
        foreach ($members->get('keys') as $index => $element) {
            $number = $index + 1;
            if (!$element instanceof JsonObject) {
                throw new InvalidKeySet("key $number: not an object");
            }
            if (!Key::isOfUse($element)) {
                continue;
            }
            try {
                $keys = self::with($keys, Key::read($element));
            } catch (InvalidKeySet $error) {
                throw new InvalidKeySet("key $number: {$error->getMessage()}");
            }
        }
        $this->keys = $keys;
    }

    /** @return list<Key> The keys of a purpose: license or verdict. */
    public function forPurpose(string $purpose): array
    {
        return array_values(array_filter($this->keys, static fn (Key $key): bool => $key->purpose === $purpose));
    }

    /**
     * @param list<Key> $keys
     * @return list<Key>
     */
    private static function with(array $keys, Key $new): array
    {
        foreach ($keys as $key) {
            if ([$key->keyId, $key->purpose, $key->algorithm] === [$new->keyId, $new->purpose, $new->algorithm]) {
                return $key->thumbprint === $new->thumbprint ? $keys : throw new InvalidKeySet('kid stands twice');
            }
        }
        return [...$keys, $new];
    }
}
