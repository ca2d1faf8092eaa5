// Just enough of the CUDA runtime to compile the plugins' .cu files with a plain C++ compiler and run them on a CPU.
//
// A block's threads are fibres of one operating system thread; blocks run one after the other. __syncthreads() gives
// the turn to the next fibre, and one round of all fibres is the code between two barriers. A block in which some
// threads have ended while others wait at a barrier is an error, as is a launch that a GPU would refuse. Running a
// round's fibres forward, backward or shuffled must give the same result: where it does not, a barrier is missing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess             ? "no error"
         : error == cudaErrorInvalidValue ? "invalid argument"
                                          : "invalid configuration";
}

using cudaStream_t = struct CUstream_st*;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

extern dim3 gridDim, blockDim, blockIdx, threadIdx;
void __syncthreads();

namespace cuda_on_cpu {
enum Order : int { kForward = 0, kBackward = 1, kShuffled = 2 };
cudaError_t run(dim3 grid, dim3 block, const std::function<void()>& kernel);
}  // namespace cuda_on_cpu

struct cudaFuncAttributes {
  int ptxVersion;
};
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  attributes->ptxVersion = 80;
  return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
  return cuda_on_cpu::run(config->gridDim, config->blockDim, [=] { kernel(arguments...); });
}
