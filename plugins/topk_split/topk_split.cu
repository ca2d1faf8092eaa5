// Score, select, split: three kernels without atomics, so that the same input always gives the same channels.
#include "../common/launch.h"
#include "topk_split.h"

namespace ksnet {
namespace {

constexpr int kColumns = 32;   // threads of a score block: a warp walks along a row,
constexpr int kRows = 8;       // and eight rows go side by side
constexpr int kBandRows = 32;  // rows of the plane that a score block sums up
constexpr int kThreads = kColumns * kRows;
constexpr int kWordsPerThread = 4;
constexpr int kMaxPlanePixels = 1 << 30;

int bands(const TopKSplitParams& p) { return ceil_div(p.height, kBandRows); }

// The workspace: partial sums (batch, channels, bands), then the places (batch, channels).
float* partial_sums(const TopKSplitParams& p) { return static_cast<float*>(p.workspace); }
int* places(const TopKSplitParams& p) {
  return reinterpret_cast<int*>(partial_sums(p) + static_cast<size_t>(p.batch) * p.channels * bands(p));
}

// A block sums the score of one band of rows of one channel.
template <typename T>
__global__ void __launch_bounds__(kThreads) score_kernel(TopKSplitParams p, float* partial) {
  __shared__ float sums[kThreads];
  const size_t plane = static_cast<size_t>(p.height) * p.width;
  const size_t channel = static_cast<size_t>(blockIdx.z) * p.channels + blockIdx.y;
  const T* f = static_cast<const T*>(p.f) + channel * plane;
  const float* o = p.o + blockIdx.z * plane;
  const float lam = *p.lam;
  const int first_row = blockIdx.x * kBandRows;
  const int end_row = p.height - first_row < kBandRows ? p.height : first_row + kBandRows;

  float sum = 0.0f;
  for (int row = first_row + threadIdx.y; row < end_row; row += kRows) {
    for (int column = threadIdx.x; column < p.width; column += kColumns) {
      sum += score_share_at(f, o, lam, row, column, p.height, p.width);
    }
  }
  const int thread = threadIdx.y * kColumns + threadIdx.x;
  sums[thread] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) sums[thread] += sums[thread + half];
  }
  if (thread == 0) partial[channel * gridDim.x + blockIdx.x] = sums[0];
}

// One block per image, one thread per channel. A place below `kept` is the channel's index in con; the others go to dis
// at place - kept. Dividing the scores by the number of pixels would not change their order.
__global__ void __launch_bounds__(kMaxSplitChannels)
    place_kernel(TopKSplitParams p, const float* partial, int bands, int* place) {
  __shared__ float scores[kMaxSplitChannels];
  __shared__ bool kept[kMaxSplitChannels];
  const int channel = threadIdx.x;
  const size_t index = static_cast<size_t>(blockIdx.x) * p.channels + channel;
  if (channel < p.channels) {
    float score = 0.0f;
    for (int band = 0; band < bands; ++band) score += partial[index * bands + band];
    scores[channel] = score;
  }
  __syncthreads();
  if (channel < p.channels) {
    int rank = 0;
    for (int other = 0; other < p.channels; ++other) {
      rank += comes_before(scores[other], other, scores[channel], channel);
    }
    kept[channel] = rank < p.kept;
  }
  __syncthreads();
  if (channel < p.channels) {
    int kept_below = 0;
    for (int other = 0; other < channel; ++other) kept_below += kept[other];
    place[index] = kept[channel] ? kept_below : p.kept + channel - kept_below;
  }
}

// Copies each channel to its place, as words of any size.
template <typename Word>
__global__ void __launch_bounds__(kThreads) gather_kernel(TopKSplitParams p, const int* place, int words) {
  const size_t image = blockIdx.z;
  const int target = place[image * p.channels + blockIdx.y];
  const int dropped = p.channels - p.kept;
  const Word* from = static_cast<const Word*>(p.f) + (image * p.channels + blockIdx.y) * words;
  Word* to = target < p.kept ? static_cast<Word*>(p.con) + (image * p.kept + target) * words
                             : static_cast<Word*>(p.dis) + (image * dropped + target - p.kept) * words;
  const int first = blockIdx.x * kThreads * kWordsPerThread + threadIdx.x;
  for (int i = 0; i < kWordsPerThread; ++i) {
    const int word = first + i * kThreads;
    if (word < words) to[word] = from[word];
  }
}

template <typename Word>
cudaError_t launch_gather(const TopKSplitParams& p, size_t plane_bytes, cudaStream_t stream) {
  const int words = static_cast<int>(plane_bytes / sizeof(Word));
  const dim3 grid(ceil_div(words, kThreads * kWordsPerThread), p.channels, p.batch);
  return launch(gather_kernel<Word>, grid, dim3(kThreads), stream, p, places(p), words);
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % sizeof(uint4) == 0; }

// Element is an integer as wide as T, to copy with where planes do not start at multiples of 16 bytes.
template <typename T, typename Element>
cudaError_t launch_all(const TopKSplitParams& p, cudaStream_t stream) {
  const dim3 score_grid(bands(p), p.channels, p.batch);
  cudaError_t error = launch(score_kernel<T>, score_grid, dim3(kColumns, kRows), stream, p, partial_sums(p));
  if (error != cudaSuccess) return error;
  const dim3 place_block(round_up(p.channels, 32));
  error = launch(place_kernel, dim3(p.batch), place_block, stream, p, partial_sums(p), bands(p), places(p));
  if (error != cudaSuccess) return error;
  const size_t plane_bytes = sizeof(T) * p.height * p.width;
  const bool vectors = plane_bytes % sizeof(uint4) == 0 && is_aligned(p.f) && is_aligned(p.con) && is_aligned(p.dis);
  return vectors ? launch_gather<uint4>(p, plane_bytes, stream) : launch_gather<Element>(p, plane_bytes, stream);
}

bool is_valid(const TopKSplitParams& p) {
  return p.batch > 0 && p.batch <= kMaxGridYZ && p.kept > 0 && p.kept < p.channels && p.channels <= kMaxSplitChannels &&
         p.height > 0 && p.width > 0 && static_cast<int64_t>(p.height) * p.width <= kMaxPlanePixels &&
         (p.type == StorageType::kFloat32 || p.type == StorageType::kFloat16) && p.workspace != nullptr;
}

}  // namespace
}  // namespace ksnet

KSNET_API size_t ksnet_topk_split_workspace(const ksnet::TopKSplitParams* params) {
  const size_t channels = static_cast<size_t>(params->batch) * params->channels;
  return channels * (ksnet::bands(*params) * sizeof(float) + sizeof(int));
}

KSNET_API cudaError_t ksnet_topk_split(const ksnet::TopKSplitParams* params, cudaStream_t stream) {
  if (!ksnet::is_valid(*params)) return cudaErrorInvalidValue;
  return params->type == ksnet::StorageType::kFloat16 ? ksnet::launch_all<__half, uint16_t>(*params, stream)
                                                      : ksnet::launch_all<float, uint32_t>(*params, stream);
}
