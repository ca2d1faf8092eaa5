// The kernel's code, included once for each path with KSNET_PATH, its name, KSNET_WIDTH, floats in a vector, and
// KSNET_PIXELS, pixels whose sums stay in registers. It calls nothing but itself: what the linker shares between files
// must not hold instructions of one path.

#include <cstring>

#include "path.h"
#include "path_vectors.h"

namespace ksnet {
namespace {

constexpr int32_t kPixels = KSNET_PIXELS;
constexpr int32_t kBlock = 2 * kWidth;
constexpr int32_t kTaps = 9;
constexpr float kBoundPx = 10.0f;
constexpr int32_t kStrip = 64;  // pixels that are written to a plane at once

// Scratch memory of an area: predictions of two rows, those of one row for every pixel, and for some pixels the
// samples, where they lie, and their sums.
struct Scratch {
  int32_t columns;  // room for a row of predictions, with one more on both sides where they are enlarged
  int32_t points;   // groups times taps
  float* predicted[2];
  float* full;
  float* mixed;
  float* shares;    // (points, 4, pixels), of the four neighbours of a sample
  int32_t* places;  // (points, pixels), floats into the padded image
  float* samples;   // (pixels, channels * taps)
  float* sums;      // (columns, out_channels)

  Scratch(const AlignParams& p, int32_t area_columns, float* memory) {
    columns = up(area_columns, kWidth) + 2 * kWidth;
    points = p.groups * kTaps;
    float* next = memory;
    const auto take = [&next](size_t floats) {
      float* taken = next;
      next += (floats + 15) / 16 * 16;
      return taken;
    };
    const size_t rows = static_cast<size_t>(points) * 3 * columns;
    predicted[0] = take(rows);
    predicted[1] = take(p.stride == 2 ? rows : 0);
    full = p.stride == 2 ? take(rows) : predicted[0];
    mixed = take(columns);
    shares = take(static_cast<size_t>(points) * room() * 4);
    places = reinterpret_cast<int32_t*>(take(static_cast<size_t>(points) * room()));
    samples = take(static_cast<size_t>(kPixels) * p.channels * kTaps);
    sums = take(static_cast<size_t>(columns + kPixels) * up(p.out_channels, kBlock));
    floats = next - memory;
  }
  static constexpr int32_t room() { return (kPixels + kWidth - 1) / kWidth * kWidth; }
  size_t floats;
};

size_t scratch(const AlignParams& p, int32_t columns) { return Scratch(p, columns, nullptr).floats; }

template <typename T>
void pack_as(const AlignParams& p, float* packed) {
  const T* weight = static_cast<const T*>(p.weight);
  const T* bias = static_cast<const T*>(p.bias);
  const int32_t per_group = p.channels / p.groups;
  float* to = packed;
  for (int32_t first = 0; first < p.out_channels; first += kBlock)
    for (int32_t group = 0; group < p.groups; ++group)
      for (int32_t tap = 0; tap < kTaps; ++tap)
        for (int32_t c = group * per_group; c < (group + 1) * per_group; ++c)
          for (int32_t o = first; o < first + kBlock; ++o)
            *to++ =
                o < p.out_channels ? widened(weight[(static_cast<size_t>(o) * p.channels + c) * kTaps + tap]) : 0.0f;
  for (int32_t o = 0; o < up(p.out_channels, kBlock); ++o) *to++ = o < p.out_channels ? widened(bias[o]) : 0.0f;
}

void pack(const AlignParams& p, float* packed) {
  p.type == AlignType::kFloat32 ? pack_as<float>(p, packed) : pack_as<uint16_t>(p, packed);
}

template <typename T>
void transpose_as(const AlignParams& p, float* padded, int32_t row) {
  const int32_t image = row / p.height;
  const int32_t y = row % p.height;
  const size_t plane = static_cast<size_t>(p.height) * p.width;
  const T* from = static_cast<const T*>(p.x) + image * p.channels * plane + static_cast<size_t>(y) * p.width;
  const size_t rows_above = static_cast<size_t>(image) * (p.height + kFrame) + y + kBefore;
  float* to = padded + (rows_above * (p.width + kFrame) + kBefore) * p.channels;
  const int32_t fours = p.channels / 4 * 4;
  const int32_t whole = p.width / 4 * 4;
  for (int32_t x = 0; x < whole; x += 4) {
    float* pixel = to + static_cast<size_t>(x) * p.channels;
    for (int32_t c = 0; c < fours; c += 4) turn(from + c * plane + x, plane, pixel + c, p.channels);
    for (int32_t c = fours; c < p.channels; ++c)
      for (int32_t i = 0; i < 4; ++i) pixel[i * p.channels + c] = widened(from[c * plane + x + i]);
  }
  for (int32_t x = whole; x < p.width; ++x)
    for (int32_t c = 0; c < p.channels; ++c) to[static_cast<size_t>(x) * p.channels + c] = widened(from[c * plane + x]);
}

void transpose(const AlignParams& p, float* padded, int32_t row) {
  p.type == AlignType::kFloat32 ? transpose_as<float>(p, padded, row) : transpose_as<uint16_t>(p, padded, row);
}

// A row of predictions in the columns [left, right): offsets in pixels, and masks.
template <typename T>
void predict(const AlignParams& p, const Scratch& s, int32_t image, int32_t row, int32_t left, int32_t right,
             float* to) {
  const int32_t raw_height = (p.height - 1) / p.stride + 1;
  const int32_t raw_width = (p.width - 1) / p.stride + 1;
  const int32_t count = right - left;
  for (int32_t channel = 0; channel < 3 * s.points; ++channel, to += s.columns) {
    const size_t line = (static_cast<size_t>(image) * 3 * s.points + channel) * raw_height + row;
    const T* from = static_cast<const T*>(p.raw) + line * raw_width + left;
    for (int32_t x = 0; x < count; ++x) to[x] = widened(from[x]);
    for (int32_t x = count; x < up(count, kWidth); ++x) to[x] = 0.0f;
    if (channel < 2 * s.points) {
      for (int32_t x = 0; x < count; x += kWidth) store(to + x, tanh_of(load(to + x)) * kBoundPx);
    } else {
      for (int32_t x = 0; x < count; x += kWidth) store(to + x, sigmoid_of(load(to + x)));
    }
  }
}

// Predictions of half the resolution for the pixels [left, right) of a row, from those of two rows that begin with the
// column `first`.
void enlarge(const Scratch& s, const float* above, const float* below, float share, int32_t left, int32_t right,
             int32_t first, int32_t last) {
  const int32_t count = last - first;
  float* mixed = s.mixed + 1;
  float* full = s.full;
  const bool odd_left = left % 2 != 0;
  for (int32_t channel = 0; channel < 3 * s.points; ++channel) {
    for (int32_t x = 0; x < count; ++x) mixed[x] = above[x] * (1.0f - share) + below[x] * share;
    mixed[-1] = mixed[0];
    mixed[count] = mixed[count - 1];
    const float* at = mixed + (left / 2 - first);
    float* to = full;
    int32_t pixels = right - left;
    if (odd_left) {
      *to++ = at[0] * 0.75f + at[1] * 0.25f;
      ++at;
      --pixels;
    }
    for (int32_t x = 0; x < pixels / 2; ++x) {
      to[2 * x] = at[x - 1] * 0.25f + at[x] * 0.75f;
      to[2 * x + 1] = at[x] * 0.75f + at[x + 1] * 0.25f;
    }
    if (pixels % 2) to[pixels - 1] = at[pixels / 2 - 1] * 0.25f + at[pixels / 2] * 0.75f;
    above += s.columns;
    below += s.columns;
    full += s.columns;
  }
}

// Where the samples of the pixels from `left` on lie in the padded image, and the shares of their neighbours.
void locate(const AlignParams& p, const Scratch& s, int32_t image, int32_t y, int32_t left, int32_t offset,
            int32_t pixels) {
  const size_t plane = static_cast<size_t>(p.height) * p.width;
  const int32_t stride = (p.width + kFrame) * p.channels;
  Floats column;
  for (int32_t i = 0; i < kWidth; ++i) column[i] = static_cast<float>(i);
  for (int32_t point = 0; point < s.points; ++point) {
    const int32_t tap = point % kTaps;
    const float* dy = s.full + static_cast<size_t>(2 * point) * s.columns + offset;
    const float* dx = dy + s.columns;
    const float* mask = s.full + static_cast<size_t>(2 * s.points + point) * s.columns + offset;
    const float* flow = nullptr;
    if (p.flow != nullptr) {
      const int32_t of_flow = point / kTaps * p.flows / p.groups;
      flow = p.flow + (static_cast<size_t>(image) * p.flows + of_flow) * 2 * plane + static_cast<size_t>(y) * p.width +
             left;
    }
    for (int32_t first = 0; first < pixels; first += kWidth) {
      Floats at_y = load(dy + first);
      Floats at_x = load(dx + first);
      if (flow != nullptr) {
        Floats flow_y = {};
        Floats flow_x = {};
        const int32_t known = least(kWidth, p.width - left - first);
        if (known == kWidth) {
          flow_y = load(flow + first);
          flow_x = load(flow + plane + first);
        } else {
          for (int32_t i = 0; i < known; ++i) {
            flow_y[i] = flow[first + i];
            flow_x[i] = flow[plane + first + i];
          }
        }
        at_y += flow_y;
        at_x += flow_x;
      }
      at_y += static_cast<float>(y + tap / 3 - 1);
      at_x += column + static_cast<float>(left + first + tap % 3 - 1);
      at_y = smaller(larger(at_y, all(-1.0f)), all(static_cast<float>(p.height)));
      at_x = smaller(larger(at_x, all(-1.0f)), all(static_cast<float>(p.width)));
      Ints row = __builtin_convertvector(at_y, Ints);
      Ints col = __builtin_convertvector(at_x, Ints);
      row += __builtin_convertvector(row, Floats) > at_y;  // a comparison is -1 where it holds
      col += __builtin_convertvector(col, Floats) > at_x;
      const Floats far_y = at_y - __builtin_convertvector(row, Floats);
      const Floats far_x = at_x - __builtin_convertvector(col, Floats);
      const Floats weight = load(mask + first);
      const Floats lower = far_y * weight;
      const Floats upper = weight - lower;
      const Floats share11 = lower * far_x;
      const Floats share01 = upper * far_x;
      const Floats share10 = lower - share11;
      const Floats share00 = upper - share01;
      const Ints place = (row + kBefore) * stride + (col + kBefore) * p.channels;
      std::memcpy(s.places + point * Scratch::room() + first, &place, sizeof place);
      float* shares = s.shares + static_cast<size_t>(point) * Scratch::room() * 4 + first;
      store(shares, share00);
      store(shares + Scratch::room(), share01);
      store(shares + 2 * Scratch::room(), share10);
      store(shares + 3 * Scratch::room(), share11);
    }
  }
}

// Groups of `kGroup` channels, or of any number where that is 0, in vectors of N.
template <int32_t N, int32_t kGroup = 0>
void sample(const AlignParams& p, const Scratch& s, const float* padded) {
  typedef typename Samples<N>::type Vector;
  const int32_t per_group = kGroup != 0 ? kGroup : p.channels / p.groups;
  const size_t next_row = static_cast<size_t>(p.width + kFrame) * p.channels;
  const int32_t row_of_samples = p.channels * kTaps;
  for (int32_t point = 0; point < s.points; ++point) {
    const float* source = padded + point / kTaps * per_group;
    const int32_t* places = s.places + point * Scratch::room();
    const float* shares = s.shares + static_cast<size_t>(point) * Scratch::room() * 4;
    float* to = s.samples + point * per_group;
    for (int32_t pixel = 0; pixel < kPixels; ++pixel, ++shares, to += row_of_samples) {
      const float* near = source + places[pixel];
      for (int32_t c = 0; c < per_group; c += N) {
        const auto at = [&](size_t place) { return *reinterpret_cast<const Vector*>(near + place + c); };
        Vector sum = at(0) * shares[0];
        sum += at(p.channels) * shares[Scratch::room()];
        sum += at(next_row) * shares[2 * Scratch::room()];
        sum += at(next_row + p.channels) * shares[3 * Scratch::room()];
        *reinterpret_cast<Vector*>(to + c) = sum;
      }
    }
  }
}

// Samples times weights: (kPixels, channels * taps) by (channels * taps, out_channels), and the bias.
void multiply(const AlignParams& p, const float* samples, const float* packed, float* sums) {
  const int32_t terms = p.channels * kTaps;
  const int32_t filled = up(p.out_channels, kBlock);
  const float* bias = packed + static_cast<size_t>(terms) * filled;
  for (int32_t first = 0; first < filled; first += kBlock, packed += static_cast<size_t>(terms) * kBlock) {
    Floats left[kPixels];
    Floats right[kPixels];
#pragma GCC unroll 16
    for (int32_t i = 0; i < kPixels; ++i) {
      left[i] = load(bias + first);
      right[i] = load(bias + first + kWidth);
    }
    for (int32_t k = 0; k < terms; ++k) {
      const Floats a = load(packed + static_cast<size_t>(k) * kBlock);
      const Floats b = load(packed + static_cast<size_t>(k) * kBlock + kWidth);
#pragma GCC unroll 16
      for (int32_t i = 0; i < kPixels; ++i) {
        const float value = samples[i * terms + k];
        left[i] += a * value;
        right[i] += b * value;
      }
    }
#pragma GCC unroll 16
    for (int32_t i = 0; i < kPixels; ++i) {
      store(sums + i * filled + first, left[i]);
      store(sums + i * filled + first + kWidth, right[i]);
    }
  }
}

template <typename T>
void compute_as(const AlignParams& p, const float* padded, const float* packed, int32_t image, int32_t top,
                int32_t bottom, int32_t left, int32_t right, float* memory) {
  const Scratch s(p, right - left, memory);
  const int32_t per_group = p.channels / p.groups;
  const int32_t filled = up(p.out_channels, kBlock);
  const int32_t raw_height = (p.height - 1) / p.stride + 1;
  const int32_t raw_width = (p.width - 1) / p.stride + 1;
  const size_t plane = static_cast<size_t>(p.height) * p.width;
  const float* frame = padded + static_cast<size_t>(image) * (p.height + kFrame) * (p.width + kFrame) * p.channels;
  // Of the predictions at half resolution the two rows that were used last are kept, as rows 2 k + 1 and 2 k + 2 of
  // the image lie between the same two.
  const int32_t first = p.stride == 2 ? (left / 2 > 0 ? left / 2 - 1 : 0) : left;
  const int32_t last = p.stride == 2 ? least((right - 1) / 2 + 2, raw_width) : right;
  int32_t kept[2] = {-1, -1};
  for (int32_t y = top; y < bottom; ++y) {
    if (p.stride == 1) {
      predict<T>(p, s, image, y, first, last, s.full);
    } else {
      const int32_t above = y % 2 ? y / 2 : (y > 0 ? y / 2 - 1 : 0);
      const int32_t below = least(above + 1, raw_height - 1);
      const float share = y == 0 ? 0.0f : (y % 2 ? 0.25f : 0.75f);
      for (int32_t row = above; row <= below; ++row) {
        if (kept[row % 2] != row) predict<T>(p, s, image, row, first, last, s.predicted[row % 2]);
        kept[row % 2] = row;
      }
      enlarge(s, s.predicted[above % 2], s.predicted[below % 2], share, left, right, first, last);
    }
    for (int32_t at = 0; at < right - left; at += kPixels) {
      locate(p, s, image, y, left + at, at, kPixels);
      if (per_group == 8)
        sample<8, 8>(p, s, frame);
      else if (per_group % 8 == 0)
        sample<8>(p, s, frame);
      else if (per_group % 4 == 0)
        sample<4>(p, s, frame);
      else
        sample<1>(p, s, frame);
      multiply(p, s.samples, packed, s.sums + static_cast<size_t>(at) * filled);
    }
    // kBlock divides into fours, and there is room for pixels behind the last.
    T* to = static_cast<T*>(p.y) + image * p.out_channels * plane + static_cast<size_t>(y) * p.width;
    for (int32_t x = left; x < right; x += kStrip) {
      const int32_t count = least(kStrip, right - x);
      for (int32_t o = 0; o < p.out_channels; o += 4) {
        float turned[4][kStrip];
        for (int32_t i = 0; i < count; i += 4)
          turn(s.sums + static_cast<size_t>(x - left + i) * filled + o, filled, turned[0] + i, kStrip);
        for (int32_t i = 0; i < least(4, p.out_channels - o); ++i)
          for (int32_t pixel = 0; pixel < count; ++pixel) narrow(turned[i][pixel], to + (o + i) * plane + x + pixel);
      }
    }
  }
}

void compute(const AlignParams& p, const float* padded, const float* packed, int32_t image, int32_t top, int32_t bottom,
             int32_t left, int32_t right, float* memory) {
  const auto as_type = p.type == AlignType::kFloat32 ? compute_as<float> : compute_as<uint16_t>;
  as_type(p, padded, packed, image, top, bottom, left, right, memory);
}

}  // namespace

const AlignPath KSNET_PATH = {kBlock, pack, transpose, compute, scratch};

}  // namespace ksnet
