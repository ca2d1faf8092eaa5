// Modulated deformable convolution, 3x3, stride 1, same size (DCNv2). Meanings are those of ONNX DeformConv.
#pragma once

#include "../common/deformable.h"

namespace ksnet {

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct DeformConvParams {
  Deformable common;
  const float* offset;  // (batch, 18 * offset_groups, height, width) in pixels; per group and tap first dy, then dx
  const void* mask;     // T (batch, 9 * offset_groups, height, width)
  Layout offset_layout, mask_layout;
};

// The taps of one offset group at one pixel.
template <typename T>
struct ModulatedTaps {
  const DeformConvParams& p;
  const float* offset;  // of the first tap
  const T* mask;
  int row, column;

  __host__ __device__ ModulatedTaps(const DeformConvParams& params, int image, int group, int row_, int column_)
      : p(params), row(row_), column(column_) {
    const int64_t pixel = static_cast<int64_t>(row) * p.common.width + column;
    const int first = group * kTaps;
    offset = p.offset + image * p.offset_layout.image + pixel * p.offset_layout.pixel;
    offset += 2 * first * p.offset_layout.channel;
    mask = static_cast<const T*>(p.mask) + image * p.mask_layout.image + pixel * p.mask_layout.pixel;
    mask += first * p.mask_layout.channel;
  }

  __host__ __device__ ModulatedPoint operator()(int tap) const {
    const float dy = offset[2 * tap * p.offset_layout.channel];
    const float dx = offset[(2 * tap + 1) * p.offset_layout.channel];
    return moved_tap(tap, row, column, dy, dx, to_float(mask[tap * p.mask_layout.channel]), p.common.height,
                     p.common.width);
  }
};

}  // namespace ksnet

// Bytes of workspace that the launcher needs; the pointers of the struct are not looked at.
KSNET_API size_t ksnet_deform_conv_workspace(const ksnet::DeformConvParams* params);

// Enqueue the convolution on the stream. Neither allocates nor synchronises. cudaErrorInvalidValue: the sizes do not
// fit each other, exceed the limits in README.md, or the workspace is missing or misaligned.
KSNET_API cudaError_t ksnet_deform_conv(const ksnet::DeformConvParams* params, cudaStream_t stream);
