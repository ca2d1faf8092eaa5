// What a level of the flow network sees: an image, the other one warped to it by the coarser level's flow, and that
// flow.
#pragma once

#include "../common/layout.h"
#include "../common/storage.h"

namespace ksnet {

constexpr int kImageChannels = 3;
constexpr int kFlowChannels = 2;  // dx, then dy
constexpr int kSeenChannels = 2 * kImageChannels + kFlowChannels;

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct FlowInputParams {
  const float* image;      // (batch, 3, height, width)
  const float* reference;  // (batch, 3, height, width)
  const float* coarse;     // (batch, 2, height / 2, width / 2) in pixels of its size; null at rest
  const void* correction;  // T (batch, 2, height / 2, width / 2), which coarse lacks; null for none
  void* seen;              // T (batch, height, width, 8): image, warped reference, flow
  float* flow;             // (batch, 2, height, width) in pixels
  Layout image_layout, reference_layout, coarse_layout, correction_layout;
  int32_t batch;
  int32_t height;
  int32_t width;
  StorageType type;
};

// A position between two rows, or columns, of the coarser level: the first, where the second is, and its weight.
struct BetweenTwo {
  int first;
  int step;  // to the second: 1, or 0 at the end
  float weight;
};

// Of a row or column of the finer level, when the corners of both lie upon one another; as PyTorch computes it, with
// `scale` = (size - 1) / (finer size - 1).
__host__ __device__ inline BetweenTwo coarse_position(int index, float scale, int size) {
  const float position = scale * static_cast<float>(index);
  const int rounded = static_cast<int>(position), first = rounded < size ? rounded : size - 1;
  return BetweenTwo{first, first < size - 1 ? 1 : 0, position - static_cast<float>(first)};
}

}  // namespace ksnet

// Enqueue it on the stream. cudaErrorInvalidValue: a size is none or, where there is a coarser level, odd; seen has
// 2^31 elements, or is not aligned to 16 bytes; or there is a correction of nothing.
KSNET_API cudaError_t ksnet_flow_input(const ksnet::FlowInputParams* params, cudaStream_t stream);
