// Modulated deformable convolution, 3x3, stride 1, same size (DCNv2). Layouts are those of ONNX DeformConv.
#pragma once

#include <cmath>
#include <cstddef>

#include "../common/storage.h"

namespace ksnet {

constexpr int kTaps = 9;             // sampling points of the 3x3 kernel, row by row from the top left
constexpr int kMaxExtent = 1 << 24;  // of height and width: up to here every pixel is exact as a float coordinate
constexpr int kMaxPlane = 1 << 30;   // height x width, so that a pixel's index is an int
constexpr int kMaxChannels = 4096;   // of input and output

// Device pointers; T is the storage type. Shared with Python through ctypes: keep the order of the fields.
struct DeformConvParams {
  const void* x;        // T (batch, channels, height, width)
  const void* weight;   // T (out_channels, channels, 3, 3)
  const float* offset;  // (batch, 18 * offset_groups, height, width) in pixels; per group and tap first dy, then dx
  const void* bias;     // T (out_channels)
  const void* mask;     // T (batch, 9 * offset_groups, height, width)
  void* y;              // T (batch, out_channels, height, width)
  void* workspace;      // ksnet_deform_conv_workspace() bytes, aligned to 32
  int32_t batch;
  int32_t channels;
  int32_t out_channels;
  int32_t height;
  int32_t width;
  int32_t offset_groups;
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

template <typename T>
__host__ __device__ inline float sample(const T* plane, int width, const SamplePoint& point) {
  // All four reads are issued before the first is used.
  const float top_left = point.weights[0] != 0.0f ? to_float(plane[point.corner]) : 0.0f;
  const float top_right = point.weights[1] != 0.0f ? to_float(plane[point.corner + 1]) : 0.0f;
  const float bottom_left = point.weights[2] != 0.0f ? to_float(plane[point.corner + width]) : 0.0f;
  const float bottom_right = point.weights[3] != 0.0f ? to_float(plane[point.corner + width + 1]) : 0.0f;
  return point.weights[0] * top_left + point.weights[1] * top_right + point.weights[2] * bottom_left +
         point.weights[3] * bottom_right;
}

// One tap of one offset group at one pixel: where to sample, and the factor of the sample.
struct ModulatedPoint {
  SamplePoint point;
  float mask;
};

template <typename T>
__host__ __device__ inline ModulatedPoint modulated_point(const DeformConvParams& p, int image, int group, int tap,
                                                          int row, int column) {
  const size_t plane = static_cast<size_t>(p.height) * p.width;
  const size_t pixel = static_cast<size_t>(row) * p.width + column;
  const size_t index = (static_cast<size_t>(image) * p.offset_groups + group) * kTaps + tap;
  const float dy = p.offset[2 * index * plane + pixel];
  const float dx = p.offset[(2 * index + 1) * plane + pixel];
  const float mask = to_float(static_cast<const T*>(p.mask)[index * plane + pixel]);
  const float y = static_cast<float>(row + tap / 3 - 1) + dy;
  const float x = static_cast<float>(column + tap % 3 - 1) + dx;
  return ModulatedPoint{sample_point(y, x, p.height, p.width), mask};
}

}  // namespace ksnet

// Bytes of workspace that the launcher needs; the pointers of the struct are not looked at.
KSNET_API size_t ksnet_deform_conv_workspace(const ksnet::DeformConvParams* params);

// Enqueue the convolution on the stream. Neither allocates nor synchronises. cudaErrorInvalidValue: the sizes do not
// fit each other, exceed the limits in README.md, or the workspace is missing or misaligned.
KSNET_API cudaError_t ksnet_deform_conv(const ksnet::DeformConvParams* params, cudaStream_t stream);
