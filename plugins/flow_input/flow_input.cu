// A thread makes a pixel: its flow, which it keeps for the warp, and all that the level sees there, in whole vectors.
#include "../common/launch.h"
#include "../common/vectors.h"
#include "../warp/warp.h"
#include "flow_input.h"

namespace ksnet {
namespace {

constexpr int kThreads = 128;  // few, because the coarser levels have fewer pixels than a GPU has processors

// How far rows and columns of the coarser level lie apart in the finer one's: (size - 1) / (finer size - 1).
struct CoarseScale {
  float rows, columns;
};

template <typename T>
__device__ float corrected(const FlowInputParams& p, int64_t coarse, int64_t correction) {
  if (p.correction == nullptr) return p.coarse[coarse];
  return p.coarse[coarse] + to_float(static_cast<const T*>(p.correction)[correction]);
}

// The coarser level's flow, enlarged bilinearly and in pixels of this level.
template <typename T>
__device__ void enlarge(const FlowInputParams& p, CoarseScale scale, int image, int row, int column,
                        float (&flow)[kFlowChannels]) {
  const int height = p.height / 2, width = p.width / 2;
  const BetweenTwo y = coarse_position(row, scale.rows, height), x = coarse_position(column, scale.columns, width);
  for (int channel = 0; channel < kFlowChannels; ++channel) {
    const int64_t coarse = image * p.coarse_layout.image + channel * p.coarse_layout.channel;
    const int64_t correction = image * p.correction_layout.image + channel * p.correction_layout.channel;
    float values[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t pixel = static_cast<int64_t>(y.first + i / 2 * y.step) * width + x.first + i % 2 * x.step;
      values[i] =
          corrected<T>(p, coarse + pixel * p.coarse_layout.pixel, correction + pixel * p.correction_layout.pixel);
    }
    const float top = (1.0f - x.weight) * values[0] + x.weight * values[1];
    const float bottom = (1.0f - x.weight) * values[2] + x.weight * values[3];
    flow[channel] = 2.0f * ((1.0f - y.weight) * top + y.weight * bottom);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) flow_input_kernel(FlowInputParams p, CoarseScale scale, uint32_t pixels) {
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= pixels) return;
  const uint32_t plane = static_cast<uint32_t>(p.height) * p.width, image = index / plane;
  const uint32_t pixel = index - image * plane, row = pixel / p.width, column = pixel - row * p.width;

  float seen[kSeenChannels], flow[kFlowChannels] = {};
  const float* own = p.image + image * p.image_layout.image + pixel * p.image_layout.pixel;
  for (int i = 0; i < kImageChannels; ++i) seen[i] = own[i * p.image_layout.channel];
  if (p.coarse != nullptr) enlarge<T>(p, scale, image, row, column, flow);

  const SamplePoint point = warped_point(flow[0], flow[1], row, column, p.height, p.width, true);
  const float* reference = p.reference + image * p.reference_layout.image;
  for (int i = 0; i < kImageChannels; ++i) {
    seen[kImageChannels + i] =
        sample(reference + i * p.reference_layout.channel, p.reference_layout.pixel, p.width, point);
  }
  for (int i = 0; i < kFlowChannels; ++i) {
    seen[2 * kImageChannels + i] = flow[i];
    p.flow[(static_cast<size_t>(image) * kFlowChannels + i) * plane + pixel] = flow[i];
  }
  T* written = static_cast<T*>(p.seen) + static_cast<size_t>(index) * kSeenChannels;
  for (int first = 0; first < kSeenChannels; first += kVector<T>) {
    Vector<T, kVector<T>> values;
    for (int i = 0; i < kVector<T>; ++i) values.values[i] = from_float<T>(seen[first + i]);
    vector_at<kVector<T>>(written + first) = values;
  }
}

// Pixels of all images, or zero where the sizes do not fit.
int64_t pixels_of(const FlowInputParams& p) {
  if (p.batch < 1 || p.height < 1 || p.width < 1 || p.height > kMaxExtent || p.width > kMaxExtent) return 0;
  if (!is_valid(p.image_layout) || !is_valid(p.reference_layout)) return 0;
  if (p.correction != nullptr && (p.coarse == nullptr || !is_valid(p.correction_layout))) return 0;
  if (p.coarse != nullptr && (p.height % 2 != 0 || p.width % 2 != 0 || !is_valid(p.coarse_layout))) return 0;
  const int64_t plane = static_cast<int64_t>(p.height) * p.width;
  return plane <= INT32_MAX / kSeenChannels / p.batch ? plane * p.batch : 0;
}

float coarse_scale(int finer_size) {
  return static_cast<float>(finer_size / 2 - 1) / static_cast<float>(finer_size > 1 ? finer_size - 1 : 1);
}

template <typename T>
cudaError_t launch_of(const FlowInputParams& p, uint32_t pixels, cudaStream_t stream) {
  const CoarseScale scale{coarse_scale(p.height), coarse_scale(p.width)};
  return launch(flow_input_kernel<T>, dim3(ceil_div<uint32_t>(pixels, kThreads)), dim3(kThreads), stream, p, scale,
                pixels);
}

}  // namespace
}  // namespace ksnet

KSNET_API cudaError_t ksnet_flow_input(const ksnet::FlowInputParams* params, cudaStream_t stream) {
  using namespace ksnet;
  const int64_t pixels = pixels_of(*params);
  if (pixels == 0 || !is_vector_aligned(params->seen)) return cudaErrorInvalidValue;
  return params->type == StorageType::kFloat16 ? launch_of<__half>(*params, static_cast<uint32_t>(pixels), stream)
                                               : launch_of<float>(*params, static_cast<uint32_t>(pixels), stream);
}
