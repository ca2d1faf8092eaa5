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

// The GPU's own exponential and quotient, a third of the instructions of the exact ones. Wrong by at most 2.5e-7, which
// makes 5e-6 px of an offset: less than the distance of two float coordinates from 64 px on.
__host__ __device__ inline float sigmoid(float value) {
#ifdef __CUDA_ARCH__
  return __fdividef(1.0f, 1.0f + __expf(-value));
#else
  return 1.0f / (1.0f + expf(-value));
#endif
}

struct ResidualOffset {  // tanh
  __host__ __device__ float operator()(float raw) const {
    return kMaxResidualOffsetPx * (2.0f * sigmoid(2.0f * raw) - 1.0f);
  }
};
struct SampleFactor {
  __host__ __device__ float operator()(float raw) const { return sigmoid(raw); }
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

// Enlarges what is predicted at half resolution to one pixel.
struct Enlargement {
  int corners[4];      // pixels of the prediction: top left, top right, bottom left, bottom right
  float below, right;  // shares of the lower two and of the right two
  int64_t step;

  __host__ __device__ Enlargement(const AlignParams& p, int row, int column) : step(p.raw_layout.pixel) {
    const int height = (p.common.height + 1) / 2, width = (p.common.width + 1) / 2;
    const Between rows = between(row, height), columns = between(column, width);
    corners[0] = rows.first * width + columns.first;
    corners[1] = rows.first * width + columns.second;
    corners[2] = rows.second * width + columns.first;
    corners[3] = rows.second * width + columns.second;
    below = rows.share;
    right = columns.share;
  }

  template <typename Activation, typename T>
  __host__ __device__ float operator()(Activation activation, const T* channel) const {
    float values[4];
    for (int i = 0; i < 4; ++i) values[i] = activation(to_float(channel[corners[i] * step]));
    const float upper = (1.0f - right) * values[0] + right * values[1];
    const float lower = (1.0f - right) * values[2] + right * values[3];
    return (1.0f - below) * upper + below * lower;
  }
};

// The taps of one offset group at one pixel, where the stride of the prediction is `stride`.
template <typename T, int stride>
struct AlignedTaps {
  const AlignParams& p;
  const T *offsets, *factors;  // raw, of the first tap; of the pixel where the stride is 1
  int row, column;
  float flow_dy, flow_dx;

  __host__ __device__ AlignedTaps(const AlignParams& params, int image, int group, int row_, int column_)
      : p(params), row(row_), column(column_), flow_dy(0.0f), flow_dx(0.0f) {
    const int first = group * kTaps;
    const int64_t pixel = static_cast<int64_t>(row) * p.common.width + column;
    const T* raw = static_cast<const T*>(p.raw) + image * p.raw_layout.image;
    if constexpr (stride == 1) raw += pixel * p.raw_layout.pixel;
    offsets = raw + 2 * first * p.raw_layout.channel;
    factors = raw + (2 * kTaps * p.common.offset_groups + first) * p.raw_layout.channel;
    if (p.flow != nullptr) {
      const int of_group = group * p.flows / p.common.offset_groups;
      const float* flow = p.flow + image * p.flow_layout.image + pixel * p.flow_layout.pixel;
      flow_dy = flow[2 * of_group * p.flow_layout.channel];
      flow_dx = flow[(2 * of_group + 1) * p.flow_layout.channel];
    }
  }

  __host__ __device__ ModulatedPoint operator()(int tap) const {
    const T* of_dy = offsets + 2 * tap * p.raw_layout.channel;
    const T* of_dx = of_dy + p.raw_layout.channel;
    const T* of_factor = factors + tap * p.raw_layout.channel;
    float dy, dx, factor;
    if constexpr (stride == 1) {
      dy = ResidualOffset{}(to_float(*of_dy));
      dx = ResidualOffset{}(to_float(*of_dx));
      factor = SampleFactor{}(to_float(*of_factor));
    } else {
      const Enlargement enlarged(p, row, column);
      dy = enlarged(ResidualOffset{}, of_dy);
      dx = enlarged(ResidualOffset{}, of_dx);
      factor = enlarged(SampleFactor{}, of_factor);
    }
    return moved_tap(tap, row, column, dy + flow_dy, dx + flow_dx, factor, p.common.height, p.common.width);
  }
};

}  // namespace ksnet

// Bytes of workspace that the launcher needs; the pointers of the struct are not looked at.
KSNET_API size_t ksnet_align_workspace(const ksnet::AlignParams* params);

// Enqueue the alignment on the stream. Neither allocates nor synchronises. cudaErrorInvalidValue: the sizes do not fit
// each other, exceed the limits in README.md, or the workspace is missing or misaligned.
KSNET_API cudaError_t ksnet_align(const ksnet::AlignParams* params, cudaStream_t stream);
