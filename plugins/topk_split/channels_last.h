// Score and gather where f, con and dis have the channels of a pixel beside one another: two kernels. Neighbouring
// threads take neighbouring vectors of channels; where these do not fit, single ones, of any layout.
#pragma once

#include <cstring>

#include "../common/launch.h"
#include "choose.h"

namespace ksnet {
namespace {

// About as many as large GPUs have multiprocessors: every block of the gather adds up what these leave.
constexpr int kScoreBlocks = 128;
constexpr int kGatherBlocks = 256;
constexpr int kMinBandRows = 4;
constexpr int kTileBytes = 16 * 1024;
constexpr int64_t kMaxRowElements = 1 << 30;  // width x channels, so that a thread's number is an int

// Channels of a pixel of f, those included that a format adds.
__host__ __device__ int padded_channels(const TopKSplitParams& p) { return round_up(p.channels, p.channel_multiple); }

// How f is shared out to threads: each takes a vector of channels in one column of one band of rows.
struct Bands {
  int rows;
  int count;
  int blocks;  // of an image, for all vectors, columns and bands
};

Bands bands_of(const TopKSplitParams& p, int vectors) {
  const int64_t row = static_cast<int64_t>(p.width) * vectors;
  const int64_t threads = static_cast<int64_t>(kThreads) * (p.batch < kScoreBlocks ? kScoreBlocks / p.batch : 1);
  int64_t rows = ceil_div(row * p.height, threads);
  rows = rows < kMinBandRows ? kMinBandRows : rows;
  rows = rows < p.height ? rows : p.height;
  const int64_t count = ceil_div<int64_t>(p.height, rows);
  return Bands{static_cast<int>(rows), static_cast<int>(count),
               static_cast<int>(ceil_div<int64_t>(count * row, kThreads))};
}

// At least the blocks of an image for any vector; the bound does not fall where a size grows, as the number itself may.
size_t max_blocks(const TopKSplitParams& p) {
  return kScoreBlocks + 1 + ceil_div<size_t>(static_cast<size_t>(p.width) * padded_channels(p), kThreads);
}

// Rows whose reads a thread issues before it uses the first. More would leave a multiprocessor only one block.
template <typename Word>
constexpr int kRowsAhead = sizeof(Word) == sizeof(uint4) ? 2 : 4;

template <typename T, typename Word>
__device__ void unpack(const Word& word, float (&values)[sizeof(Word) / sizeof(T)]) {
  T stored[sizeof(Word) / sizeof(T)];
  std::memcpy(stored, &word, sizeof(word));
  for (size_t i = 0; i < sizeof(Word) / sizeof(T); ++i) values[i] = to_float(stored[i]);
}

template <typename Word, typename T>
__device__ Word load(const T* from) {
  return *reinterpret_cast<const Word*>(from);
}

// A block's partial sums of all channels.
template <typename T, typename Word>
__global__ void __launch_bounds__(kThreads, 2) score_pixels_kernel(TopKSplitParams p, Bands bands, float* partial) {
  constexpr int kVector = sizeof(Word) / sizeof(T), kAhead = kRowsAhead<Word>;
  __shared__ float sums[kVector][kThreads + 4];  // the padding spreads a vector's channels over the banks
  __shared__ float totals[kMaxSplitChannels];
  const int vectors = padded_channels(p) / kVector;
  const int first_vector = blockIdx.x * kThreads % vectors;
  const int number = blockIdx.x * kThreads + threadIdx.x;
  const int vector = number % vectors, of_vector = number / vectors;
  const int column = of_vector % p.width, band = of_vector / p.width;

  float sum[kVector] = {};
  if (band < bands.count) {
    const float lam = *p.lam;
    const int first_row = band * bands.rows;
    const int end_row = p.height - first_row < bands.rows ? p.height : first_row + bands.rows;
    const int64_t pixel = static_cast<int64_t>(first_row) * p.width + column;
    const int64_t row_step = p.width * p.f_layout.pixel;
    const int64_t right_step = column + 1 < p.width ? p.f_layout.pixel : 0;  // at the far edge the value itself
    const T* f = static_cast<const T*>(p.f) + blockIdx.y * p.f_layout.image + vector * kVector * p.f_layout.channel +
                 pixel * p.f_layout.pixel;
    const float* o = p.o + blockIdx.y * (static_cast<size_t>(p.height) * p.width) + pixel;
    float value[kVector];
    unpack<T>(load<Word>(f), value);
    for (int row = first_row; row < end_row; row += kAhead) {
      Word right_words[kAhead] = {}, below_words[kAhead] = {};
      float offsets[kAhead] = {};
      for (int i = 0; i < kAhead; ++i) {
        if (row + i < end_row) {
          right_words[i] = load<Word>(f + i * row_step + right_step);
          below_words[i] = load<Word>(f + (row + i + 1 < p.height ? i + 1 : i) * row_step);
          offsets[i] = o[i * static_cast<int64_t>(p.width)];
        }
      }
      for (int i = 0; i < kAhead; ++i) {
        if (row + i < end_row) {
          float right[kVector], below[kVector];
          unpack<T>(right_words[i], right);
          unpack<T>(below_words[i], below);
          for (int j = 0; j < kVector; ++j) {
            sum[j] += score_share(value[j], right[j], below[j], offsets[i], lam);
            value[j] = below[j];
          }
        }
      }
      f += kAhead * row_step;
      o += kAhead * static_cast<int64_t>(p.width);
    }
  }
  for (int j = 0; j < kVector; ++j) sums[j][threadIdx.x] = sum[j];
  __syncthreads();
  // The threads of a vector are `vectors` apart.
  const auto of_thread = [&](int channel, int i) {
    const int ahead = channel / kVector - first_vector;
    const int thread = (ahead < 0 ? ahead + vectors : ahead) + i * vectors;
    return thread < kThreads ? sums[channel % kVector][thread] : 0.0f;
  };
  sum_by_channel(p.channels, ceil_div(kThreads, vectors), of_thread, totals);
  float* of_block = partial + (static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x) * p.channels;
  for (int channel = threadIdx.x; channel < p.channels; channel += kThreads) of_block[channel] = totals[channel];
}

// Pixels that a block holds in shared memory at a time, and how many times it takes for the image.
struct Tiles {
  int pixels;
  int count;
};

template <typename Element, typename Word>
union PixelTile {
  Word words[kTileBytes / sizeof(Word)];
  Element elements[kTileBytes / sizeof(Element)];
};

// A block chooses by itself, as every other does, and moves its pixels. Stores are of 4 bytes, which neighbouring
// threads put beside one another: two halves, of the same pixel or of two. `whole` tells whether con and dis allow it.
template <typename Element, typename Word>
__global__ void __launch_bounds__(kThreads)
    gather_pixels_kernel(TopKSplitParams p, const float* partial, int partials, Tiles tiles, bool whole) {
  constexpr int kVector = sizeof(Word) / sizeof(Element);
  constexpr int kPack = sizeof(uint32_t) / sizeof(Element);
  __shared__ PixelTile<Element, Word> tile;
  __shared__ Choice choice;
  const int padded = padded_channels(p), vectors = padded / kVector;
  const int con_channels = round_up(p.kept, p.channel_multiple);
  const int dis_channels = round_up(p.channels - p.kept, p.channel_multiple);
  const int row = con_channels + dis_channels;  // stores for kPack pixels
  const int lanes = row < kThreads ? kThreads / row : 1;
  const int plane = p.height * p.width;
  const int64_t image = blockIdx.y;
  const Element* f = static_cast<const Element*>(p.f) + image * p.f_layout.image;

  for (int number = blockIdx.x; number < tiles.count; number += gridDim.x) {
    const int64_t first_pixel = static_cast<int64_t>(number) * tiles.pixels;
    const int pixels = plane - first_pixel < tiles.pixels ? static_cast<int>(plane - first_pixel) : tiles.pixels;
    for (int i = threadIdx.x; i < pixels * vectors; i += kThreads) {
      const int pixel = i / vectors, channel = i % vectors * kVector;
      tile.words[i] = load<Word>(f + (first_pixel + pixel) * p.f_layout.pixel + channel * p.f_layout.channel);
    }
    // The first tile is on its way meanwhile.
    if (number == static_cast<int>(blockIdx.x)) choose(p, partial + image * partials * p.channels, partials, choice);
    __syncthreads();
    for (int store = threadIdx.x % row, lane = threadIdx.x / row; lane < lanes && store < row; store += kThreads) {
      const bool kept = store < con_channels;
      const Layout& layout = kept ? p.con_layout : p.dis_layout;
      const int channels = kept ? con_channels : dis_channels;
      const int real_channels = kept ? p.kept : p.channels - p.kept;
      Element* to = static_cast<Element*>(kept ? p.con : p.dis) + image * layout.image + first_pixel * layout.pixel;
      int pixel_of[kPack], source[kPack];
      int64_t target[kPack];
      for (int i = 0; i < kPack; ++i) {
        const int element = (kept ? store : store - con_channels) * kPack + i;
        const int channel = element % channels;
        pixel_of[i] = element / channels;
        const bool real = channel < real_channels;
        source[i] = real ? pixel_of[i] * padded + choice.order[(kept ? 0 : p.kept) + channel] : -1;
        target[i] = pixel_of[i] * layout.pixel + channel * layout.channel;
      }
      for (int pixel = lane * kPack; pixel < pixels; pixel += lanes * kPack) {
        Element values[kPack];
        for (int i = 0; i < kPack; ++i) values[i] = source[i] < 0 ? 0 : tile.elements[pixel * padded + source[i]];
        Element* at = to + pixel * layout.pixel;
        if (whole && pixel + pixel_of[kPack - 1] < pixels) {
          uint32_t word;
          std::memcpy(&word, values, sizeof(word));
          *reinterpret_cast<uint32_t*>(at + target[0]) = word;
        } else {
          for (int i = 0; i < kPack; ++i) {
            if (pixel + pixel_of[i] < pixels) at[target[i]] = values[i];
          }
        }
      }
    }
    __syncthreads();  // the tile has been used
  }
}

// Whether whole words of 4 bytes can be written: pixels follow one another without a gap, aligned.
template <typename Element>
bool takes_words(const void* pointer, const Layout& layout, int channels) {
  return layout.channel == 1 && layout.pixel == channels && layout.image * sizeof(Element) % sizeof(uint32_t) == 0 &&
         reinterpret_cast<uintptr_t>(pointer) % sizeof(uint32_t) == 0;
}

template <typename T, typename Element, typename Word>
cudaError_t launch_pixels(const TopKSplitParams& p, float* partial, cudaStream_t stream) {
  const int padded = padded_channels(p);
  const Bands bands = bands_of(p, padded / static_cast<int>(sizeof(Word) / sizeof(T)));
  const dim3 score_grid(bands.blocks, p.batch);
  const auto score = score_pixels_kernel<T, Word>;
  const cudaError_t error = launch(score, score_grid, dim3(kThreads), stream, p, bands, partial);
  if (error != cudaSuccess) return error;
  // An even number, so that every tile starts at a whole word.
  const int pixels = kTileBytes / (padded * static_cast<int>(sizeof(T))) / 2 * 2;
  const Tiles tiles{pixels, ceil_div(p.height * p.width, pixels)};
  const int most = p.batch < kGatherBlocks ? kGatherBlocks / p.batch : 1;
  const dim3 gather_grid(ceil_div(tiles.count, ceil_div(tiles.count, most)), p.batch);
  const bool whole = takes_words<T>(p.con, p.con_layout, round_up(p.kept, p.channel_multiple)) &&
                     takes_words<T>(p.dis, p.dis_layout, round_up(p.channels - p.kept, p.channel_multiple));
  const auto gather = gather_pixels_kernel<Element, Word>;
  return launch(gather, gather_grid, dim3(kThreads), stream, p, partial, bands.blocks, tiles, whole);
}

// Whether f can be read as words: channels lie beside one another, whole words of them, aligned.
template <typename T, typename Word>
bool reads_as(const TopKSplitParams& p) {
  constexpr int kVector = sizeof(Word) / sizeof(T);
  return p.f_layout.channel == 1 && p.f_layout.pixel % kVector == 0 && p.f_layout.image % kVector == 0 &&
         padded_channels(p) % kVector == 0 && reinterpret_cast<uintptr_t>(p.f) % sizeof(Word) == 0;
}

template <typename T, typename Element>
cudaError_t launch_channels_last(const TopKSplitParams& p, float* partial, cudaStream_t stream) {
  if (reads_as<T, uint4>(p)) return launch_pixels<T, Element, uint4>(p, partial, stream);
  if (reads_as<T, uint2>(p)) return launch_pixels<T, Element, uint2>(p, partial, stream);
  return launch_pixels<T, Element, Element>(p, partial, stream);
}

}  // namespace
}  // namespace ksnet
