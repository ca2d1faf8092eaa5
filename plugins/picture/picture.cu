// A thread makes four neighbouring pixels, those of one LR pixel in one row: it weights the rows around it once, and
// the columns of that once for each.
#include <cmath>

#include "../common/launch.h"
#include "../common/vectors.h"
#include "picture.h"

namespace ksnet {
namespace {

constexpr int kThreads = 256;
constexpr int kValues = kScale * kColours;  // of a thread

__device__ int clamped(int index, int size) { return index < 0 ? 0 : index < size ? index : size - 1; }

__device__ float encoded(float value, float) { return value; }
__device__ uint8_t encoded(float value, uint8_t) {
  return static_cast<uint8_t>(rintf(fminf(fmaxf(value, 0.0f), 1.0f) * 255.0f));
}

template <typename T, typename Y>
__global__ void __launch_bounds__(kThreads) picture_kernel(PictureParams p, uint32_t threads) {
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= threads) return;
  const int line = index / p.width, column = index - line * p.width;  // of all images of the batch, in HR rows
  const int image = line / (kScale * p.height), hr_row = line - image * kScale * p.height;
  const int row = hr_row / kScale;
  float rows[kCubicTaps], columns[kCubicTaps], enlarged[kValues] = {};
  cubic_weights(hr_row % kScale, rows);

  for (int colour = 0; colour < kColours; ++colour) {
    const size_t plane = static_cast<size_t>(image) * kColours + colour;
    const float* lr = p.lr + plane * p.height * p.width;
    float sums[kCubicTaps] = {};
    for (int i = 0; i < kCubicTaps; ++i) {
      const float* from = lr + static_cast<size_t>(clamped(row + i - kCubicTaps / 2, p.height)) * p.width;
      for (int j = 0; j < kCubicTaps; ++j) sums[j] += rows[i] * from[clamped(column + j - kCubicTaps / 2, p.width)];
    }
    for (int phase = 0; phase < kScale; ++phase) {
      cubic_weights(phase, columns);
      for (int j = 0; j < kCubicTaps; ++j) enlarged[phase * kColours + colour] += columns[j] * sums[j];
    }
  }
  const size_t place = static_cast<size_t>(index) * kValues;
  const T* residual = static_cast<const T*>(p.residual) + place;
  for (int first = 0; first < kValues; first += 4) {  // both tensors are whole vectors of four
    const Vector<T, 4> found = vector_at<4>(residual + first);
    Vector<Y, 4> values;
    for (int i = 0; i < 4; ++i) values.values[i] = encoded(to_float(found.values[i]) + enlarged[first + i], Y());
    vector_at<4>(static_cast<Y*>(p.y) + place + first) = values;
  }
}

// Threads, or zero where the sizes do not fit.
int64_t threads_of(const PictureParams& p) {
  if (p.batch < 1 || p.height < 1 || p.width < 1) return 0;
  const int64_t pixels = static_cast<int64_t>(p.height) * p.width;
  return pixels <= INT32_MAX / p.batch / (kScale * kValues) ? kScale * pixels * p.batch : 0;
}

template <typename T>
cudaError_t launch_of(const PictureParams& p, uint32_t threads, cudaStream_t stream) {
  const dim3 blocks(ceil_div<uint32_t>(threads, kThreads));
  return p.as_bytes ? launch(picture_kernel<T, uint8_t>, blocks, dim3(kThreads), stream, p, threads)
                    : launch(picture_kernel<T, float>, blocks, dim3(kThreads), stream, p, threads);
}

}  // namespace
}  // namespace ksnet

KSNET_API cudaError_t ksnet_picture(const ksnet::PictureParams* params, cudaStream_t stream) {
  using namespace ksnet;
  const int64_t threads = threads_of(*params);
  if (threads == 0 || !is_vector_aligned(params->residual) || !is_vector_aligned(params->y)) {
    return cudaErrorInvalidValue;
  }
  return params->type == StorageType::kFloat16 ? launch_of<__half>(*params, static_cast<uint32_t>(threads), stream)
                                               : launch_of<float>(*params, static_cast<uint32_t>(threads), stream);
}
