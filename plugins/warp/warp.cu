// A thread makes one vector of channels of a pixel where these lie beside one another, else one channel of it;
// neighbours are neighbours in memory either way.
#include "../common/launch.h"
#include "../common/vectors.h"
#include "warp.h"

namespace ksnet {
namespace {

constexpr int kThreads = 256;

template <typename T, int count, bool channels_last>
__global__ void __launch_bounds__(kThreads) warp_kernel(WarpParams p, uint32_t vectors) {
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= vectors) return;
  const uint32_t plane = static_cast<uint32_t>(p.height) * p.width, of_pixel = p.channels / count;
  const uint32_t image = index / (plane * of_pixel), in_image = index - image * plane * of_pixel;
  const uint32_t pixel = channels_last ? in_image / of_pixel : in_image % plane;
  const uint32_t channel = count * (channels_last ? in_image - pixel * of_pixel : in_image / plane);
  const uint32_t row = pixel / p.width;
  const SamplePoint point = warped_point(p, image, row, pixel - row * p.width);

  const int64_t step = p.x_layout.pixel;
  const T* corner = static_cast<const T*>(p.x) + image * p.x_layout.image + channel * p.x_layout.channel;
  corner += point.corner * step;
  const T* neighbours[4] = {corner, corner + step, corner + p.width * step, corner + (p.width + 1) * step};
  Vector<T, count> read[4]{}, results;
  for (int i = 0; i < 4; ++i) {
    if (point.weights[i] != 0.0f) read[i] = vector_at<count>(neighbours[i]);
  }
  for (int i = 0; i < count; ++i) {
    results.values[i] = from_float<T>(weighted(point, to_float(read[0].values[i]), to_float(read[1].values[i]),
                                               to_float(read[2].values[i]), to_float(read[3].values[i])));
  }
  T* y = static_cast<T*>(p.y) + image * p.y_layout.image + pixel * p.y_layout.pixel + channel * p.y_layout.channel;
  vector_at<count>(y) = results;
}

template <typename T, int count, bool channels_last>
cudaError_t launch_of(const WarpParams& p, int64_t elements, cudaStream_t stream) {
  const uint32_t vectors = static_cast<uint32_t>(elements / count);
  return launch(warp_kernel<T, count, channels_last>, dim3(ceil_div<uint32_t>(vectors, kThreads)), dim3(kThreads),
                stream, p, vectors);
}

template <typename T>
cudaError_t launch_any(const WarpParams& p, int64_t elements, cudaStream_t stream) {
  bool vectors = p.channels % kVector<T> == 0 && is_vector_aligned(p.x) && is_vector_aligned(p.y);
  for (const Layout& layout : {p.x_layout, p.y_layout}) {
    vectors = vectors && layout.channel == 1 && layout.pixel % kVector<T> == 0 && layout.image % kVector<T> == 0;
  }
  if (vectors) return launch_of<T, kVector<T>, true>(p, elements, stream);
  return p.y_layout.channel == 1 ? launch_of<T, 1, true>(p, elements, stream)
                                 : launch_of<T, 1, false>(p, elements, stream);
}

// Elements of y, or zero where the sizes do not fit.
int64_t elements_of(const WarpParams& p) {
  if (p.batch < 1 || p.channels < 1 || p.height < 1 || p.width < 1) return 0;
  if (p.height > kMaxExtent || p.width > kMaxExtent || !is_valid(p.x_layout) || !is_valid(p.y_layout)) return 0;
  const int64_t plane = static_cast<int64_t>(p.height) * p.width;
  if (plane > kMaxPlane || plane > INT32_MAX / p.channels) return 0;
  return plane * p.channels <= INT32_MAX / p.batch ? plane * p.channels * p.batch : 0;
}

}  // namespace
}  // namespace ksnet

KSNET_API cudaError_t ksnet_warp(const ksnet::WarpParams* params, cudaStream_t stream) {
  const int64_t elements = ksnet::elements_of(*params);
  if (elements == 0) return cudaErrorInvalidValue;
  return params->type == ksnet::StorageType::kFloat16 ? ksnet::launch_any<__half>(*params, elements, stream)
                                                      : ksnet::launch_any<float>(*params, elements, stream);
}
