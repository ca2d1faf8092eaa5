#include "../common/plugin.h"

#include "topk_split.h"

namespace ksnet {
namespace {

struct TopKSplitOp {
  static constexpr const char* kName = "KsTopKSplit";
  static constexpr const char* kAttributes[] = {"k"};
  static constexpr int kInputs = 3, kRequired = 3, kOutputs = 2;
  enum Input { kF, kO, kLam };

  static constexpr bool is_float(int input) { return input == kO || input == kLam; }
  static constexpr bool may_be_hwc8(int input) { return input == kF; }

  using Params = TopKSplitParams;

  static const char* problem(const int32_t* attributes, const nvinfer1::Dims* in, int) {
    const int k = attributes[0];
    if (in[kF].nbDims != 4 || in[kO].nbDims != 4 || in[kLam].nbDims != 1) {
      return "f and o must have 4 dimensions, and lam 1";
    }
    if (in[kF].d[1] < 0) return "the number of channels of f must be fixed when the engine is built";
    if (k < 1 || k >= in[kF].d[1]) return "k must be at least 1 and below the channels of f";
    if (in[kF].d[1] > kMaxSplitChannels) return "f has more than 1024 channels";
    if (!may_equal(in[kLam].d[0], 1)) return "lam must be one value";
    if (!may_equal(in[kO].d[1], 1)) return "o must have one channel";
    for (int axis : {0, 2, 3}) {
      if (!may_equal(in[kO].d[axis], in[kF].d[axis])) return "o must have the batch, height and width of f";
    }
    return nullptr;
  }

  static bool shapes(const int32_t* attributes, const nvinfer1::DimsExprs* in, nvinfer1::DimsExprs* out,
                     nvinfer1::IExprBuilder& builder) {
    const int k = attributes[0];
    const int64_t channels = in[kF].d[1]->getConstantValue();
    for (int i = 0; i < kOutputs; ++i) {
      out[i] = in[kF];
      out[i].d[1] = builder.constant(i == 0 ? k : channels - k);
    }
    return out[0].d[1] != nullptr && out[1].d[1] != nullptr;
  }

  static Params params(const int32_t* attributes, const nvinfer1::Dims* in, int, StorageType type, bool hwc8) {
    Params p{};
    p.batch = static_cast<int32_t>(in[kF].d[0]);
    p.channels = static_cast<int32_t>(in[kF].d[1]);
    p.kept = attributes[0];
    p.height = static_cast<int32_t>(in[kF].d[2]);
    p.width = static_cast<int32_t>(in[kF].d[3]);
    p.channel_multiple = hwc8 ? kHwc8 : 1;
    p.type = type;
    p.f_layout = layout_of(p.channels, p.height, p.width, hwc8);
    p.con_layout = layout_of(p.kept, p.height, p.width, hwc8);
    p.dis_layout = layout_of(p.channels - p.kept, p.height, p.width, hwc8);
    return p;
  }

  static void set_pointers(Params& p, const void* const* inputs, int, void* const* outputs, void* workspace) {
    p.f = inputs[kF];
    p.o = static_cast<const float*>(inputs[kO]);
    p.lam = static_cast<const float*>(inputs[kLam]);
    p.con = outputs[0];
    p.dis = outputs[1];
    p.workspace = workspace;
  }

  static size_t workspace(const Params& p) { return ksnet_topk_split_workspace(&p); }
  static cudaError_t run(const Params& p, cudaStream_t stream) { return ksnet_topk_split(&p, stream); }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* topk_split_creator() {
  static Creator<TopKSplitOp> creator;
  return &creator;
}

}  // namespace ksnet
