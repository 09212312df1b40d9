<?php

declare(strict_types=1);

namespace LicenseMetering;

/** The service gave no answer that can be believed. @internal */
final class NoAnswer extends \RuntimeException
{
    /**
     * @param string $problem timeout, connection, tls, pin_mismatch, too_large, http_503 (or another status) or untrusted
     * @param bool $isTemporary whether asking again may help
     * @param int $retryAfter seconds
     */
    public function __construct(
        public readonly string $problem,
        public readonly bool $isTemporary = false,
        public readonly int $retryAfter = 0,
    ) {
        parent::__construct($problem);
    }

    /** What a status means that is no answer. */
    public static function ofStatus(int $status, int $retryAfter): self
    {
        $isTemporary = $status === 408 || $status === 429 || $status >= 500;
        return new self("http_$status", $isTemporary, $isTemporary ? $retryAfter : 0);
    }
}
