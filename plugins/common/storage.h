// Storage types of the operators. Tensors are stored as FP16 or FP32; all arithmetic is done in float.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#define KSNET_API extern "C" __attribute__((visibility("default")))

namespace ksnet {

enum class StorageType : int32_t { kFloat32 = 0, kFloat16 = 1 };

__host__ __device__ inline float to_float(float value) { return value; }
__host__ __device__ inline float to_float(__half value) { return __half2float(value); }

template <typename T>
__host__ __device__ T from_float(float value);
template <>
__host__ __device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__host__ __device__ inline __half from_float<__half>(float value) {
  return __float2half_rn(value);
}

}  // namespace ksnet
