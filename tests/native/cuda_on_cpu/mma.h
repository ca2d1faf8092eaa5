// Tensor-core tiles of 16 x 16 x 16 on a CPU. Lane 0 of a warp holds the whole tile and does the work; on a GPU all
// lanes must take part, so the other lanes' calls are empty here. Pitches and alignments are checked as a GPU requires
// them.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda_fp16.h"
#include "cuda_runtime.h"

namespace cuda_on_cpu {
bool is_first_lane();
void require(bool condition, const char* sentence);
}  // namespace cuda_on_cpu

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <typename Use, int M, int N, int K, typename T, typename Layout = void>
struct fragment {
  static_assert(M == 16 && N == 16 && K == 16, "only 16 x 16 x 16");
  float values[16][16];
};

template <typename T>
void check_tile(const T* pointer, unsigned pitch) {
  cuda_on_cpu::require(reinterpret_cast<uintptr_t>(pointer) % 32 == 0, "a tile must be aligned to 32 bytes");
  cuda_on_cpu::require(pitch * sizeof(T) % 16 == 0, "a tile's pitch must be a multiple of 16 bytes");
}

template <typename Use>
void fill_fragment(fragment<Use, 16, 16, 16, float>& tile, float value) {
  for (auto& row : tile.values) {
    for (float& element : row) element = value;
  }
}

template <typename Use, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, __half, Layout>& tile, const __half* from, unsigned pitch) {
  if (!cuda_on_cpu::is_first_lane()) return;
  check_tile(from, pitch);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      const __half value = from[i * pitch + j];
      if constexpr (std::is_same_v<Layout, row_major>) {
        tile.values[i][j] = __half2float(value);
      } else {
        tile.values[j][i] = __half2float(value);
      }
    }
  }
}

template <typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& d, const fragment<matrix_a, 16, 16, 16, __half, LayoutA>& a,
              const fragment<matrix_b, 16, 16, 16, __half, LayoutB>& b,
              const fragment<accumulator, 16, 16, 16, float>& c) {
  if (!cuda_on_cpu::is_first_lane()) return;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      float sum = c.values[i][j];
      for (int k = 0; k < 16; ++k) sum += a.values[i][k] * b.values[k][j];
      d.values[i][j] = sum;
    }
  }
}

inline void store_matrix_sync(float* to, const fragment<accumulator, 16, 16, 16, float>& tile, unsigned pitch,
                              layout_t layout) {
  if (!cuda_on_cpu::is_first_lane()) return;
  check_tile(to, pitch);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      (layout == mem_row_major ? to[i * pitch + j] : to[j * pitch + i]) = tile.values[i][j];
    }
  }
}

}  // namespace nvcuda::wmma
