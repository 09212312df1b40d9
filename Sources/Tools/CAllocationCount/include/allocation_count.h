#pragma once
#include <stdint.h>

/// How often this thread has called malloc, calloc or realloc.
uint64_t meter_allocations(void);
