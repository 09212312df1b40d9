<?php

declare(strict_types=1);

namespace LicenseMetering;

/** A key set that is malformed. The message names the key and the member, never a value. */
final class InvalidKeySet extends \InvalidArgumentException
{
}
