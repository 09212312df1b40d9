<?php

declare(strict_types=1);

namespace LicenseMetering;

/**
 * What a license unlocks: $features->has('analytics').
 *
 * @implements \IteratorAggregate<int, string>
 */
final class Features implements \IteratorAggregate, \Countable
{
    /** @param list<string> $names */
    public function __construct(private readonly array $names = [])
    {
    }

    /** Whether the license unlocks it. */
    public function has(string $name): bool
    {
        return in_array($name, $this->names, true);
    }

    public function getIterator(): \ArrayIterator
    {
        return new \ArrayIterator($this->names);
    }

    public function count(): int
    {
        return count($this->names);
    }
}
