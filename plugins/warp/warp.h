// Motion compensation: a tensor sampled bilinearly at every pixel plus a flow.
#pragma once

#include "../common/deformable.h"

namespace ksnet {

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct WarpParams {
  const void* x;      // T (batch, channels, height, width)
  const float* flow;  // (batch, 2, height, width) in pixels, dx, then dy
  void* y;            // T (batch, channels, height, width)
  Layout x_layout, flow_layout, y_layout;
  int32_t batch;
  int32_t channels;
  int32_t height;
  int32_t width;
  int32_t border;  // outside the frame: 0 for zeros, 1 for the nearest pixel
  StorageType type;
};

// Where a pixel moved by (dx, dy) is sampled; with `border`, never outside the frame.
__host__ __device__ inline SamplePoint warped_point(float dx, float dy, int row, int column, int height, int width,
                                                    bool border) {
  float x = static_cast<float>(column) + dx, y = static_cast<float>(row) + dy;
  if (border) {  // fmaxf takes the number of a number and NaN
    x = fminf(fmaxf(x, 0.0f), static_cast<float>(width - 1));
    y = fminf(fmaxf(y, 0.0f), static_cast<float>(height - 1));
  }
  return sample_point(y, x, height, width);
}

__host__ __device__ inline SamplePoint warped_point(const WarpParams& p, int image, int row, int column) {
  const float* flow =
      p.flow + image * p.flow_layout.image + (static_cast<int64_t>(row) * p.width + column) * p.flow_layout.pixel;
  return warped_point(flow[0], flow[p.flow_layout.channel], row, column, p.height, p.width, p.border != 0);
}

}  // namespace ksnet

// Enqueue the warp on the stream. cudaErrorInvalidValue: a size is none, or y has 2^31 elements.
KSNET_API cudaError_t ksnet_warp(const ksnet::WarpParams* params, cudaStream_t stream);
