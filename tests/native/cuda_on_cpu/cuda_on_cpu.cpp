// Runs a kernel's blocks one after the other, the threads of a block as fibres.
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_runtime.h"
#include "mma.h"

dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace cuda_on_cpu {
namespace {

constexpr size_t kStackBytes = 64 * 1024;

struct Fibre {
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  ucontext_t context;
  dim3 index;
  bool ended;
};

std::vector<Fibre> fibres;
ucontext_t scheduler;
Fibre* current;
const std::function<void()>* current_kernel;
Order current_order = kForward;

void run_kernel() {
  (*current_kernel)();
  current->ended = true;
  swapcontext(&current->context, &scheduler);
}

void start(Fibre& fibre, unsigned thread) {
  fibre.index = dim3(thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y);
  fibre.ended = false;
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = fibre.stack.get();
  fibre.context.uc_stack.ss_size = kStackBytes;
  makecontext(&fibre.context, run_kernel, 0);
}

void run_block(std::vector<unsigned>& order, std::mt19937& random) {
  const unsigned threads = static_cast<unsigned>(order.size());
  for (unsigned thread = 0; thread < threads; ++thread) start(fibres[thread], thread);
  for (unsigned ended = 0; ended < threads;) {
    if (current_order == kShuffled) std::shuffle(order.begin(), order.end(), random);
    for (unsigned thread : order) {
      current = &fibres[thread];
      threadIdx = current->index;
      swapcontext(&scheduler, &current->context);
      ended += current->ended;
    }
    require(ended == 0 || ended == threads, "some threads of a block ended while others wait at a barrier");
  }
}

}  // namespace

cudaError_t run(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  const unsigned threads = block.x * block.y * block.z;
  const bool fits = threads >= 1 && threads <= 1024 && grid.x >= 1 && grid.y >= 1 && grid.z >= 1 &&
                    grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
  if (!fits) return cudaErrorInvalidConfiguration;
  if (fibres.size() < threads) fibres.resize(threads);
  gridDim = grid;
  blockDim = block;
  current_kernel = &kernel;
  std::vector<unsigned> order(threads);
  std::iota(order.begin(), order.end(), 0u);
  if (current_order == kBackward) std::reverse(order.begin(), order.end());
  std::mt19937 random(0);
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        run_block(order, random);
      }
    }
  }
  return cudaSuccess;
}

bool is_first_lane() { return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32 == 0; }

void require(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "CUDA on CPU: %s\n", sentence);
  std::abort();
}

}  // namespace cuda_on_cpu

void __syncthreads() { swapcontext(&cuda_on_cpu::current->context, &cuda_on_cpu::scheduler); }

extern "C" __attribute__((visibility("default"))) void cuda_on_cpu_set_order(int order) {
  cuda_on_cpu::current_order = static_cast<cuda_on_cpu::Order>(order);
}
