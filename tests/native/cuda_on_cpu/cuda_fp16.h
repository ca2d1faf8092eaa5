// FP16 storage by way of its bits; rounds to nearest even, as the GPU does.
#pragma once

#include <cstdint>
#include <cstring>

struct __half {
  uint16_t bits;
};

inline float __half2float(__half value) {
  const uint32_t sign = (value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  float result;
  if (magnitude >= 0x7c00u) {  // infinite or NaN
    const uint32_t bits = 0x7f800000u | (magnitude & 0x3ffu) << 13;
    std::memcpy(&result, &bits, sizeof(result));
  } else if (magnitude >= 0x0400u) {
    const uint32_t bits = (magnitude << 13) + ((127u - 15u) << 23);
    std::memcpy(&result, &bits, sizeof(result));
  } else {  // subnormal
    result = static_cast<float>(magnitude) * 0x1p-24f;
  }
  return sign ? -result : result;
}

inline __half __float2half_rn(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  uint32_t result;
  if (bits > 0x7f800000u) {
    result = 0x7fffu;  // NaN
  } else if (bits >= 0x477ff000u) {
    result = 0x7c00u;  // rounds to infinity
  } else if (bits >= 0x38800000u) {
    bits -= (127u - 15u) << 23;
    result = (bits + 0xfffu + (bits >> 13 & 1u)) >> 13;
  } else {  // subnormal: adding 0.5 makes the float unit round at 2^-24
    float shifted;
    std::memcpy(&shifted, &bits, sizeof(shifted));
    shifted += 0.5f;
    std::memcpy(&result, &shifted, sizeof(result));
    result -= 0x3f000000u;
  }
  return __half{static_cast<uint16_t>(sign | result)};
}
