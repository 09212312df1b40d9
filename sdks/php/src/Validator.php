<?php

declare(strict_types=1);

namespace LicenseMetering;

/** What middleware needs of a client; Client and FakeClient have it. */
interface Validator
{
    /** Whether the license holds for a domain. */
    public function validate(string $domain, ?string $licenseKey = null): Result;
}
