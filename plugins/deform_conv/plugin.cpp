#include "../common/plugin.h"

#include "deform_conv.h"

namespace ksnet {
namespace {

struct DeformConvOp {
  static constexpr const char* kName = "KsDeformConv2d";
  static constexpr const char* kAttribute = "offset_group";
  static constexpr int kInputs = 5, kOutputs = 1;
  enum Input { kX, kWeight, kOffset, kBias, kMask };

  static constexpr bool is_float(int input) { return input == kOffset; }

  using Params = DeformConvParams;

  static const char* problem(int groups, const nvinfer1::Dims* in) {
    if (groups < 1) return "offset_group must be at least 1";
    if (in[kX].nbDims != 4 || in[kWeight].nbDims != 4 || in[kOffset].nbDims != 4 || in[kBias].nbDims != 1 ||
        in[kMask].nbDims != 4) {
      return "x, weight, offset and mask must have 4 dimensions, and bias 1";
    }
    if (in[kX].d[1] >= 0 && in[kX].d[1] % groups != 0) return "offset_group must divide the channels of x";
    if (!may_equal(in[kWeight].d[1], in[kX].d[1]) || in[kWeight].d[2] != 3 || in[kWeight].d[3] != 3) {
      return "weight must be (C_out, C, 3, 3), with C the channels of x";
    }
    if (!may_equal(in[kBias].d[0], in[kWeight].d[0])) return "bias must have one value per output channel";
    if (!may_equal(in[kOffset].d[1], 2 * kTaps * groups)) return "offset must have 18 * offset_group channels";
    if (!may_equal(in[kMask].d[1], kTaps * groups)) return "mask must have 9 * offset_group channels";
    for (int axis : {0, 2, 3}) {
      if (!may_equal(in[kOffset].d[axis], in[kX].d[axis]) || !may_equal(in[kMask].d[axis], in[kX].d[axis])) {
        return "offset and mask must have the batch, height and width of x";
      }
    }
    return nullptr;
  }

  static bool shapes(int, const nvinfer1::DimsExprs* in, nvinfer1::DimsExprs* out, nvinfer1::IExprBuilder&) {
    out[0] = in[kX];
    out[0].d[1] = in[kWeight].d[0];
    return true;
  }

  static Params params(int groups, const nvinfer1::Dims* in, StorageType type) {
    Params p{};
    p.batch = static_cast<int32_t>(in[kX].d[0]);
    p.channels = static_cast<int32_t>(in[kX].d[1]);
    p.out_channels = static_cast<int32_t>(in[kWeight].d[0]);
    p.height = static_cast<int32_t>(in[kX].d[2]);
    p.width = static_cast<int32_t>(in[kX].d[3]);
    p.offset_groups = groups;
    p.type = type;
    return p;
  }

  static void set_pointers(Params& p, const void* const* inputs, void* const* outputs, void* workspace) {
    p.x = inputs[kX];
    p.weight = inputs[kWeight];
    p.offset = static_cast<const float*>(inputs[kOffset]);
    p.bias = inputs[kBias];
    p.mask = inputs[kMask];
    p.y = outputs[0];
    p.workspace = workspace;
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
