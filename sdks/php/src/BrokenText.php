<?php

declare(strict_types=1);

namespace LicenseMetering;

/** A string with a lone surrogate, which is grammatical and no text. @internal */
final class BrokenText
{
    public function __construct(public readonly string $bytes)
    {
    }
}
