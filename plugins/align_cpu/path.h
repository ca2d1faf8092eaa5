// What one path of the kernel gives: the same code (path_code.h), compiled for one kind of processor.
#pragma once

#include "align.h"

namespace ksnet {

struct AlignPath {
  // Channels that one column of the packed weights holds.
  int32_t block;
  // Weights in the order of the product, out_channels filled up with zeros to whole blocks, and then the bias.
  void (*pack)(const AlignParams&, float* packed);
  // A row of x, of all images together, into a frame of zeros with the channels last.
  void (*transpose)(const AlignParams&, float* padded, int32_t row);
  // The output in rows [top, bottom) and columns [left, right) of an image.
  void (*compute)(const AlignParams&, const float* padded, const float* packed, int32_t image, int32_t top,
                  int32_t bottom, int32_t left, int32_t right, float* scratch);
  // Floats of scratch memory that compute() needs for an area of that many columns.
  size_t (*scratch)(const AlignParams&, int32_t columns);
};

extern const AlignPath kPortable;
#ifdef KSNET_X86
extern const AlignPath kAvx2;
extern const AlignPath kAvx512;
#endif

// The frame of zeros: one row and column before the image, two after it. So a sample is never outside of it, once its
// coordinates are bound to one pixel around the image, where all that can be sampled is zero.
constexpr int32_t kBefore = 1;
constexpr int32_t kFrame = 3;

}  // namespace ksnet
