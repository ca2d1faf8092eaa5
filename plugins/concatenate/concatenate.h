// Channels-last tensors beside one another, along their channels.
#pragma once

#include "../common/storage.h"

namespace ksnet {

constexpr int kMaxParts = 8;

// Device pointers. Shared with Python through ctypes: keep the order of the fields.
struct ConcatenateParams {
  const void* parts[kMaxParts];  // T (pixels, channels[i])
  void* y;                       // T (pixels, the sum of all channels)
  int32_t channels[kMaxParts];   // 0 behind the last part
  int32_t pixels;                // of all images of the batch
  StorageType type;
};

}  // namespace ksnet

// Enqueue the concatenation on the stream. cudaErrorInvalidValue: there is nothing, or y has 2^31 elements.
KSNET_API cudaError_t ksnet_concatenate(const ksnet::ConcatenateParams* params, cudaStream_t stream);
