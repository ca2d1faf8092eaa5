// Score, choose, gather where f, con and dis are planes: three kernels, of which the first and last have blocks for
// each channel.
#pragma once

#include "../common/launch.h"
#include "choose.h"

namespace ksnet {
namespace {

constexpr int kColumns = 32;   // threads of a score block: a warp walks along a row,
constexpr int kRows = 8;       // and eight rows go side by side
constexpr int kBandRows = 32;  // rows of the plane that a score block sums up
constexpr int kPlaneThreads = kColumns * kRows;
constexpr int kWordsPerThread = 4;

bool lies_in_planes(const TopKSplitParams& p) {
  return p.f_layout.pixel == 1 && p.con_layout.pixel == 1 && p.dis_layout.pixel == 1;
}

int plane_bands(const TopKSplitParams& p) { return ceil_div(p.height, kBandRows); }

// A block sums the score of one band of rows of one channel.
template <typename T>
__global__ void __launch_bounds__(kPlaneThreads) score_planes_kernel(TopKSplitParams p, float* partial) {
  __shared__ float sums[kPlaneThreads];
  const T* f = static_cast<const T*>(p.f) + blockIdx.z * p.f_layout.image + blockIdx.y * p.f_layout.channel;
  const float* o = p.o + blockIdx.z * (static_cast<size_t>(p.height) * p.width);
  const float lam = *p.lam;
  const int first_row = blockIdx.x * kBandRows;
  const int end_row = p.height - first_row < kBandRows ? p.height : first_row + kBandRows;

  float sum = 0.0f;
  for (int row = first_row + threadIdx.y; row < end_row; row += kRows) {
    for (int column = threadIdx.x; column < p.width; column += kColumns) {
      sum += score_share_at(f, 1, o, lam, row, column, p.height, p.width);
    }
  }
  const int thread = threadIdx.y * kColumns + threadIdx.x;
  sums[thread] = sum;
  for (int half = kPlaneThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) sums[thread] += sums[thread + half];
  }
  const size_t band = static_cast<size_t>(blockIdx.z) * gridDim.x + blockIdx.x;
  if (thread == 0) partial[band * p.channels + blockIdx.y] = sums[0];
}

// One block per image.
__global__ void __launch_bounds__(kThreads)
    order_kernel(TopKSplitParams p, const float* partial, int bands, uint16_t* order) {
  __shared__ Choice choice;
  const size_t first = static_cast<size_t>(blockIdx.x) * p.channels;
  choose(p, partial + first * bands, bands, choice);
  for (int i = threadIdx.x; i < p.channels; i += kThreads) order[first + i] = choice.order[i];
}

// Copies each channel to its place, as words of any size.
template <typename T, typename Word>
__global__ void __launch_bounds__(kPlaneThreads) gather_planes_kernel(TopKSplitParams p, const uint16_t* order) {
  const int64_t image = blockIdx.z;
  const int place = blockIdx.y;
  const int channel = order[image * p.channels + place];
  const bool kept = place < p.kept;
  const Layout& layout = kept ? p.con_layout : p.dis_layout;
  const T* f = static_cast<const T*>(p.f) + image * p.f_layout.image + channel * p.f_layout.channel;
  T* to = static_cast<T*>(kept ? p.con : p.dis) + image * layout.image + (place - (kept ? 0 : p.kept)) * layout.channel;
  const int words = static_cast<int>(static_cast<size_t>(p.height) * p.width * sizeof(T) / sizeof(Word));
  const int first = blockIdx.x * kPlaneThreads * kWordsPerThread + threadIdx.x;
  for (int i = 0; i < kWordsPerThread; ++i) {
    const int word = first + i * kPlaneThreads;
    if (word < words) reinterpret_cast<Word*>(to)[word] = reinterpret_cast<const Word*>(f)[word];
  }
}

// Whether every plane starts at a multiple of 16 bytes.
template <typename T>
bool has_aligned_planes(const void* pointer, const Layout& layout) {
  constexpr int kVector = sizeof(uint4) / sizeof(T);
  return reinterpret_cast<uintptr_t>(pointer) % sizeof(uint4) == 0 && layout.image % kVector == 0 &&
         layout.channel % kVector == 0;
}

template <typename T, typename Word>
cudaError_t launch_gather_planes(const TopKSplitParams& p, const uint16_t* order, cudaStream_t stream) {
  const size_t words = static_cast<size_t>(p.height) * p.width * sizeof(T) / sizeof(Word);
  const dim3 grid(static_cast<int>(ceil_div<size_t>(words, kPlaneThreads * kWordsPerThread)), p.channels, p.batch);
  return launch(gather_planes_kernel<T, Word>, grid, dim3(kPlaneThreads), stream, p, order);
}

// Element is an integer as wide as T, to copy with where planes do not start at multiples of 16 bytes.
template <typename T, typename Element>
cudaError_t launch_channels_first(const TopKSplitParams& p, float* partial, uint16_t* order, cudaStream_t stream) {
  const int bands = plane_bands(p);
  const dim3 score_grid(bands, p.channels, p.batch);
  cudaError_t error = launch(score_planes_kernel<T>, score_grid, dim3(kColumns, kRows), stream, p, partial);
  if (error != cudaSuccess) return error;
  error = launch(order_kernel, dim3(p.batch), dim3(kThreads), stream, p, partial, bands, order);
  if (error != cudaSuccess) return error;
  const bool vectors = static_cast<size_t>(p.height) * p.width * sizeof(T) % sizeof(uint4) == 0 &&
                       has_aligned_planes<T>(p.f, p.f_layout) && has_aligned_planes<T>(p.con, p.con_layout) &&
                       has_aligned_planes<T>(p.dis, p.dis_layout);
  return vectors ? launch_gather_planes<T, uint4>(p, order, stream)
                 : launch_gather_planes<T, Element>(p, order, stream);
}

}  // namespace
}  // namespace ksnet
