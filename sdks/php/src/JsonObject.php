<?php

declare(strict_types=1);

namespace LicenseMetering;

/** An object; repeated where a name stands more than once. @internal */
final class JsonObject
{
    public bool $repeated = false;

    /** @var array<array-key, mixed> */
    private array $values = [];

    public function add(string $name, mixed $value): void
    {
        $this->repeated = $this->repeated || array_key_exists($name, $this->values);
        $this->values[$name] = $value;
    }

    public function has(string $name): bool
    {
        return array_key_exists($name, $this->values);
    }

    public function get(string $name): mixed
    {
        return $this->values[$name] ?? null;
    }

    /** @return array<array-key, mixed> Names that are digits are integers, as PHP has it. */
    public function all(): array
    {
        return $this->values;
    }
}
