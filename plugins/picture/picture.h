// The HR frame: the LR one enlarged by bicubic interpolation, and the residual that a network found.
#pragma once

#include "../common/layout.h"
#include "../common/storage.h"

namespace ksnet {

constexpr int kScale = 4;
constexpr int kColours = 3;
constexpr int kCubicTaps = 5;  // that any of the four phases of an LR pixel sees, from two before it to two behind it

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct PictureParams {
  const void* residual;  // T (batch, 4 height, 4 width, 3)
  const float* lr;       // (batch, 3, height, width)
  void* y;               // float, or uint8_t as_bytes, (batch, 4 height, 4 width, 3)
  int32_t batch;
  int32_t height;
  int32_t width;
  StorageType type;
  int32_t as_bytes;  // 1: the picture clamped to [0, 1], times 255, rounded to even; 0: as it is
};

// Weights of the taps of a phase, from 0 to 3: Keys' kernel with a = -1/2, whose sum is one.
__host__ __device__ inline void cubic_weights(int phase, float (&weights)[kCubicTaps]) {
  const float a = -0.5f, position = (static_cast<float>(phase) + 0.5f) / kScale - 0.5f;
  for (int tap = 0; tap < kCubicTaps; ++tap) {
    const float d = fabsf(position - static_cast<float>(tap - kCubicTaps / 2));
    const float near = ((a + 2.0f) * d - (a + 3.0f)) * d * d + 1.0f;
    const float far = a * (((d - 5.0f) * d + 8.0f) * d - 4.0f);
    weights[tap] = d <= 1.0f ? near : d < 2.0f ? far : 0.0f;
  }
}

}  // namespace ksnet

// Enqueue the picture on the stream. cudaErrorInvalidValue: a size is none, or y has 2^31 elements.
KSNET_API cudaError_t ksnet_picture(const ksnet::PictureParams* params, cudaStream_t stream);
