// Splits the channels of f into the k most correlated with the temporal offset map o, and the rest.
#pragma once

#include <cmath>
#include <cstddef>

#include "../common/layout.h"
#include "../common/storage.h"

namespace ksnet {

constexpr int kMaxSplitChannels = 1024;

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct TopKSplitParams {
  const void* f;     // T (batch, channels, height, width)
  const float* o;    // (batch, 1, height, width), rows and images one after the other
  const float* lam;  // (1)
  void* con;         // T (batch, kept, height, width)
  void* dis;         // T (batch, channels - kept, height, width)
  void* workspace;   // ksnet_topk_split_workspace() bytes, aligned to 4
  Layout f_layout, con_layout, dis_layout;
  int32_t batch;
  int32_t channels;
  int32_t kept;
  int32_t channel_multiple;  // f, con and dis hold whole multiples: of con and dis the rest is filled with zeros; or 1
  int32_t height;
  int32_t width;
  StorageType type;
};

// The root of a sum of squares. On a GPU the approximation of the hardware, which is off by one unit in the last place
// at most: the exact root takes a slow way where features are flat.
__host__ __device__ inline float root(float square) {
#ifdef __CUDA_ARCH__
  float result;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(result) : "f"(square));
  return result;
#else
  return sqrtf(square);
#endif
}

// A pixel's share of a channel's score, |m - o|^2 without the term o^2 that all channels share; m is the gradient
// weighted with lam + (1 - lam) f. At the far edges `right` or `below` is the value itself.
__host__ __device__ inline float score_share(float value, float right, float below, float o, float lam) {
  const float dx = right - value, dy = below - value;
  const float weighted = root(dx * dx + dy * dy) * (lam + (1.0f - lam) * value);
  return weighted * (weighted - 2.0f * o);
}

// Share of the pixel at (row, column) of a channel; `step` is the elements from a pixel to the next.
template <typename T>
__host__ __device__ inline float score_share_at(const T* f, int64_t step, const float* o, float lam, int row,
                                                int column, int height, int width) {
  const int64_t pixel = static_cast<int64_t>(row) * width + column;
  const float value = to_float(f[pixel * step]);
  const float right = column + 1 < width ? to_float(f[(pixel + 1) * step]) : value;
  const float below = row + 1 < height ? to_float(f[(pixel + width) * step]) : value;
  return score_share(value, right, below, o[pixel], lam);
}

// Total order of the channels: smaller scores first, NaN last, ties by channel.
__host__ __device__ inline bool comes_before(float score_a, int a, float score_b, int b) {
  const bool nan_a = score_a != score_a, nan_b = score_b != score_b;
  if (nan_a != nan_b) return nan_b;
  if (nan_a || score_a == score_b) return a < b;
  return score_a < score_b;
}

}  // namespace ksnet

// Bytes of workspace that the launcher needs, no fewer for a larger batch, height or width; the pointers of the struct
// are not looked at.
KSNET_API size_t ksnet_topk_split_workspace(const ksnet::TopKSplitParams* params);

// Enqueue the split on the stream. Neither allocates nor synchronises. cudaErrorInvalidValue: the sizes do not fit each
// other, exceed the limits in README.md, or the workspace is missing.
KSNET_API cudaError_t ksnet_topk_split(const ksnet::TopKSplitParams* params, cudaStream_t stream);
