// What follows a convolution of channels-last tensors: bias, leaky ReLU, a sum with another tensor, a pixel shuffle.
#pragma once

#include "../common/storage.h"

namespace ksnet {

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct EpilogueParams {
  const void* x;     // T (rows, width, pitch), of which the first shuffle^2 * channels of a pixel count
  const void* bias;  // T (shuffle^2 * channels)
  const void* skip;  // T, as y; null for none
  void* y;           // T (shuffle * rows, shuffle * width, channels); x itself where the sizes are the same
  int32_t rows;      // of all images of the batch
  int32_t width;
  int32_t pitch;     // channels of x in memory
  int32_t channels;  // of y
  int32_t shuffle;   // 1, or the factor r of a pixel shuffle: channel (i * r + j) * channels + c of x is channel c of y
                     // at row i and column j of the r x r pixels
  float slope;       // of the activation below zero: 1 for none, 0 for ReLU
  StorageType type;
};

__host__ __device__ inline float epilogue(float x, float bias, float slope, float skip) {
  const float value = x + bias;
  return (value < 0.0f ? slope * value : value) + skip;
}

}  // namespace ksnet

// Enqueue the epilogue on the stream. cudaErrorInvalidValue: the sizes do not fit each other, or y has 2^31 elements.
KSNET_API cudaError_t ksnet_epilogue(const ksnet::EpilogueParams* params, cudaStream_t stream);
