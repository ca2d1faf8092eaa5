#include "channels_first.h"
#include "channels_last.h"
#include "topk_split.h"

namespace ksnet {
namespace {

constexpr int kMaxPlanePixels = 1 << 30;

// The workspace: partial sums (batch, bands or blocks, channels), then the channels in their order (batch, channels).
size_t partials(const TopKSplitParams& p) {
  return (lies_in_planes(p) ? plane_bands(p) : max_blocks(p)) * p.batch * p.channels;
}

// Element is an integer as wide as T.
template <typename T, typename Element>
cudaError_t launch_all(const TopKSplitParams& p, cudaStream_t stream) {
  float* partial = static_cast<float*>(p.workspace);
  if (!lies_in_planes(p)) return launch_channels_last<T, Element>(p, partial, stream);
  return launch_channels_first<T, Element>(p, partial, reinterpret_cast<uint16_t*>(partial + partials(p)), stream);
}

// Whether the channels that a format adds have a place; any layout has one for none.
bool has_room(const Layout& layout, int channels, int multiple) {
  return is_valid(layout) && (multiple == 1 || (layout.channel == 1 && layout.pixel >= round_up(channels, multiple)));
}

bool fits(const TopKSplitParams& p) {
  return p.batch > 0 && p.batch <= kMaxGridYZ && p.kept > 0 && p.kept < p.channels && p.channels <= kMaxSplitChannels &&
         p.height > 0 && p.width > 0 && static_cast<int64_t>(p.height) * p.width <= kMaxPlanePixels &&
         (p.channel_multiple == 1 || p.channel_multiple == kHwc8) &&
         has_room(p.f_layout, p.channels, p.channel_multiple) && has_room(p.con_layout, p.kept, p.channel_multiple) &&
         has_room(p.dis_layout, p.channels - p.kept, p.channel_multiple) &&
         (lies_in_planes(p) || static_cast<int64_t>(p.width) * padded_channels(p) <= kMaxRowElements) &&
         (p.type == StorageType::kFloat32 || p.type == StorageType::kFloat16) && p.workspace != nullptr;
}

}  // namespace
}  // namespace ksnet

KSNET_API size_t ksnet_topk_split_workspace(const ksnet::TopKSplitParams* params) {
  const size_t channels = static_cast<size_t>(params->batch) * params->channels;
  return ksnet::partials(*params) * sizeof(float) + channels * sizeof(uint16_t);
}

KSNET_API cudaError_t ksnet_topk_split(const ksnet::TopKSplitParams* params, cudaStream_t stream) {
  if (!ksnet::fits(*params)) return cudaErrorInvalidValue;
  return params->type == ksnet::StorageType::kFloat16 ? ksnet::launch_all<__half, uint16_t>(*params, stream)
                                                      : ksnet::launch_all<float, uint32_t>(*params, stream);
}
