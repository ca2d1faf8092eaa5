// What a block of the deformable operators works on: sampled columns in shared memory, and their product with the
// weights.
#pragma once

#include <mma.h>

#include <cstring>

#include "deformable.h"
#include "launch.h"

namespace ksnet {
namespace {  // each operator compiles kernels of its own

// At least at once on a multiprocessor, so that some sample while others multiply: as many as its shared memory holds,
// and no more than four, so that a thread may have 64 registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 750
constexpr int kBlocks = 2;
#elif defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
constexpr int kBlocks = 3;
#else
constexpr int kBlocks = 4;
#endif

constexpr int kThreads = 256;
constexpr int kAreaWidth = 16, kAreaHeight = 4;  // of a block; wide enough for whole sectors of a plane in FP16
constexpr int kPixels = kAreaWidth * kAreaHeight;
constexpr int kOuts = 64;     // output channels of a block
constexpr int kStep = 16;     // extent of a tensor core's tile; channels are padded to whole tiles
constexpr int kRun = 8;       // consecutive channels that a thread samples where it moves vectors
constexpr int kTogether = 3;  // taps sampled at a time

// Input channels sampled at a time, 128 bytes, and the distance of their pixels: with 16 bytes of padding, eight
// pixels' vectors are in different banks.
template <typename T>
constexpr int kChannels = 128 / static_cast<int>(sizeof(T));
template <typename T>
constexpr int kColumnPitch = kChannels<T> + 16 / static_cast<int>(sizeof(T));
constexpr int kSumPitch = kPixels + 4;

template <typename T>
using Columns = T[kPixels][kColumnPitch<T>];

// 32 bytes is the alignment that the tensor-core loads and stores ask for.
template <typename T>
union alignas(32) Tile {
  Columns<T> columns[kTogether];
  float sums[kOuts][kSumPitch];  // [out][pixel], or [pixel][out] where y has its channels last
};

// Loads of 16 bytes that a run takes.
template <typename T>
constexpr int kWords = kRun * static_cast<int>(sizeof(T)) / static_cast<int>(sizeof(uint4));

__host__ __device__ int padded_channels(const Deformable& p) { return round_up(p.channels, kStep); }
__host__ __device__ int padded_outs(const Deformable& p) { return round_up(p.out_channels, kOuts); }
__host__ __device__ bool gives_channels_last(const Deformable& p) { return p.y_layout.channel == 1; }

// Whether runs of `channels` can be moved 16 bytes at a time: they lie beside one another, aligned, and are all whole.
template <typename T>
__host__ __device__ bool lies_in_runs(const void* data, const Layout& layout, int channels) {
  constexpr int kVector = kRun / kWords<T>;
  return layout.channel == 1 && layout.pixel % kVector == 0 && layout.image % kVector == 0 && channels % kRun == 0 &&
         reinterpret_cast<uintptr_t>(data) % sizeof(uint4) == 0;
}

// A block's running sums, spread over its threads. `weights` is the tile of the block's first output and of the
// columns' first channel; the next 16 outputs are `pitch` elements on.
template <typename T>
class TileProduct;

// FP16: tensor cores, float sums. Each of the 8 warps owns 16 output channels x 32 pixels.
template <>
class TileProduct<__half> {
 public:
  __device__ TileProduct() {
    for (auto& sum : sums_) nvcuda::wmma::fill_fragment(sum, 0.0f);
  }

  __device__ void add(const __half* weights, int pitch, const Columns<__half>& columns, int depth) {
    using namespace nvcuda;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> b;
    for (int k = 0; k < depth; k += kStep) {
      wmma::load_matrix_sync(a, weights + out() / kStep * pitch + k * kStep, kStep);
      for (int i = 0; i < 2; ++i) {
        wmma::load_matrix_sync(b, &columns[pixel(i)][k], kColumnPitch<__half>);
        wmma::mma_sync(sums_[i], a, b, sums_[i]);
      }
    }
  }

  __device__ void store(Tile<__half>& tile, bool channels_last) const {
    using namespace nvcuda;
    for (int i = 0; i < 2; ++i) {
      if (channels_last) {
        wmma::store_matrix_sync(&tile.sums[pixel(i)][out()], sums_[i], kSumPitch, wmma::mem_col_major);
      } else {
        wmma::store_matrix_sync(&tile.sums[out()][pixel(i)], sums_[i], kSumPitch, wmma::mem_row_major);
      }
    }
  }

 private:
  __device__ static int out() { return threadIdx.x / 64 * 16; }
  __device__ static int pixel(int i) { return threadIdx.x / 32 % 2 * 32 + i * 16; }

  nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> sums_[2];
};

// FP32: each thread owns 4 output channels x 4 pixels, and takes 4 channels of these at a time.
template <>
class TileProduct<float> {
 public:
  __device__ void add(const float* weights, int pitch, const Columns<float>& columns, int depth) {
    const float* of_outs = weights + out() / kStep * pitch + out() % kStep * kStep;
    for (int k = 0; k < depth; k += 4) {
      float4 c[4];
      for (int j = 0; j < 4; ++j) c[j] = *reinterpret_cast<const float4*>(&columns[pixel(j)][k]);
      for (int i = 0; i < 4; ++i) {
        const float4 w = *reinterpret_cast<const float4*>(of_outs + k / kStep * kStep * kStep + i * kStep + k % kStep);
        for (int j = 0; j < 4; ++j) {
          sums_[i][j] += w.x * c[j].x;
          sums_[i][j] += w.y * c[j].y;
          sums_[i][j] += w.z * c[j].z;
          sums_[i][j] += w.w * c[j].w;
        }
      }
    }
  }

  __device__ void store(Tile<float>& tile, bool channels_last) const {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) {
        (channels_last ? tile.sums[pixel(j)][out() + i] : tile.sums[out() + i][pixel(j)]) = sums_[i][j];
      }
    }
  }

 private:
  __device__ static int out() { return threadIdx.x / 16 * 4; }
  __device__ static int pixel(int j) { return threadIdx.x % 16 + 16 * j; }

  float sums_[4][4] = {};
};

}  // namespace
}  // namespace ksnet
