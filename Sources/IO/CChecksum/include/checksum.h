#pragma once
#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), continued from `seed` (0 at the start). In hardware where there is an instruction for it.
uint32_t meter_crc32c(uint32_t seed, const void *_Nullable bytes, size_t count);
