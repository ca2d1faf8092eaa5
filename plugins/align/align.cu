#include "../common/deformable_kernel.h"
#include "align.h"

namespace ksnet {
namespace {

// Points at offsets that are made of the prediction and the flow where they are needed.
template <typename T, int stride>
struct PredictedPoints {
  AlignParams p;
  __device__ AlignedTaps<T, stride> operator()(int image, int group, int row, int column) const {
    return AlignedTaps<T, stride>(p, image, group, row, column);
  }
};

template <typename T>
cudaError_t launch_align(const AlignParams& p, cudaStream_t stream) {
  return p.stride == 1 ? launch_both<T>(p.common, PredictedPoints<T, 1>{p}, stream)
                       : launch_both<T>(p.common, PredictedPoints<T, 2>{p}, stream);
}

bool is_valid(const AlignParams& p) {
  const bool guided = p.flow != nullptr;
  return is_valid(p.common) && is_valid(p.raw_layout) && (p.stride == 1 || p.stride == 2) &&
         (!guided || (is_valid(p.flow_layout) && p.flows > 0 && p.common.offset_groups % p.flows == 0));
}

}  // namespace
}  // namespace ksnet

KSNET_API size_t ksnet_align_workspace(const ksnet::AlignParams* params) {
  return ksnet::deformable_workspace(params->common);
}

KSNET_API cudaError_t ksnet_align(const ksnet::AlignParams* params, cudaStream_t stream) {
  using namespace ksnet;
  if (!is_valid(*params)) return cudaErrorInvalidValue;
  return params->common.type == StorageType::kFloat16 ? launch_align<__half>(*params, stream)
                                                      : launch_align<float>(*params, stream);
}
