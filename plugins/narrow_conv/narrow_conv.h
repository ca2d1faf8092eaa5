// A 3x3 convolution to few channels of what another convolution gave: the bias and the leaky ReLU of that one are
// applied as its result is read, which is moved once instead of three times. The last layers of a network need it: at
// the size of the HR frame they move the most, and cuDNN pads three output channels to many more.
#pragma once

#include "../common/storage.h"

namespace ksnet {

constexpr int kNarrowOutputs = 8;  // columns of the tensor cores' product

// Device pointers to FP16. Shared with Python through ctypes: keep the order of the fields.
struct NarrowConvParams {
  const void* x;         // (batch, height, width, channels), without bias and activation
  const void* bias;      // (channels) of x
  const void* weight;    // (kNarrowOutputs, 3, 3, channels), zero from `outputs` on
  const void* out_bias;  // (outputs)
  void* y;               // (batch, height, width, outputs)
  int32_t batch;
  int32_t height;
  int32_t width;
  int32_t channels;  // 32 or 64
  int32_t outputs;   // at most kNarrowOutputs
  float slope;       // of the activation of x below zero
};

}  // namespace ksnet

// 1 where the library has code with the instructions of SM 8.0 for the current device, else 0.
KSNET_API int ksnet_narrow_conv_runs();

// Enqueue the convolution on the stream. cudaErrorInvalidValue: a size is none or not supported, x or y has 2^31
// elements, x or bias lies at no multiple of 16 bytes or the weight of 4, or it does not run on this device.
KSNET_API cudaError_t ksnet_narrow_conv(const ksnet::NarrowConvParams* params, cudaStream_t stream);
