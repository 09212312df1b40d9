<?php

declare(strict_types=1);

namespace LicenseMetering;

/** Whether the application may run, why, and how this is known. */
final class Result
{
    /**
     * @param string $code one of the service's, or clock_rolled_back or unreachable
     * @param string $source online, cache, grace (remembered while the service gives no answer), offline (judged from the
     *   license token itself) or none
     * @param float $age seconds since the service signed it
     * @param array<array-key, int> $limits
     * @param int|null $expiresAt milliseconds since 1970
     * @param bool $grace the license has expired and holds for up to seven days more
     * @param string|null $explanation one sentence for a developer; null where the license holds
     * @param string|null $problem why the service gave no answer: timeout, connection, tls, untrusted, http_503, …
     */
    public function __construct(
        public readonly bool $valid,
        public readonly string $code,
        public readonly string $source,
        public readonly float $age = 0,
        public readonly ?string $licenseId = null,
        public readonly ?string $plan = null,
        public readonly Features $features = new Features(),
        public readonly array $limits = [],
        public readonly ?int $expiresAt = null,
        public readonly bool $grace = false,
        public readonly bool $overLimit = false,
        public readonly ?string $explanation = null,
        public readonly ?string $problem = null,
    ) {
    }
}
