// Fused deformable convolution: no column buffer in global memory. A block owns 64 pixels and 64 output channels. Per
// tap and 64 input channels it samples those pixels into shared memory, then multiplies them with the tap's weights.
//
//   sums[out][pixel] += weights[channel][out] * columns[channel][pixel]        (one tap at a time)
//
// A first kernel brings the weights into the order [tap][channel][out], padded with zeros to whole tiles, so that the
// product needs no bounds. They are small (72 KB for 64 to 64 channels in FP16) and stay in cache.
#include <mma.h>

#include "../common/launch.h"
#include "deform_conv.h"

namespace ksnet {
namespace {

constexpr int kThreads = 256;
constexpr int kPixels = 64;       // of a block, consecutive in the plane, so that neighbours in a warp read neighbours
constexpr int kOuts = 64;         // output channels of a block
constexpr int kChannels = 64;     // input channels sampled at a time
constexpr int kSlice = 8;         // input channels that one thread samples in a row
constexpr int kChannelStep = 16;  // depth of a tensor core's tile; channels are padded to whole tiles

constexpr int kColumnPitch = kPixels + 8;  // the padding spreads rows over the banks
constexpr int kSumPitch = kPixels + 4;

// 32 bytes is the alignment that the tensor-core loads and stores ask for.
template <typename T>
union alignas(32) Tile {
  T columns[kChannels][kColumnPitch];
  float sums[kOuts][kSumPitch];
};

__host__ __device__ int padded_channels(const DeformConvParams& p) { return round_up(p.channels, kChannelStep); }
__host__ __device__ int padded_outs(const DeformConvParams& p) { return round_up(p.out_channels, kOuts); }

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

  __device__ void store(Tile<__half>& tile) const {
    for (int i = 0; i < 2; ++i) {
      nvcuda::wmma::store_matrix_sync(&tile.sums[out()][pixel(i)], sums_[i], kSumPitch, nvcuda::wmma::mem_row_major);
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

  __device__ void store(Tile<float>& tile) const {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) tile.sums[out() + i][pixel() + j] = sums_[i][j];
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

// Sample one tap of `depth` channels from `first_channel` on into the tile. A thread stays at one pixel and takes
// slices of consecutive channels, so that it computes a group's coordinate once for up to kSlice channels.
template <typename T>
__device__ void sample_columns(const DeformConvParams& p, int first_channel, int depth, int tap, Tile<T>& tile) {
  const int plane = p.height * p.width;
  const int image = blockIdx.z;
  const int pixel_in_tile = threadIdx.x % kPixels;
  const int pixel = blockIdx.x * kPixels + pixel_in_tile;
  const int row = pixel / p.width, column = pixel % p.width;
  const int channels_per_group = p.channels / p.offset_groups;
  const T* x = static_cast<const T*>(p.x) + static_cast<size_t>(image) * p.channels * plane;

  for (int slice = threadIdx.x / kPixels * kSlice; slice < depth; slice += kThreads / kPixels * kSlice) {
    ModulatedPoint at{};
    int group_end = 0;
    for (int i = slice; i < slice + kSlice; ++i) {
      const int channel = first_channel + i;
      float value = 0.0f;  // of the padding: channels up to the tile's depth, pixels past the end of the plane
      if (channel < p.channels && pixel < plane) {
        if (channel >= group_end) {
          const int group = channel / channels_per_group;
          group_end = (group + 1) * channels_per_group;
          at = modulated_point<T>(p, image, group, tap, row, column);
        }
        value = at.mask * sample(x + static_cast<size_t>(channel) * plane, p.width, at.point);
      }
      tile.columns[i][pixel_in_tile] = from_float<T>(value);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) deform_conv_kernel(DeformConvParams p) {
  __shared__ Tile<T> tile;
  const int channels = padded_channels(p), outs = padded_outs(p);
  const int first_out = blockIdx.y * kOuts;
  TileProduct<T> product;

  const T* weights = static_cast<const T*>(p.workspace) + first_out;
  for (int tap = 0; tap < kTaps; ++tap) {
    for (int channel = 0; channel < channels; channel += kChannels) {
      const int depth = channels - channel < kChannels ? channels - channel : kChannels;
      __syncthreads();  // the tile's last columns have been used
      sample_columns(p, channel, depth, tap, tile);
      __syncthreads();
      product.add(weights, outs, tile, depth);
      weights += depth * outs;
    }
  }
  __syncthreads();
  product.store(tile);
  __syncthreads();

  const int plane = p.height * p.width;
  const int first_pixel = blockIdx.x * kPixels;
  T* y = static_cast<T*>(p.y) + static_cast<size_t>(blockIdx.z) * p.out_channels * plane;
  for (int i = threadIdx.x; i < kOuts * kPixels; i += kThreads) {
    const int out = first_out + i / kPixels, pixel = first_pixel + i % kPixels;
    if (out < p.out_channels && pixel < plane) {
      const float bias = to_float(static_cast<const T*>(p.bias)[out]);
      y[static_cast<size_t>(out) * plane + pixel] = from_float<T>(tile.sums[i / kPixels][i % kPixels] + bias);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) pack_weights_kernel(DeformConvParams p) {
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

template <typename T>
cudaError_t launch_both(const DeformConvParams& p, cudaStream_t stream) {
  const int outs = padded_outs(p);
  const dim3 pack_grid(ceil_div(outs, kThreads), padded_channels(p), kTaps);
  const cudaError_t error = launch(pack_weights_kernel<T>, pack_grid, dim3(kThreads), stream, p);
  if (error != cudaSuccess) return error;
  const dim3 grid(ceil_div(p.height * p.width, kPixels), outs / kOuts, p.batch);
  return launch(deform_conv_kernel<T>, grid, dim3(kThreads), stream, p);
}

bool is_valid(const DeformConvParams& p) {
  const bool positive = p.batch > 0 && p.channels > 0 && p.out_channels > 0 && p.height > 0 && p.width > 0;
  return positive && p.offset_groups > 0 && p.channels % p.offset_groups == 0 && p.batch <= kMaxGridYZ &&
         p.channels <= kMaxChannels && p.out_channels <= kMaxChannels && p.height <= kMaxExtent &&
         p.width <= kMaxExtent && static_cast<int64_t>(p.height) * p.width <= kMaxPlane &&
         (p.type == StorageType::kFloat32 || p.type == StorageType::kFloat16) && p.workspace != nullptr &&
         reinterpret_cast<uintptr_t>(p.workspace) % alignof(Tile<__half>) == 0;
}

}  // namespace
}  // namespace ksnet

KSNET_API size_t ksnet_deform_conv_workspace(const ksnet::DeformConvParams* params) {
  const size_t element = params->type == ksnet::StorageType::kFloat16 ? sizeof(__half) : sizeof(float);
  return element * ksnet::kTaps * ksnet::padded_channels(*params) * ksnet::padded_outs(*params);
}

KSNET_API cudaError_t ksnet_deform_conv(const ksnet::DeformConvParams* params, cudaStream_t stream) {
  if (!ksnet::is_valid(*params)) return cudaErrorInvalidValue;
  return params->type == ksnet::StorageType::kFloat16 ? ksnet::launch_both<__half>(*params, stream)
                                                      : ksnet::launch_both<float>(*params, stream);
}
