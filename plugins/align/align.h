// Flow-guided deformable alignment: a deformable convolution at the flow and what a network predicts beside it.
#pragma once

#include "../common/deformable.h"

namespace ksnet {

constexpr float kMaxResidualOffsetPx = 10.0f;

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct AlignParams {
  Deformable common;
  const void* raw;    // T (batch, 27 * offset_groups, ceil(height / stride), ceil(width / stride)), before tanh and
                      // sigmoid: per group and tap dy and dx, and behind all of these per group and tap the factor
  const float* flow;  // (batch, 2 * flows, height, width) in pixels, of each flow dy, then dx; null at rest
  Layout raw_layout, flow_layout;
  int32_t flows;   // a divisor of offset_groups: group g follows flow g * flows / offset_groups; 0 at rest
  int32_t stride;  // of the prediction, 1 or 2
};

struct ResidualOffset {
  __host__ __device__ float operator()(float raw) const { return kMaxResidualOffsetPx * tanhf(raw); }
};
struct SampleFactor {
  __host__ __device__ float operator()(float raw) const { return 1.0f / (1.0f + expf(-raw)); }
};

// The two of a line's `size` predictions, each in the middle of two pixels, that a pixel lies between, and the share of
// the second. Beyond the outermost two there is nothing but these.
struct Between {
  int first, second;
  float share;
};

__host__ __device__ inline Between between(int pixel, int size) {
  const int first = pixel % 2 != 0 || pixel == 0 ? pixel / 2 : pixel / 2 - 1;
  const float share = pixel == 0 ? 0.0f : pixel % 2 != 0 ? 0.25f : 0.75f;
  return Between{first, first + 1 < size ? first + 1 : first, share};
}

// What is predicted for a pixel in one channel of an image; `Activation` makes it of the raw values.
template <typename Activation, typename T>
__host__ __device__ inline float predicted(const AlignParams& p, const T* channel, int row, int column) {
  const Activation activation{};
  const int64_t step = p.raw_layout.pixel;
  if (p.stride == 1) {
    return activation(to_float(channel[(static_cast<int64_t>(row) * p.common.width + column) * step]));
  }
  const int height = (p.common.height + 1) / 2, width = (p.common.width + 1) / 2;
  const Between rows = between(row, height), columns = between(column, width);
  const T* above = channel + static_cast<int64_t>(rows.first) * width * step;
  const T* below = channel + static_cast<int64_t>(rows.second) * width * step;
  const int64_t left = columns.first * step, right = columns.second * step;
  const float at_left = 1.0f - columns.share;
  const float upper = at_left * activation(to_float(above[left])) + columns.share * activation(to_float(above[right]));
  const float lower = at_left * activation(to_float(below[left])) + columns.share * activation(to_float(below[right]));
  return (1.0f - rows.share) * upper + rows.share * lower;
}

template <typename T>
__host__ __device__ inline ModulatedPoint aligned_point(const AlignParams& p, int image, int group, int tap, int row,
                                                        int column) {
  const int index = group * kTaps + tap;
  const int first_factor = 2 * kTaps * p.common.offset_groups;
  const T* raw = static_cast<const T*>(p.raw) + image * p.raw_layout.image;
  const T* first = raw + 2 * index * p.raw_layout.channel;
  float dy = predicted<ResidualOffset>(p, first, row, column);
  float dx = predicted<ResidualOffset>(p, first + p.raw_layout.channel, row, column);
  const float factor = predicted<SampleFactor>(p, raw + (first_factor + index) * p.raw_layout.channel, row, column);
  if (p.flow != nullptr) {
    const int of_group = group * p.flows / p.common.offset_groups;
    const int64_t pixel = static_cast<int64_t>(row) * p.common.width + column;
    const float* flow = p.flow + image * p.flow_layout.image + pixel * p.flow_layout.pixel;
    dy += flow[2 * of_group * p.flow_layout.channel];
    dx += flow[(2 * of_group + 1) * p.flow_layout.channel];
  }
  return moved_tap(tap, row, column, dy, dx, factor, p.common.height, p.common.width);
}

}  // namespace ksnet

// Bytes of workspace that the launcher needs; the pointers of the struct are not looked at.
KSNET_API size_t ksnet_align_workspace(const ksnet::AlignParams* params);

// Enqueue the alignment on the stream. Neither allocates nor synchronises. cudaErrorInvalidValue: the sizes do not fit
// each other, exceed the limits in README.md, or the workspace is missing or misaligned.
KSNET_API cudaError_t ksnet_align(const ksnet::AlignParams* params, cudaStream_t stream);
