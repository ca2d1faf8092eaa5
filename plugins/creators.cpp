// The two functions that TensorRT looks for when it loads a plugin library. Everything else of TensorRT reaches this
// library through virtual methods, so that it links nothing of TensorRT and serves TensorRT 10, 11 and RTX alike.
#include <NvInferRuntime.h>

#include "common/storage.h"

namespace ksnet {
nvinfer1::IPluginCreatorInterface* align_creator();
nvinfer1::IPluginCreatorInterface* deform_conv_creator();
nvinfer1::IPluginCreatorInterface* topk_split_creator();
}  // namespace ksnet

KSNET_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static nvinfer1::IPluginCreatorInterface* const creators[] = {ksnet::align_creator(), ksnet::deform_conv_creator(),
                                                                ksnet::topk_split_creator()};
  count = 3;
  return creators;
}

// Required, but unused: common/plugin.h says why messages go to stderr.
KSNET_API void setLoggerFinder(nvinfer1::ILoggerFinder*) {}
