// Which channels go to con: a block adds up the scores' partial sums and ranks the channels by counting. No atomics and
// a fixed order of sums, so that the same input always gives the same channels.
#pragma once

#include "topk_split.h"

namespace ksnet {
namespace {

constexpr int kThreads = 512;  // of a block that adds up by channel

// What a block chooses with, in shared memory.
struct Choice {
  float scores[kMaxSplitChannels];
  int ranks[kMaxSplitChannels];
  int kept_below[kMaxSplitChannels];  // how many lower channels are kept
  uint16_t order[kMaxSplitChannels];  // the channels of con, then those of dis
};
static_assert(kThreads <= kMaxSplitChannels, "sum_by_channel keeps a value of every thread in an array of channels");

// Adds up value(channel, 0 .. count - 1) for every channel, by all threads of a block. `sums` is shared memory for
// kMaxSplitChannels values, of which the first `channels` are the result.
template <typename Sum, typename Value>
__device__ void sum_by_channel(int channels, int count, const Value& value, Sum* sums) {
  const int parts = channels < kThreads ? kThreads / channels : 1;
  const int thread = threadIdx.x;
  const int part = thread / channels;
  for (int channel = thread % channels; part < parts && channel < channels; channel += kThreads) {
    Sum sum = 0;
    for (int i = part; i < count; i += parts) sum += value(channel, i);
    sums[part * channels + channel] = sum;
  }
  __syncthreads();
  for (int channel = thread; channel < channels; channel += kThreads) {
    Sum sum = sums[channel];
    for (int other = 1; other < parts; ++other) sum += sums[other * channels + channel];
    sums[channel] = sum;
  }
  __syncthreads();
}

// Chooses for the image whose partial sums (count, channels) are given. Dividing the scores by the number of pixels
// would not change their order.
__device__ void choose(const TopKSplitParams& p, const float* partial, int count, Choice& choice) {
  const int channels = p.channels;
  const auto partial_sum = [&](int channel, int i) { return partial[static_cast<size_t>(i) * channels + channel]; };
  sum_by_channel(channels, count, partial_sum, choice.scores);
  const auto is_before = [&](int channel, int other) {
    return comes_before(choice.scores[other], other, choice.scores[channel], channel) ? 1 : 0;
  };
  sum_by_channel(channels, channels, is_before, choice.ranks);
  const auto is_kept_below = [&](int channel, int other) {
    return other < channel && choice.ranks[other] < p.kept ? 1 : 0;
  };
  sum_by_channel(channels, channels, is_kept_below, choice.kept_below);
  for (int channel = threadIdx.x; channel < channels; channel += kThreads) {
    const int below = choice.kept_below[channel];
    choice.order[choice.ranks[channel] < p.kept ? below : p.kept + channel - below] = static_cast<uint16_t>(channel);
  }
  __syncthreads();
}

}  // namespace
}  // namespace ksnet
