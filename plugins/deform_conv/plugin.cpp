#include "../common/deformable_plugin.h"
#include "deform_conv.h"

namespace ksnet {
namespace {

struct DeformConvOp {
  static constexpr const char* kName = "KsDeformConv2d";
  static constexpr const char* kAttributes[] = {"offset_group"};
  static constexpr int kInputs = 5, kRequired = 5, kOutputs = 1;
  enum Input { kX, kWeight, kOffset, kBias, kMask };

  static constexpr bool is_float(int input) { return input == kOffset; }
  static constexpr bool may_be_hwc8(int) { return false; }

  using Params = DeformConvParams;

  static const char* problem(const int32_t* attributes, const nvinfer1::Dims* in, int) {
    const int groups = attributes[0];
    if (groups < 1) return "offset_group must be at least 1";
    if (in[kX].nbDims != 4 || in[kWeight].nbDims != 4 || in[kOffset].nbDims != 4 || in[kBias].nbDims != 1 ||
        in[kMask].nbDims != 4) {
      return "x, weight, offset and mask must have 4 dimensions, and bias 1";
    }
    if (const char* sentence = kernel_problem(groups, in[kX], in[kWeight], in[kBias])) return sentence;
    if (!may_equal(in[kOffset].d[1], 2 * kTaps * groups)) return "offset must have 18 * offset_group channels";
    if (!may_equal(in[kMask].d[1], kTaps * groups)) return "mask must have 9 * offset_group channels";
    for (int axis : {0, 2, 3}) {
      if (!may_equal(in[kOffset].d[axis], in[kX].d[axis]) || !may_equal(in[kMask].d[axis], in[kX].d[axis])) {
        return "offset and mask must have the batch, height and width of x";
      }
    }
    return nullptr;
  }

  static bool shapes(const int32_t*, const nvinfer1::DimsExprs* in, nvinfer1::DimsExprs* out, nvinfer1::IExprBuilder&) {
    out[0] = in[kX];
    out[0].d[1] = in[kWeight].d[0];
    return true;
  }

  static Params params(const int32_t* attributes, const nvinfer1::Dims* in, int, StorageType type, bool hwc8) {
    Params p{};
    p.common = deformable(in[kX], in[kWeight], attributes[0], type, hwc8);
    p.offset_layout = layout_of(2 * kTaps * attributes[0], p.common.height, p.common.width, false);
    p.mask_layout = layout_of(kTaps * attributes[0], p.common.height, p.common.width, false);
    return p;
  }

  static void set_pointers(Params& p, const void* const* inputs, int, void* const* outputs, void* workspace) {
    p.common.x = inputs[kX];
    p.common.weight = inputs[kWeight];
    p.common.bias = inputs[kBias];
    p.common.y = outputs[0];
    p.common.workspace = workspace;
    p.offset = static_cast<const float*>(inputs[kOffset]);
    p.mask = inputs[kMask];
  }

  static size_t workspace(const Params& p) { return ksnet_deform_conv_workspace(&p); }
  static cudaError_t run(const Params& p, cudaStream_t stream) { return ksnet_deform_conv(&p, stream); }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* deform_conv_creator() {
  static Creator<DeformConvOp> creator;
  return &creator;
}

}  // namespace ksnet
