// Where the elements of a tensor (batch, channels, height, width) lie.
#pragma once

#include <cstdint>

#include "launch.h"

namespace ksnet {

// Elements from one image, channel or pixel to the next; rows follow one another. With channels first a pixel's
// neighbour is the next element, with channels last the next channel is. Shared with Python through ctypes.
struct Layout {
  int64_t image;
  int64_t channel;
  int64_t pixel;
};

// Channels of a pixel in TensorRT's format HWC8, and so the elements from one pixel to the next.
constexpr int kHwc8 = 8;

inline Layout layout_of(int channels, int height, int width, bool hwc8) {
  const int64_t plane = static_cast<int64_t>(height) * width;
  if (!hwc8) return Layout{channels * plane, plane, 1};
  const int64_t pixel = round_up(channels, kHwc8);
  return Layout{pixel * plane, 1, pixel};
}

inline bool is_valid(const Layout& layout) { return layout.image >= 0 && layout.channel > 0 && layout.pixel > 0; }

}  // namespace ksnet
