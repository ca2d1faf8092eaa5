#include "../common/deformable_plugin.h"
#include "align.h"

namespace ksnet {
namespace {

struct AlignOp {
  static constexpr const char* kName = "KsAlign";
  static constexpr const char* kAttributes[] = {"offset_group", "offset_stride"};
  static constexpr int kInputs = 5, kRequired = 4, kOutputs = 1;
  enum Input { kX, kWeight, kBias, kRaw, kFlow };

  static constexpr bool is_float(int input) { return input == kFlow; }
  static constexpr bool may_be_hwc8(int input) { return input == kX || input == kRaw; }

  using Params = AlignParams;

  static const char* problem(const int32_t* attributes, const nvinfer1::Dims* in, int count) {
    const int groups = attributes[0], stride = attributes[1];
    if (groups < 1) return "offset_group must be at least 1";
    if (stride != 1 && stride != 2) return "offset_stride must be 1 or 2";
    const bool guided = count > kFlow;
    if (in[kX].nbDims != 4 || in[kWeight].nbDims != 4 || in[kBias].nbDims != 1 || in[kRaw].nbDims != 4 ||
        (guided && in[kFlow].nbDims != 4)) {
      return "x, weight, raw and flow must have 4 dimensions, and bias 1";
    }
    if (const char* sentence = kernel_problem(groups, in[kX], in[kWeight], in[kBias])) return sentence;
    if (!may_equal(in[kRaw].d[1], 3 * kTaps * groups)) return "raw must have 27 * offset_group channels";
    if (!may_equal(in[kRaw].d[0], in[kX].d[0])) return "raw must have the batch of x";
    for (int axis : {2, 3}) {
      const int64_t extent = in[kX].d[axis];
      if (!may_equal(in[kRaw].d[axis], extent < 0 ? -1 : (extent + stride - 1) / stride)) {
        return "raw must have the height and width of x, divided by offset_stride and rounded up";
      }
    }
    if (!guided) return nullptr;
    const int64_t channels = in[kFlow].d[1];
    if (channels < 0) return "the number of channels of flow must be fixed when the engine is built";
    if (channels < 2 || channels % 2 != 0 || groups % (channels / 2) != 0) {
      return "flow must have 2 channels for each flow, and their number must divide offset_group";
    }
    for (int axis : {0, 2, 3}) {
      if (!may_equal(in[kFlow].d[axis], in[kX].d[axis])) return "flow must have the batch, height and width of x";
    }
    return nullptr;
  }

  static bool shapes(const int32_t*, const nvinfer1::DimsExprs* in, nvinfer1::DimsExprs* out, nvinfer1::IExprBuilder&) {
    out[0] = in[kX];
    out[0].d[1] = in[kWeight].d[0];
    return true;
  }

  static Params params(const int32_t* attributes, const nvinfer1::Dims* in, int count, StorageType type, bool hwc8) {
    const int groups = attributes[0], stride = attributes[1];
    Params p{};
    p.common = deformable(in[kX], in[kWeight], groups, type, hwc8);
    const int height = p.common.height, width = p.common.width;
    p.raw_layout = layout_of(3 * kTaps * groups, ceil_div(height, stride), ceil_div(width, stride), hwc8);
    p.flows = count > kFlow ? static_cast<int32_t>(in[kFlow].d[1] / 2) : 0;
    p.flow_layout = layout_of(2 * p.flows, height, width, false);
    p.stride = stride;
    return p;
  }

  static void set_pointers(Params& p, const void* const* inputs, int count, void* const* outputs, void* workspace) {
    p.common.x = inputs[kX];
    p.common.weight = inputs[kWeight];
    p.common.bias = inputs[kBias];
    p.common.y = outputs[0];
    p.common.workspace = workspace;
    p.raw = inputs[kRaw];
    p.flow = count > kFlow ? static_cast<const float*>(inputs[kFlow]) : nullptr;
  }

  static size_t workspace(const Params& p) { return ksnet_align_workspace(&p); }
  static cudaError_t run(const Params& p, cudaStream_t stream) { return ksnet_align(&p, stream); }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* align_creator() {
  static Creator<AlignOp> creator;
  return &creator;
}

}  // namespace ksnet
