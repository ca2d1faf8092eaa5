// What the TensorRT plugins of the deformable operators share.
#pragma once

#include "deformable.h"
#include "plugin.h"

namespace ksnet {

// A sentence where groups, weight and bias do not fit x, all of the right number of dimensions; else null.
inline const char* kernel_problem(int groups, const nvinfer1::Dims& x, const nvinfer1::Dims& weight,
                                  const nvinfer1::Dims& bias) {
  if (x.d[1] >= 0 && x.d[1] % groups != 0) return "offset_group must divide the channels of x";
  if (!may_equal(weight.d[1], x.d[1]) || weight.d[2] != 3 || weight.d[3] != 3) {
    return "weight must be (C_out, C, 3, 3), with C the channels of x";
  }
  if (!may_equal(bias.d[0], weight.d[0])) return "bias must have one value per output channel";
  return nullptr;
}

inline Deformable deformable(const nvinfer1::Dims& x, const nvinfer1::Dims& weight, int groups, StorageType type,
                             bool hwc8) {
  Deformable p{};
  p.batch = static_cast<int32_t>(x.d[0]);
  p.channels = static_cast<int32_t>(x.d[1]);
  p.out_channels = static_cast<int32_t>(weight.d[0]);
  p.written_channels = hwc8 ? round_up(p.out_channels, kHwc8) : p.out_channels;
  p.height = static_cast<int32_t>(x.d[2]);
  p.width = static_cast<int32_t>(x.d[3]);
  p.offset_groups = groups;
  p.type = type;
  p.x_layout = layout_of(p.channels, p.height, p.width, hwc8);
  p.y_layout = layout_of(p.out_channels, p.height, p.width, hwc8);
  return p;
}

}  // namespace ksnet
