// A block makes an area of 8 x 32 pixels. It reads that area of x with a border of one pixel, applies bias and
// activation and keeps it in shared memory; then each warp makes a row of it on the tensor cores: for each of the nine
// taps, 16 neighbouring pixels by 16 channels, times these channels of the weight by the output channels. The weight
// stays in registers.
#include "../common/launch.h"
#include "../common/matrix_tile.h"
#include "../common/vectors.h"
#include "../epilogue/epilogue.h"
#include "narrow_conv.h"

namespace ksnet {
namespace {

constexpr int kWarps = 8;  // and rows of an area
constexpr int kThreads = 32 * kWarps;
constexpr int kWidth = 32;  // of an area
constexpr int kReadWidth = kWidth + 2, kReadPixels = (kWarps + 2) * kReadWidth;
constexpr int kTileRows = 16, kTileDepth = 16;  // of a product
constexpr int kTaps = 9;
using Vector8 = Vector<__half, 8>;

// Where vector `part` of a pixel's channels lies in shared memory: the vectors of a pixel are swapped about so that the
// same one of eight neighbouring pixels is in eight different groups of banks.
template <int channels>
__device__ int place_of(int pixel, int part) {
  constexpr int parts = channels / 8, pixels_of_line = 8 / parts;  // 128 bytes are all banks
  return pixel * channels + (part ^ (pixel / pixels_of_line % parts)) * 8;
}

template <int channels>
__device__ void read_area(const NarrowConvParams& p, int image, int top, int left, __half* area) {
  constexpr int parts = channels / 8;
  static_assert(kThreads % parts == 0, "a thread reads the same channels of every pixel");
  const int part = threadIdx.x % parts;
  const Vector8 biases = vector_at<8>(static_cast<const __half*>(p.bias) + part * 8);
  const __half* x = static_cast<const __half*>(p.x) + part * 8;
  KSNET_UNROLL(4)
  for (int pixel = threadIdx.x / parts; pixel < kReadPixels; pixel += kThreads / parts) {
    const int row = top - 1 + pixel / kReadWidth, column = left - 1 + pixel % kReadWidth;
    Vector8 values{};
    if (row >= 0 && row < p.height && column >= 0 && column < p.width) {
      values = vector_at<8>(x + (static_cast<size_t>(image * p.height + row) * p.width + column) * channels);
      for (int i = 0; i < 8; ++i) {
        values.values[i] =
            from_float<__half>(epilogue(to_float(values.values[i]), to_float(biases.values[i]), p.slope, 0.0f));
      }
    }
    vector_at<8>(area + place_of<channels>(pixel, part)) = values;
  }
}

template <int channels>
__global__ void __launch_bounds__(kThreads, 2) narrow_conv_kernel(NarrowConvParams p) {
  constexpr int depth = channels / kTileDepth;
  __shared__ uint4 memory[kReadPixels * channels / 8];
  __half* area = reinterpret_cast<__half*>(memory);
  const int image = blockIdx.z, top = blockIdx.y * kWarps, left = blockIdx.x * kWidth, warp = threadIdx.x / 32;

  ColumnTile weights[kTaps * depth];
  KSNET_UNROLL(64)
  for (int i = 0; i < kTaps * depth; ++i) {
    weights[i].load(static_cast<const __half*>(p.weight) + i * kTileDepth, kTaps * channels);
  }
  read_area<channels>(p, image, top, left, area);
  __syncthreads();

  const int row = top + warp;
  if (row >= p.height) return;
  KSNET_UNROLL(64)
  for (int first = 0; first < kWidth; first += kTileRows) {
    SumTile sums;
    KSNET_UNROLL(64)
    for (int i = 0; i < kTaps * depth; ++i) {
      const int tap = i / depth, corner = (warp + tap / 3) * kReadWidth + first + tap % 3, part = i % depth * 2;
      RowTile pixels;
      pixels.load([&](int pixel, int half) { return area + place_of<channels>(corner + pixel, part + half); });
      sums.add_product(pixels, weights[i]);
    }
    sums.each([&](int pixel, int output, float sum) {
      const int column = left + first + pixel;
      if (column >= p.width || output >= p.outputs) return;
      const size_t place = (static_cast<size_t>(image * p.height + row) * p.width + column) * p.outputs + output;
      static_cast<__half*>(p.y)[place] =
          from_float<__half>(sum + to_float(static_cast<const __half*>(p.out_bias)[output]));
    });
  }
}

bool fits(const NarrowConvParams& p) {
  if (p.batch < 1 || p.height < 1 || p.width < 1 || p.outputs < 1 || p.outputs > kNarrowOutputs) return false;
  if (p.batch > kMaxGridYZ || ceil_div(p.height, kWarps) > kMaxGridYZ) return false;
  const int64_t pixels = static_cast<int64_t>(p.height) * p.width;
  const bool aligned = is_vector_aligned(p.x) && is_vector_aligned(p.bias) && is_vector_aligned(p.weight, 4);
  return aligned && pixels <= INT32_MAX && pixels * p.batch <= INT32_MAX / p.channels;
}

// Whether the code that this GPU was given has the instructions of matrix_tile.h: a library without code for the GPU
// itself gives it what older GPUs can run too.
bool has_instructions() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, narrow_conv_kernel<64>) == cudaSuccess && attributes.ptxVersion >= 80;
}

template <int channels>
cudaError_t launch_of(const NarrowConvParams& p, cudaStream_t stream) {
  const dim3 grid(ceil_div(p.width, kWidth), ceil_div(p.height, kWarps), p.batch);
  return launch(narrow_conv_kernel<channels>, grid, dim3(kThreads), stream, p);
}

}  // namespace
}  // namespace ksnet

KSNET_API int ksnet_narrow_conv_runs() { return ksnet::has_instructions() ? 1 : 0; }

KSNET_API cudaError_t ksnet_narrow_conv(const ksnet::NarrowConvParams* params, cudaStream_t stream) {
  using namespace ksnet;
  if ((params->channels != 32 && params->channels != 64) || !fits(*params)) return cudaErrorInvalidValue;
  if (!has_instructions()) return cudaErrorInvalidValue;
  return params->channels == 64 ? launch_of<64>(*params, stream) : launch_of<32>(*params, stream);
}
