#include "../common/deformable_kernel.h"
#include "deform_conv.h"

namespace ksnet {
namespace {

// Points at offsets that a tensor holds.
template <typename T>
struct GivenPoints {
  DeformConvParams p;
  __device__ ModulatedTaps<T> operator()(int image, int group, int row, int column) const {
    return ModulatedTaps<T>(p, image, group, row, column);
  }
};

}  // namespace
}  // namespace ksnet

KSNET_API size_t ksnet_deform_conv_workspace(const ksnet::DeformConvParams* params) {
  return ksnet::deformable_workspace(params->common);
}

KSNET_API cudaError_t ksnet_deform_conv(const ksnet::DeformConvParams* params, cudaStream_t stream) {
  using namespace ksnet;
  const Deformable& common = params->common;
  if (!is_valid(common) || !is_valid(params->offset_layout) || !is_valid(params->mask_layout)) {
    return cudaErrorInvalidValue;
  }
  return common.type == StorageType::kFloat16 ? launch_both<__half>(common, GivenPoints<__half>{*params}, stream)
                                              : launch_both<float>(common, GivenPoints<float>{*params}, stream);
}
