// The kernels of the deformable operators, for whatever says where the samples lie. No column buffer in global memory:
// a block owns an area of 16 x 4 pixels and 64 output channels. It takes 128 bytes of a pixel's channels at a time (64
// in FP16, 32 in FP32); of these it samples the three taps of a row of the kernel into shared memory, then multiplies
// them with the taps' weights. The compact area and the taps together let the first-level cache serve what samples
// share.
//
//   sums[out][pixel] += weights[out][channel] * columns[pixel][channel]        (one tap at a time)
//
// With the channels last, a thread samples a run of eight channels of one group at a time, and neighbouring threads
// take the runs of one pixel: they read its predictions beside one another, and their 16 bytes lie in different banks
// of the cache wherever the groups are sampled. Otherwise neighbouring threads take neighbouring pixels of the same
// channel.
//
// A first kernel brings the weights into tiles of 16 outputs x 16 channels, each 512 bytes in one piece as the tensor
// cores load it, in the order [tap][out][channel] and padded with zeros, so that the product needs no bounds. They are
// small (72 KB for 64 to 64 channels in FP16) and stay in cache.
//
// `Points` is an operator's functor. On the device, its operator()(image, group, row, column) gives the taps of a group
// at a pixel, whose operator()(tap) gives a ModulatedPoint.
#pragma once

#include "deformable_tile.h"

namespace ksnet {
namespace {  // each operator compiles kernels of its own

// A run's samples at one point, of channels that lie beside one another.
template <typename T>
__device__ void sample_run(const T* channels, int64_t step, int width, const SamplePoint& point,
                           float (&samples)[kRun]) {
  const T* corner = channels + point.corner * step;
  const T* neighbours[4] = {corner, corner + step, corner + width * step, corner + (width + 1) * step};
  T values[4][kRun];
  for (int i = 0; i < 4; ++i) {
    uint4 words[kWords<T>] = {};
    if (point.weights[i] != 0.0f) {
      for (int j = 0; j < kWords<T>; ++j) words[j] = reinterpret_cast<const uint4*>(neighbours[i])[j];
    }
    std::memcpy(values[i], words, sizeof(words));
  }
  for (int i = 0; i < kRun; ++i) {
    samples[i] =
        weighted(point, to_float(values[0][i]), to_float(values[1][i]), to_float(values[2][i]), to_float(values[3][i]));
  }
}

// Store a run, rounded, as vectors.
template <typename T>
__device__ void store_run(const float (&samples)[kRun], T* to) {
  T rounded[kRun];
  for (int i = 0; i < kRun; ++i) rounded[i] = from_float<T>(samples[i]);
  uint4 words[kWords<T>];
  std::memcpy(words, rounded, sizeof(words));
  for (int i = 0; i < kWords<T>; ++i) reinterpret_cast<uint4*>(to)[i] = words[i];
}

struct Area {
  int row, column;  // of its first pixel
};

__device__ Area area_of_block(const Deformable& p) {
  const int areas = ceil_div(p.width, kAreaWidth);
  const int index = blockIdx.x;
  return Area{index / areas * kAreaHeight, index % areas * kAreaWidth};
}

// Taps of the area's pixels, of `depth` channels from `first_channel` on. The columns of padding, which are channels up
// to the depth and pixels outside the frame, are zeros.
struct Part {
  Area area;
  int first_channel, depth, first_tap;
};

// Where runs of x can be moved as vectors.
template <typename T, typename Points>
__device__ void sample_runs(const Deformable& p, const Points& points, const Part& part,
                            Columns<T> (&columns)[kTogether]) {
  const int image = blockIdx.z;
  const int channels_per_group = p.channels / p.offset_groups;
  const T* x = static_cast<const T*>(p.x) + image * p.x_layout.image;

  const int runs = part.depth / kRun;
  for (int i = threadIdx.x; i < kPixels * runs; i += kThreads) {
    const int pixel = i / runs, run = i % runs * kRun;
    const int row = part.area.row + pixel / kAreaWidth, column = part.area.column + pixel % kAreaWidth;
    const int channel = part.first_channel + run;
    float samples[kRun] = {};
    if (channel >= p.channels || row >= p.height || column >= p.width) {
      for (int j = 0; j < kTogether; ++j) store_run(samples, &columns[j][pixel][run]);
      continue;
    }
    const auto taps = points(image, channel / channels_per_group, row, column);
    for (int j = 0; j < kTogether; ++j) {
      const ModulatedPoint at = taps(part.first_tap + j);
      sample_run(x + channel, p.x_layout.pixel, p.width, at.point, samples);
      for (float& sample : samples) sample *= at.mask;
      store_run(samples, &columns[j][pixel][run]);
    }
  }
}

// Of any x. A thread stays at one pixel and takes consecutive channels, so that it computes a group's point once for
// all of them.
template <typename T, typename Points>
__device__ void sample_channels(const Deformable& p, const Points& points, const Part& part,
                                Columns<T> (&columns)[kTogether]) {
  const int image = blockIdx.z;
  const int channels_per_group = p.channels / p.offset_groups;
  const T* x = static_cast<const T*>(p.x) + image * p.x_layout.image;

  const int pixel = threadIdx.x % kPixels;
  const int row = part.area.row + pixel / kAreaWidth, column = part.area.column + pixel % kAreaWidth;
  const int share = part.depth / (kThreads / kPixels);
  const int first = threadIdx.x / kPixels * share;
  const int channels = row < p.height && column < p.width ? p.channels : 0;  // that are not padding
  for (int j = 0; j < kTogether; ++j) {
    ModulatedPoint at{};
    int group_end = 0;
    for (int i = first; i < first + share; ++i) {
      const int channel = part.first_channel + i;
      float value = 0.0f;
      if (channel < channels) {
        if (channel >= group_end) {
          const int group = channel / channels_per_group;
          group_end = (group + 1) * channels_per_group;
          at = points(image, group, row, column)(part.first_tap + j);
        }
        value = at.mask * sample(x + channel * p.x_layout.channel, p.x_layout.pixel, p.width, at.point);
      }
      columns[j][pixel][i] = from_float<T>(value);
    }
  }
}

// Add the bias and write the area: runs of a pixel's outputs where y takes vectors, else one value after the other.
template <typename T>
__device__ void write(const Deformable& p, Area area, int first_out, const float (&sums)[kOuts][kSumPitch]) {
  const auto biased = [&](float sum, int out) {
    return sum + (out < p.out_channels ? to_float(static_cast<const T*>(p.bias)[out]) : 0.0f);
  };
  const bool channels_last = gives_channels_last(p), in_runs = lies_in_runs<T>(p.y, p.y_layout, p.written_channels);
  const int run = in_runs ? kRun : 1;
  T* y = static_cast<T*>(p.y) + blockIdx.z * p.y_layout.image;
  for (int i = threadIdx.x * run; i < kOuts * kPixels; i += kThreads * run) {
    const int major = i / kPixels, minor = i % kPixels;  // there are as many pixels as outs
    const int pixel = channels_last ? major : minor;
    const int out = first_out + (channels_last ? minor : major);
    const int row = area.row + pixel / kAreaWidth, column = area.column + pixel % kAreaWidth;
    if (out >= p.written_channels || row >= p.height || column >= p.width) continue;
    T* to = y + out * p.y_layout.channel + (static_cast<int64_t>(row) * p.width + column) * p.y_layout.pixel;
    if (in_runs) {
      float results[kRun];
      for (int j = 0; j < kRun; ++j) results[j] = biased(sums[major][minor + j], out + j);
      store_run(results, to);
    } else {
      *to = from_float<T>(biased(sums[major][minor], out));
    }
  }
}

template <typename T, bool vectors, typename Points>
__global__ void __launch_bounds__(kThreads, kBlocks) deformable_kernel(Deformable p, Points points) {
  __shared__ Tile<T> tile;
  const int channels = padded_channels(p), outs = padded_outs(p);
  const Area area = area_of_block(p);
  const int first_out = blockIdx.y * kOuts;
  TileProduct<T> product;

  const T* weights = static_cast<const T*>(p.workspace) + static_cast<size_t>(first_out) * channels;
  for (int channel = 0; channel < channels; channel += kChannels<T>) {
    const int depth = channels - channel < kChannels<T> ? channels - channel : kChannels<T>;
    for (int tap = 0; tap < kTaps; tap += kTogether) {
      const Part part{area, channel, depth, tap};
      __syncthreads();  // the tile's last columns have been used
      vectors ? sample_runs(p, points, part, tile.columns) : sample_channels(p, points, part, tile.columns);
      __syncthreads();
      for (int i = 0; i < kTogether; ++i) {
        const T* of_tap = weights + static_cast<size_t>(tap + i) * outs * channels + channel * kStep;
        product.add(of_tap, channels * kStep, tile.columns[i], depth);
      }
    }
  }
  const bool channels_last = gives_channels_last(p);
  __syncthreads();
  product.store(tile, channels_last);
  __syncthreads();
  write<T>(p, area, first_out, tile.sums);
}

// Thread by thread of the destination, tile after tile.
template <typename T>
__global__ void __launch_bounds__(kThreads) pack_weights_kernel(Deformable p) {
  const int channels = padded_channels(p);
  const int size = padded_outs(p) * channels;
  const int i = blockIdx.x * kThreads + threadIdx.x, tap = blockIdx.y;
  if (i >= size) return;
  const int tile = i / (kStep * kStep), tiles = channels / kStep;
  const int out = tile / tiles * kStep + i / kStep % kStep, channel = tile % tiles * kStep + i % kStep;
  T value = from_float<T>(0.0f);
  if (channel < p.channels && out < p.out_channels) {
    value = static_cast<const T*>(p.weight)[(static_cast<size_t>(out) * p.channels + channel) * kTaps + tap];
  }
  static_cast<T*>(p.workspace)[static_cast<size_t>(tap) * size + i] = value;
}

template <typename T, typename Points>
cudaError_t launch_both(const Deformable& p, const Points& points, cudaStream_t stream) {
  const int outs = padded_outs(p);
  const dim3 pack_grid(ceil_div(outs * padded_channels(p), kThreads), kTaps);
  const cudaError_t error = launch(pack_weights_kernel<T>, pack_grid, dim3(kThreads), stream, p);
  if (error != cudaSuccess) return error;
  const bool vectors = lies_in_runs<T>(p.x, p.x_layout, p.channels / p.offset_groups);
  const dim3 grid(ceil_div(p.height, kAreaHeight) * ceil_div(p.width, kAreaWidth), outs / kOuts, p.batch);
  const auto kernel = vectors ? deformable_kernel<T, true, Points> : deformable_kernel<T, false, Points>;
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
