// The operators as plain loops over the functions that the kernels call for each element, to test the arithmetic apart
// from tiles and launch geometry. The structs are the launchers'.
#include "../../plugins/align/align.h"
#include "../../plugins/deform_conv/deform_conv.h"
#include "../../plugins/topk_split/topk_split.h"

namespace {

using namespace ksnet;

// `Taps` are the operator's: where it samples.
template <typename T, typename Taps, typename Params>
void deformable(const Params& params) {
  const Deformable& p = params.common;
  const int plane = p.height * p.width;
  for (int image = 0; image < p.batch; ++image) {
    for (int pixel = 0; pixel < plane; ++pixel) {
      for (int out = 0; out < p.out_channels; ++out) {
        float sum = to_float(static_cast<const T*>(p.bias)[out]);
        for (int channel = 0; channel < p.channels; ++channel) {
          const int group = channel / (p.channels / p.offset_groups);
          const T* x = static_cast<const T*>(p.x) + image * p.x_layout.image + channel * p.x_layout.channel;
          for (int tap = 0; tap < kTaps; ++tap) {
            const ModulatedPoint at = Taps(params, image, group, pixel / p.width, pixel % p.width)(tap);
            const T column = from_float<T>(at.mask * sample(x, p.x_layout.pixel, p.width, at.point));
            const T weight = static_cast<const T*>(p.weight)[(out * p.channels + channel) * kTaps + tap];
            sum += to_float(weight) * to_float(column);
          }
        }
        T* y = static_cast<T*>(p.y) + image * p.y_layout.image + out * p.y_layout.channel;
        y[pixel * p.y_layout.pixel] = from_float<T>(sum);
      }
    }
  }
}

template <typename T>
void channel_scores(const TopKSplitParams& p, float* scores) {
  const int plane = p.height * p.width;
  for (int index = 0; index < p.batch * p.channels; ++index) {
    const int image = index / p.channels, channel = index % p.channels;
    const T* f = static_cast<const T*>(p.f) + image * p.f_layout.image + channel * p.f_layout.channel;
    const float* o = p.o + static_cast<size_t>(image) * plane;
    double sum = 0.0;
    for (int pixel = 0; pixel < plane; ++pixel) {
      const int row = pixel / p.width, column = pixel % p.width;
      sum += score_share_at(f, p.f_layout.pixel, o, *p.lam, row, column, p.height, p.width);
    }
    scores[index] = static_cast<float>(sum / plane);
  }
}

}  // namespace

KSNET_API void functors_deform_conv(const DeformConvParams* params) {
  params->common.type == StorageType::kFloat16 ? deformable<__half, ModulatedTaps<__half>>(*params)
                                               : deformable<float, ModulatedTaps<float>>(*params);
}

KSNET_API void functors_align(const AlignParams* params) {
  const bool whole = params->stride == 1;
  if (params->common.type == StorageType::kFloat16) {
    whole ? deformable<__half, AlignedTaps<__half, 1>>(*params) : deformable<__half, AlignedTaps<__half, 2>>(*params);
  } else {
    whole ? deformable<float, AlignedTaps<float, 1>>(*params) : deformable<float, AlignedTaps<float, 2>>(*params);
  }
}

KSNET_API void functors_channel_scores(const TopKSplitParams* params, float* scores) {
  params->type == StorageType::kFloat16 ? channel_scores<__half>(*params, scores)
                                        : channel_scores<float>(*params, scores);
}

KSNET_API bool functors_comes_before(float score_a, int a, float score_b, int b) {
  return comes_before(score_a, a, score_b, b);
}
