// Flow-guided deformable alignment on a CPU: ksnet::KsAlign, as ksnet_deploy/ops/reference.py defines it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace ksnet {

enum class AlignType : int32_t { kFloat32 = 0, kBfloat16 = 1 };

// Tensors lie in memory without gaps, batch first, row by row. Those that are not named float have the type.
struct AlignParams {
  const void* x;       // (batch, channels, height, width)
  const void* weight;  // (out_channels, channels, 3, 3)
  const void* bias;    // (out_channels)
  const void* raw;     // (batch, 27 groups, ceil(height / stride), ceil(width / stride)), before tanh and sigmoid
  const float* flow;   // (batch, 2 flows, height, width) in pixels, dy before dx; null at rest
  void* y;             // (batch, out_channels, height, width)
  int32_t batch, channels, out_channels, height, width;
  int32_t groups;  // a divisor of channels
  int32_t flows;   // a divisor of groups; 0 at rest
  int32_t stride;  // 1 or 2
  AlignType type;
};

// Calls its second argument for 0 ... its first - 1, in any order and on any threads, and returns when all have ended.
using ParallelFor = std::function<void(size_t, const std::function<void(size_t)>&)>;

// Memory that calls use and leave for the next ones. Calls may overlap.
class AlignWorkspaces;
AlignWorkspaces* create_align_workspaces();
void destroy_align_workspaces(AlignWorkspaces* workspaces);

// Computes y. Returns null, or a sentence that says what is wrong. Throws nothing.
const char* align(const AlignParams& params, AlignWorkspaces& workspaces, const ParallelFor& parallel) noexcept;

// Name of the path that this processor takes: avx512, avx2 or portable. KSNET_ALIGN_PATH names another. Null where the
// processor does not have that one, or there is none of that name.
const char* align_path();

}  // namespace ksnet
