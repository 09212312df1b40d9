<?php

declare(strict_types=1);

namespace LicenseMetering;

/** A token that is not believed. */
final class TokenRefused extends \RuntimeException
{
    /**
     * @param string $rule too_large, not_compact, bad_header, unsupported_algorithm, critical, wrong_type, unknown_key,
     *   algorithm_mismatch, bad_signature, bad_claims; of a verdict also other_nonce, other_question and stale
     * @param string|null $claim the claim of bad_claims
     */
    public function __construct(public readonly string $rule, public readonly ?string $claim = null)
    {
        parent::__construct($claim === null ? $rule : "$rule: $claim");
    }
}
