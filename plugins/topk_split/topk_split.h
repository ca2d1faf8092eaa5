// Splits the channels of f into the k most correlated with the temporal offset map o, and the rest.
#pragma once

#include <cmath>
#include <cstddef>

#include "../common/storage.h"

namespace ksnet {

constexpr int kMaxSplitChannels = 1024;

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct TopKSplitParams {
  const void* f;     // T (batch, channels, height, width)
  const float* o;    // (batch, 1, height, width)
  const float* lam;  // (1)
  void* con;         // T (batch, kept, height, width)
  void* dis;         // T (batch, channels - kept, height, width)
  void* workspace;   // ksnet_topk_split_workspace() bytes, aligned to 4
  int32_t batch;
  int32_t channels;
  int32_t kept;
  int32_t height;
  int32_t width;
  StorageType type;
};

// A pixel's share of a channel's score, |m - o|^2 without the term o^2 that all channels share; m is the gradient
// weighted with lam + (1 - lam) f. At the far edges `right` or `below` is the value itself.
__host__ __device__ inline float score_share(float value, float right, float below, float o, float lam) {
  const float dx = right - value, dy = below - value;
  const float weighted = sqrtf(dx * dx + dy * dy) * (lam + (1.0f - lam) * value);
  return weighted * (weighted - 2.0f * o);
}

// Share of the pixel at (row, column) of a plane.
template <typename T>
__host__ __device__ inline float score_share_at(const T* f, const float* o, float lam, int row, int column, int height,
                                                int width) {
  const size_t pixel = static_cast<size_t>(row) * width + column;
  const float value = to_float(f[pixel]);
  const float right = column + 1 < width ? to_float(f[pixel + 1]) : value;
  const float below = row + 1 < height ? to_float(f[pixel + width]) : value;
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

// Bytes of workspace that the launcher needs; the pointers of the struct are not looked at.
KSNET_API size_t ksnet_topk_split_workspace(const ksnet::TopKSplitParams* params);

// Enqueue the split on the stream. Neither allocates nor synchronises. cudaErrorInvalidValue: the sizes do not fit each
// other, exceed the limits in README.md, or the workspace is missing.
KSNET_API cudaError_t ksnet_topk_split(const ksnet::TopKSplitParams* params, cudaStream_t stream);
