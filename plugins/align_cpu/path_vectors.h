// Vectors of KSNET_WIDTH floats and of four, what they hold as bfloat16, and tanh and sigmoid of them. Included once
// for each path, like path_code.h and before it.

#include <cstdint>
#include <cstring>

namespace ksnet {
namespace {

constexpr int32_t kWidth = KSNET_WIDTH;

typedef float Floats __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));

template <int32_t N>
struct Samples {
  typedef float type __attribute__((vector_size(N * 4), aligned(4), may_alias));
};

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<Floats*>(to) = values; }
inline Floats all(float value) { return value - Floats{}; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
inline int32_t up(int32_t value, int32_t unit) { return (value + unit - 1) / unit * unit; }

inline float widened(float value) { return value; }
inline float widened(uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}
inline void narrow(float value, float* to) { *to = value; }
inline void narrow(float value, uint16_t* to) {  // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  *to = value == value ? static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16) : 0x7fc0;
}

// 2^n and exp(r) - 1 with z = n ln 2 + r, |r| <= ln 2 / 2, for |z| < 88. The terms left out are below 6e-9 of r.
inline Floats exponential_parts(Floats z, Floats* power) {
  const Floats round = all(12582912.0f);  // 1.5 * 2^23: what is added to it loses its fraction
  const Floats n = (z * 1.44269504f + round) - round;
  const Floats r = (z - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts, the first exact times n
  const Ints exponent = (__builtin_convertvector(n, Ints) + 127) << 23;
  std::memcpy(power, &exponent, sizeof exponent);
  Floats sum = all(1.0f / 40320);
  sum = sum * r + 1.0f / 5040;
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  return sum * r * r + r;
}

// tanh(z) = (e^2|z| - 1) / (e^2|z| + 1) with the sign of z; 1 from 10 on, as in float32.
inline Floats tanh_of(Floats z) {
  const Floats size = smaller(z < 0.0f ? -z : z, all(10.0f));
  Floats power;
  const Floats part = exponential_parts(size + size, &power);
  const Floats grown = power * part + (power - 1.0f);
  const Floats result = grown / (grown + 2.0f);
  return z < 0.0f ? -result : result;
}

inline Floats sigmoid_of(Floats z) {
  Floats power;
  const Floats part = exponential_parts(-larger(smaller(z, all(87.0f)), all(-87.0f)), &power);
  return 1.0f / (1.0f + (power * part + power));
}

typedef Samples<4>::type Four;
typedef int32_t FourInts __attribute__((vector_size(16)));
typedef uint16_t FourHalves __attribute__((vector_size(8), aligned(2), may_alias));

inline Four load_four(const float* from) { return *reinterpret_cast<const Four*>(from); }
inline Four load_four(const uint16_t* from) {
  const FourInts bits = __builtin_convertvector(*reinterpret_cast<const FourHalves*>(from), FourInts) << 16;
  Four wide;
  std::memcpy(&wide, &bits, sizeof bits);
  return wide;
}

// Four rows of four values, `stride` apart, become the columns of four others.
template <typename T>
inline void turn(const T* from, size_t stride, float* to, size_t to_stride) {
  const Four a = load_four(from);
  const Four b = load_four(from + stride);
  const Four c = load_four(from + 2 * stride);
  const Four d = load_four(from + 3 * stride);
  const FourInts low = {0, 4, 1, 5};
  const FourInts high = {2, 6, 3, 7};
  const Four ac_low = __builtin_shuffle(a, c, low);
  const Four ac_high = __builtin_shuffle(a, c, high);
  const Four bd_low = __builtin_shuffle(b, d, low);
  const Four bd_high = __builtin_shuffle(b, d, high);
  const auto put = [&](size_t row, Four values) { *reinterpret_cast<Four*>(to + row * to_stride) = values; };
  put(0, __builtin_shuffle(ac_low, bd_low, low));
  put(1, __builtin_shuffle(ac_low, bd_low, high));
  put(2, __builtin_shuffle(ac_high, bd_high, low));
  put(3, __builtin_shuffle(ac_high, bd_high, high));
}

}  // namespace
}  // namespace ksnet
