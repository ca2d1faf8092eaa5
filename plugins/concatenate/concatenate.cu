// A thread writes one vector of y where its channels are whole vectors, and reads it as one where all parts are, too.
#include "../common/launch.h"
#include "../common/vectors.h"
#include "concatenate.h"

namespace ksnet {
namespace {

constexpr int kThreads = 256;

// `count` elements from a channel of y on, which one part holds. The index of the part is a constant in the unrolled
// loop: otherwise the parameters would be copied to memory of each thread.
template <typename T, int count>
__device__ Vector<T, count> read_from(const ConcatenateParams& p, uint32_t pixel, uint32_t channel) {
  Vector<T, count> values{};
  uint32_t first = 0;
  for (int part = 0; part < kMaxParts; ++part) {
    const uint32_t channels = p.channels[part];
    if (channel >= first && channel - first < channels) {
      const size_t place = static_cast<size_t>(pixel) * channels + channel - first;
      values = vector_at<count>(static_cast<const T*>(p.parts[part]) + place);
    }
    first += channels;
  }
  return values;
}

// `written` elements a thread, in loads of `read`.
template <typename T, int written, int read>
__global__ void __launch_bounds__(kThreads) concatenate_kernel(ConcatenateParams p, uint32_t channels, uint32_t count) {
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= count) return;
  const uint32_t of_pixel = channels / written, pixel = index / of_pixel;
  const uint32_t channel = (index - pixel * of_pixel) * written;
  Vector<T, written> values{};
  for (int i = 0; i < written; i += read) {
    vector_at<read>(values.values + i) = read_from<T, read>(p, pixel, channel + i);
  }
  vector_at<written>(static_cast<T*>(p.y) + static_cast<size_t>(index) * written) = values;
}

template <typename T, int written, int read>
cudaError_t launch_of(const ConcatenateParams& p, uint32_t channels, cudaStream_t stream) {
  const uint32_t count = p.pixels * (channels / written);
  return launch(concatenate_kernel<T, written, read>, dim3(ceil_div<uint32_t>(count, kThreads)), dim3(kThreads), stream,
                p, channels, count);
}

template <typename T>
cudaError_t launch_any(const ConcatenateParams& p, uint32_t channels, cudaStream_t stream) {
  bool whole = true;
  for (int i = 0; i < kMaxParts && p.channels[i] > 0; ++i) {
    whole = whole && p.channels[i] % kVector<T> == 0 && is_vector_aligned(p.parts[i]);
  }
  if (channels % kVector<T> != 0 || !is_vector_aligned(p.y)) return launch_of<T, 1, 1>(p, channels, stream);
  return whole ? launch_of<T, kVector<T>, kVector<T>>(p, channels, stream)
               : launch_of<T, kVector<T>, 1>(p, channels, stream);
}

// Channels of y, or zero where there is nothing or too much.
int64_t channels_of(const ConcatenateParams& p) {
  int64_t sum = 0;
  bool ended = false;
  for (const int32_t channels : p.channels) {
    if (channels < 0 || (ended && channels > 0)) return 0;
    ended = channels == 0;
    sum += channels;
  }
  return p.pixels > 0 && sum <= INT32_MAX / p.pixels ? sum : 0;
}

}  // namespace
}  // namespace ksnet

KSNET_API cudaError_t ksnet_concatenate(const ksnet::ConcatenateParams* params, cudaStream_t stream) {
  const int64_t channels = ksnet::channels_of(*params);
  if (channels == 0) return cudaErrorInvalidValue;
  const uint32_t sum = static_cast<uint32_t>(channels);
  return params->type == ksnet::StorageType::kFloat16 ? ksnet::launch_any<__half>(*params, sum, stream)
                                                      : ksnet::launch_any<float>(*params, sum, stream);
}
