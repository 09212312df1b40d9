// In C, since Swift reaches neither the instruction nor a portable way to ask for it.
#include "checksum.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define METER_HARDWARE __attribute__((target("sse4.2")))
METER_HARDWARE static uint32_t word(uint32_t crc, uint64_t value) { return (uint32_t)_mm_crc32_u64(crc, value); }
METER_HARDWARE static uint32_t byte(uint32_t crc, uint8_t value) { return _mm_crc32_u8(crc, value); }
static int has_hardware(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define METER_HARDWARE
static uint32_t word(uint32_t crc, uint64_t value) { return __crc32cd(crc, value); }
static uint32_t byte(uint32_t crc, uint8_t value) { return __crc32cb(crc, value); }
static int has_hardware(void) { return 1; }
#endif

#ifdef METER_HARDWARE
METER_HARDWARE static uint32_t hardware(uint32_t crc, const uint8_t *p, size_t n) {
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t value;
    memcpy(&value, p, 8);
    crc = word(crc, value);
  }
  for (; n > 0; p++, n--) crc = byte(crc, *p);
  return crc;
}
#endif

static uint32_t portable(uint32_t crc, const uint8_t *p, size_t n) {
  for (; n > 0; p++, n--) {
    crc ^= *p;
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
  }
  return crc;
}

uint32_t meter_crc32c(uint32_t seed, const void *bytes, size_t count) {
  const uint32_t crc = ~seed;
#ifdef METER_HARDWARE
  if (has_hardware()) return ~hardware(crc, bytes, count);
#endif
  return ~portable(crc, bytes, count);
}
