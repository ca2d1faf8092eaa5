// Launch arithmetic shared by the operators.
#pragma once

#include <cuda_runtime.h>

namespace ksnet {

// Before a loop whose indices must be constants, for the registers of an array, or whose loads should be on the way at
// once: `count` rounds of it as one. Other compilers than nvcc do not know it.
#ifdef __CUDACC__
#define KSNET_PRAGMA(text) _Pragma(#text)
#define KSNET_UNROLL(count) KSNET_PRAGMA(unroll count)
#else
#define KSNET_UNROLL(count)
#endif

constexpr int kMaxGridYZ = 65535;

template <typename T>
__host__ __device__ constexpr T ceil_div(T value, T step) {
  return (value + step - 1) / step;
}

template <typename T>
__host__ __device__ constexpr T round_up(T value, T step) {
  return ceil_div(value, step) * step;
}

// The runtime's function instead of <<<...>>>: it returns the launch's own error, and it is plain C++, which lets the
// tests run the kernels on a CPU.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream, Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace ksnet
