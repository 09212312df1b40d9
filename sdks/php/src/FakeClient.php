<?php

declare(strict_types=1);

namespace LicenseMetering;

/** Stands in for Client in tests: no network, no clock. It answers what it is told, and remembers what it was asked. */
final class FakeClient implements Validator
{
    /** @var list<string> */
    public array $asked = [];
    /** @var list<array<string, mixed>> */
    public array $recorded = [];

    public function __construct(public Result $result)
    {
    }

    /** A client that says yes. */
    public static function valid(string ...$features): self
    {
        return new self(new Result(true, 'valid', 'online', features: new Features(array_values($features))));
    }

    /** A client that says no. */
    public static function denied(string $code): self
    {
        return new self(new Result(false, $code, 'online'));
    }

    public function validate(string $domain, ?string $licenseKey = null): Result
    {
        $this->asked[] = $domain;
        return $this->result;
    }

    public function record(
        string $meter,
        int $quantity = 1,
        ?string $licenseId = null,
        ?string $domain = null,
        ?string $feature = null,
    ): bool {
        $this->recorded[] = compact('meter', 'quantity', 'licenseId', 'domain', 'feature');
        return true;
    }
}
