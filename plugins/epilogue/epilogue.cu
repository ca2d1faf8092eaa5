// A thread makes one vector of y, and neighbours make neighbouring ones. That moves each element once in and once out:
// PyTorch's bias, activation, sum and shuffle read and write the tensor once each.
#include "../common/launch.h"
#include "../common/vectors.h"
#include "epilogue.h"

namespace ksnet {
namespace {

constexpr int kThreads = 256;

template <typename T, int count>
__global__ void __launch_bounds__(kThreads) epilogue_kernel(EpilogueParams p, uint32_t vectors) {
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= vectors) return;
  const uint32_t r = p.shuffle, vectors_of_pixel = p.channels / count;
  const uint32_t pixel = index / vectors_of_pixel;  // of y
  const uint32_t channel = (index - pixel * vectors_of_pixel) * count;
  uint32_t source = pixel, part = 0;
  if (r > 1) {
    const uint32_t row = pixel / (r * p.width), column = pixel - row * r * p.width;
    source = row / r * p.width + column / r;
    part = (row % r * r + column % r) * p.channels;
  }
  const T* bias = static_cast<const T*>(p.bias) + part + channel;
  const T* x = static_cast<const T*>(p.x) + static_cast<size_t>(source) * p.pitch + part + channel;
  const size_t place = static_cast<size_t>(index) * count;

  const Vector<T, count> values = vector_at<count>(x), biases = vector_at<count>(bias);
  Vector<T, count> skips{}, results;
  if (p.skip != nullptr) skips = vector_at<count>(static_cast<const T*>(p.skip) + place);
  for (int i = 0; i < count; ++i) {
    results.values[i] = from_float<T>(
        epilogue(to_float(values.values[i]), to_float(biases.values[i]), p.slope, to_float(skips.values[i])));
  }
  vector_at<count>(static_cast<T*>(p.y) + place) = results;
}

template <typename T, int count>
cudaError_t launch_of(const EpilogueParams& p, int64_t elements, cudaStream_t stream) {
  const uint32_t vectors = static_cast<uint32_t>(elements / count);
  return launch(epilogue_kernel<T, count>, dim3(ceil_div<uint32_t>(vectors, kThreads)), dim3(kThreads), stream, p,
                vectors);
}

// With the longest vectors of at most `count` that channels, pitch and addresses allow.
template <typename T, int count = kVector<T>>
cudaError_t launch_any(const EpilogueParams& p, int64_t elements, cudaStream_t stream) {
  bool whole = p.channels % count == 0 && p.pitch % count == 0;
  for (const void* address : {p.x, p.bias, p.skip, static_cast<const void*>(p.y)}) {
    whole = whole && is_vector_aligned(address, count * sizeof(T));
  }
  if constexpr (count > 1) {
    if (!whole) return launch_any<T, count / 2>(p, elements, stream);
  }
  return launch_of<T, count>(p, elements, stream);
}

// Elements of y, or zero where the sizes do not fit each other.
int64_t elements_of(const EpilogueParams& p) {
  if (p.rows < 1 || p.width < 1 || p.channels < 1 || p.shuffle < 1 || p.shuffle > 16) return 0;
  const int64_t parts = static_cast<int64_t>(p.shuffle) * p.shuffle;
  if (parts * p.channels > p.pitch || (p.x == p.y && p.pitch != p.channels)) return 0;
  const int64_t pixels = static_cast<int64_t>(p.rows) * p.width;
  return pixels <= INT32_MAX && pixels * parts <= INT32_MAX / p.channels ? pixels * parts * p.channels : 0;
}

}  // namespace
}  // namespace ksnet

KSNET_API cudaError_t ksnet_epilogue(const ksnet::EpilogueParams* params, cudaStream_t stream) {
  const int64_t elements = ksnet::elements_of(*params);
  if (elements == 0) return cudaErrorInvalidValue;
  return params->type == ksnet::StorageType::kFloat16 ? ksnet::launch_any<__half>(*params, elements, stream)
                                                      : ksnet::launch_any<float>(*params, elements, stream);
}
