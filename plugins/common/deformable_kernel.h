// The kernels of the deformable operators, for whatever says where the samples lie. No column buffer in global memory:
// a block owns 64 pixels and 64 output channels. Per tap and 64 input channels it samples those pixels into shared
// memory, then multiplies them with the tap's weights.
//
//   sums[out][pixel] += weights[channel][out] * columns[channel][pixel]        (one tap at a time)
//
// A first kernel brings the weights into the order [tap][channel][out], padded with zeros to whole tiles, so that the
// product needs no bounds. They are small (72 KB for 64 to 64 channels in FP16) and stay in cache.
//
// `Points` is an operator's functor, ModulatedPoint operator()(image, group, tap, row, column) on the device.
#pragma once

#include <mma.h>

#include <cstring>

#include "deformable.h"
#include "launch.h"

namespace ksnet {
namespace {  // each operator compiles kernels of its own

constexpr int kThreads = 256;
constexpr int kBlocks = 4;        // at least at once on a multiprocessor, so that some sample while others multiply
constexpr int kPixels = 64;       // of a block, consecutive in the plane, so that neighbours in a warp read neighbours
constexpr int kOuts = 64;         // output channels of a block
constexpr int kChannels = 64;     // input channels sampled at a time
constexpr int kChannelStep = 16;  // depth of a tensor core's tile; channels are padded to whole tiles

constexpr int kColumnPitch = kPixels + 8;  // the padding spreads rows over the banks
constexpr int kSumPitch = kPixels + 4;

// 32 bytes is the alignment that the tensor-core loads and stores ask for.
template <typename T>
union alignas(32) Tile {
  T columns[kChannels][kColumnPitch];
  float sums[kOuts][kSumPitch];  // [out][pixel], or [pixel][out] where y has its channels last
};

// Channels that one load of 16 bytes fetches where they come last.
template <typename T>
constexpr int kVector = static_cast<int>(sizeof(uint4) / sizeof(T));

__host__ __device__ int padded_channels(const Deformable& p) { return round_up(p.channels, kChannelStep); }
__host__ __device__ int padded_outs(const Deformable& p) { return round_up(p.out_channels, kOuts); }
__host__ __device__ bool gives_channels_last(const Deformable& p) { return p.y_layout.channel == 1; }

// A block's running sums, spread over its threads.
template <typename T>
class TileProduct;

// FP16: tensor cores, float sums. Each of the 8 warps owns 16 output channels x 32 pixels.
template <>
class TileProduct<__half> {
 public:
  __device__ TileProduct() {
    for (auto& sum : sums_) nvcuda::wmma::fill_fragment(sum, 0.0f);
  }

  __device__ void add(const __half* weights, int pitch, const Tile<__half>& tile, int depth) {
    using namespace nvcuda;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::col_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> b;
    for (int k = 0; k < depth; k += kChannelStep) {
      wmma::load_matrix_sync(a, weights + k * pitch + out(), pitch);
      for (int i = 0; i < 2; ++i) {
        wmma::load_matrix_sync(b, &tile.columns[k][pixel(i)], kColumnPitch);
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

// FP32: each thread owns 4 output channels x 4 pixels.
template <>
class TileProduct<float> {
 public:
  __device__ void add(const float* weights, int pitch, const Tile<float>& tile, int depth) {
    for (int k = 0; k < depth; ++k) {
      const float4 w = *reinterpret_cast<const float4*>(weights + k * pitch + out());
      const float4 c = *reinterpret_cast<const float4*>(&tile.columns[k][pixel()]);
      add_row(sums_[0], w.x, c);
      add_row(sums_[1], w.y, c);
      add_row(sums_[2], w.z, c);
      add_row(sums_[3], w.w, c);
    }
  }

  __device__ void store(Tile<float>& tile, bool channels_last) const {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) {
        (channels_last ? tile.sums[pixel() + j][out() + i] : tile.sums[out() + i][pixel() + j]) = sums_[i][j];
      }
    }
  }

 private:
  __device__ static int out() { return threadIdx.x / 16 * 4; }
  __device__ static int pixel() { return threadIdx.x % 16 * 4; }

  __device__ static void add_row(float (&sums)[4], float weight, const float4& column) {
    sums[0] += weight * column.x;
    sums[1] += weight * column.y;
    sums[2] += weight * column.z;
    sums[3] += weight * column.w;
  }

  float sums_[4][4] = {};
};

// kVector channels of a sample, which lie beside one another.
template <typename T>
__device__ void sample_vector(const T* channels, int64_t step, int width, const SamplePoint& point,
                              float (&samples)[kVector<T>]) {
  const T* corner = channels + point.corner * step;
  const T* neighbours[4] = {corner, corner + step, corner + width * step, corner + (width + 1) * step};
  T values[4][kVector<T>];
  for (int i = 0; i < 4; ++i) {
    const uint4 zeros{0, 0, 0, 0};
    const uint4 word = point.weights[i] != 0.0f ? *reinterpret_cast<const uint4*>(neighbours[i]) : zeros;
    std::memcpy(values[i], &word, sizeof(word));
  }
  for (int i = 0; i < kVector<T>; ++i) {
    samples[i] =
        weighted(point, to_float(values[0][i]), to_float(values[1][i]), to_float(values[2][i]), to_float(values[3][i]));
  }
}

// Sample one tap of `depth` channels from `first_channel` on into the tile. A thread stays at one pixel and takes
// consecutive channels, so that it computes a group's point once for all of them.
template <typename T, bool vectors, typename Points>
__device__ void sample_columns(const Deformable& p, const Points& points, int first_channel, int depth, int tap,
                               Tile<T>& tile) {
  constexpr int kStep = vectors ? kVector<T> : 1;
  const int plane = p.height * p.width;
  const int image = blockIdx.z;
  const int pixel_in_tile = threadIdx.x % kPixels;
  const int pixel = blockIdx.x * kPixels + pixel_in_tile;
  const int row = pixel / p.width, column = pixel % p.width;
  const int channels_per_group = p.channels / p.offset_groups;
  const T* x = static_cast<const T*>(p.x) + image * p.x_layout.image;

  const int share = round_up(ceil_div(depth, kThreads / kPixels), kStep);
  const int first = threadIdx.x / kPixels * share;
  const int end = first + share < depth ? first + share : depth;
  ModulatedPoint at{};
  int group_end = 0;
  for (int i = first; i < end; i += kStep) {
    const int channel = first_channel + i;
    float values[kStep] = {};  // of the padding: channels up to the tile's depth, pixels past the end of the plane
    if (channel < p.channels && pixel < plane) {
      if (channel >= group_end) {
        const int group = channel / channels_per_group;
        group_end = (group + 1) * channels_per_group;
        at = points(image, group, tap, row, column);
      }
      const T* of_channel = x + channel * p.x_layout.channel;
      if constexpr (vectors) {
        sample_vector(of_channel, p.x_layout.pixel, p.width, at.point, values);
      } else {
        values[0] = sample(of_channel, p.x_layout.pixel, p.width, at.point);
      }
      for (float& value : values) value *= at.mask;
    }
    for (int j = 0; j < kStep; ++j) tile.columns[i + j][pixel_in_tile] = from_float<T>(values[j]);
  }
}

template <typename T, bool vectors, typename Points>
__global__ void __launch_bounds__(kThreads, kBlocks) deformable_kernel(Deformable p, Points points) {
  __shared__ Tile<T> tile;
  const int channels = padded_channels(p), outs = padded_outs(p);
  const int first_out = blockIdx.y * kOuts;
  TileProduct<T> product;

  const T* weights = static_cast<const T*>(p.workspace) + first_out;
  for (int tap = 0; tap < kTaps; ++tap) {
    for (int channel = 0; channel < channels; channel += kChannels) {
      const int depth = channels - channel < kChannels ? channels - channel : kChannels;
      __syncthreads();  // the tile's last columns have been used
      sample_columns<T, vectors>(p, points, channel, depth, tap, tile);
      __syncthreads();
      product.add(weights, outs, tile, depth);
      weights += depth * outs;
    }
  }
  const bool channels_last = gives_channels_last(p);
  __syncthreads();
  product.store(tile, channels_last);
  __syncthreads();

  const int plane = p.height * p.width;
  const int first_pixel = blockIdx.x * kPixels;
  T* y = static_cast<T*>(p.y) + blockIdx.z * p.y_layout.image;
  for (int i = threadIdx.x; i < kOuts * kPixels; i += kThreads) {
    const int major = i / kPixels, minor = i % kPixels;  // there are as many pixels as outs
    const int out = first_out + (channels_last ? minor : major);
    const int pixel = first_pixel + (channels_last ? major : minor);
    if (out < p.written_channels && pixel < plane) {
      const float bias = out < p.out_channels ? to_float(static_cast<const T*>(p.bias)[out]) : 0.0f;
      y[out * p.y_layout.channel + pixel * p.y_layout.pixel] = from_float<T>(tile.sums[major][minor] + bias);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) pack_weights_kernel(Deformable p) {
  const int out = blockIdx.x * kThreads + threadIdx.x;
  const int channel = blockIdx.y, tap = blockIdx.z;
  const int outs = padded_outs(p);
  if (out >= outs) return;
  T value = from_float<T>(0.0f);
  if (channel < p.channels && out < p.out_channels) {
    value = static_cast<const T*>(p.weight)[(static_cast<size_t>(out) * p.channels + channel) * kTaps + tap];
  }
  const size_t row = static_cast<size_t>(tap) * padded_channels(p) + channel;
  static_cast<T*>(p.workspace)[row * outs + out] = value;
}

// Whether vectors of channels can be fetched: they lie beside one another, aligned, and none is in two groups.
template <typename T>
bool takes_vectors(const Deformable& p) {
  return p.x_layout.channel == 1 && p.x_layout.pixel % kVector<T> == 0 && p.x_layout.image % kVector<T> == 0 &&
         reinterpret_cast<uintptr_t>(p.x) % sizeof(uint4) == 0 && p.channels / p.offset_groups % kVector<T> == 0;
}

template <typename T, typename Points>
cudaError_t launch_both(const Deformable& p, const Points& points, cudaStream_t stream) {
  const int outs = padded_outs(p);
  const dim3 pack_grid(ceil_div(outs, kThreads), padded_channels(p), kTaps);
  const cudaError_t error = launch(pack_weights_kernel<T>, pack_grid, dim3(kThreads), stream, p);
  if (error != cudaSuccess) return error;
  const dim3 grid(ceil_div(p.height * p.width, kPixels), outs / kOuts, p.batch);
  const auto kernel = takes_vectors<T>(p) ? deformable_kernel<T, true, Points> : deformable_kernel<T, false, Points>;
  return launch(kernel, grid, dim3(kThreads), stream, p, points);
}

bool is_valid(const Deformable& p) {
  const bool positive = p.batch > 0 && p.channels > 0 && p.out_channels > 0 && p.height > 0 && p.width > 0;
  return positive && p.offset_groups > 0 && p.channels % p.offset_groups == 0 && p.batch <= kMaxGridYZ &&
         p.channels <= kMaxChannels && p.out_channels <= kMaxChannels && p.height <= kMaxExtent &&
         p.width <= kMaxExtent && static_cast<int64_t>(p.height) * p.width <= kMaxPlane &&
         p.written_channels >= p.out_channels && p.written_channels <= padded_outs(p) && is_valid(p.x_layout) &&
         is_valid(p.y_layout) && (p.type == StorageType::kFloat32 || p.type == StorageType::kFloat16) &&
         p.workspace != nullptr && reinterpret_cast<uintptr_t>(p.workspace) % alignof(Tile<__half>) == 0;
}

// Bytes of workspace that a launch needs; no pointer of the struct is looked at.
size_t deformable_workspace(const Deformable& p) {
  const size_t element = p.type == StorageType::kFloat16 ? sizeof(__half) : sizeof(float);
  return element * kTaps * padded_channels(p) * padded_outs(p);
}

}  // namespace
}  // namespace ksnet
