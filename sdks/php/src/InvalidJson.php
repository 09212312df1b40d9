<?php

declare(strict_types=1);

namespace LicenseMetering;

/** What is no JSON. @internal */
final class InvalidJson extends \RuntimeException
{
}
