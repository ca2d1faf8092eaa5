// What the deformable operators share: a 3x3 kernel, stride 1, whose samples lie where an operator says, each with a
// factor of its own. Here the problem and its arithmetic; the kernels are in deformable_kernel.h.
#pragma once

#include <cmath>
#include <cstddef>

#include "layout.h"
#include "storage.h"

namespace ksnet {

constexpr int kTaps = 9;             // sampling points of the 3x3 kernel, row by row from the top left
constexpr int kMaxExtent = 1 << 24;  // of height and width: up to here every pixel is exact as a float coordinate
constexpr int kMaxPlane = 1 << 30;   // height x width, so that a pixel's index is an int
constexpr int kMaxChannels = 4096;   // of input and output

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct Deformable {
  const void* x;       // T (batch, channels, height, width)
  const void* weight;  // T (out_channels, channels, 3, 3)
  const void* bias;    // T (out_channels)
  void* y;             // T (batch, out_channels, height, width)
  void* workspace;     // deformable_workspace() bytes, aligned to 32
  Layout x_layout, y_layout;
  int32_t batch;
  int32_t channels;
  int32_t out_channels;
  int32_t written_channels;  // of y: out_channels, or more of which the rest is filled with zeros
  int32_t height;
  int32_t width;
  int32_t offset_groups;  // each moves channels / offset_groups together
  StorageType type;
};

// Where bilinear interpolation reads in a plane: the neighbours are top left, top right, bottom left, bottom right.
// A neighbour outside the frame has weight zero, and one of weight zero is never read.
struct SamplePoint {
  int corner;  // index of the top left neighbour; outside the plane when that neighbour is
  float weights[4];
};

// Coordinates that are infinite, NaN or a pixel or more outside the frame give a point without neighbours.
__host__ __device__ inline SamplePoint sample_point(float y, float x, int height, int width) {
  if (!(y > -1.0f && y < static_cast<float>(height) && x > -1.0f && x < static_cast<float>(width))) {
    return SamplePoint{0, {0.0f, 0.0f, 0.0f, 0.0f}};
  }
  const float floor_y = floorf(y), floor_x = floorf(x);
  const int row = static_cast<int>(floor_y), column = static_cast<int>(floor_x);
  const float bottom = row + 1 < height ? y - floor_y : 0.0f;
  const float right = column + 1 < width ? x - floor_x : 0.0f;
  const float top = row >= 0 ? 1.0f - (y - floor_y) : 0.0f;
  const float left = column >= 0 ? 1.0f - (x - floor_x) : 0.0f;
  return SamplePoint{row * width + column, {top * left, top * right, bottom * left, bottom * right}};
}

// One tap of one offset group at one pixel: where to sample, and the factor of the sample.
struct ModulatedPoint {
  SamplePoint point;
  float mask;
};

// One tap of a pixel's kernel, moved by (dy, dx).
__host__ __device__ inline ModulatedPoint moved_tap(int tap, int row, int column, float dy, float dx, float mask,
                                                    int height, int width) {
  const float y = static_cast<float>(row + tap / 3 - 1) + dy;
  const float x = static_cast<float>(column + tap % 3 - 1) + dx;
  return ModulatedPoint{sample_point(y, x, height, width), mask};
}

__host__ __device__ inline float weighted(const SamplePoint& point, float top_left, float top_right, float bottom_left,
                                          float bottom_right) {
  return point.weights[0] * top_left + point.weights[1] * top_right + point.weights[2] * bottom_left +
         point.weights[3] * bottom_right;
}

// A sample of one channel; `step` is the elements from a pixel to the next.
template <typename T>
__host__ __device__ inline float sample(const T* plane, int64_t step, int width, const SamplePoint& point) {
  const T* corner = plane + point.corner * step;
  // All four reads are issued before the first is used.
  const float top_left = point.weights[0] != 0.0f ? to_float(corner[0]) : 0.0f;
  const float top_right = point.weights[1] != 0.0f ? to_float(corner[step]) : 0.0f;
  const float bottom_left = point.weights[2] != 0.0f ? to_float(corner[width * step]) : 0.0f;
  const float bottom_right = point.weights[3] != 0.0f ? to_float(corner[(width + 1) * step]) : 0.0f;
  return weighted(point, top_left, top_right, bottom_left, bottom_right);
}

}  // namespace ksnet
