// A product of the tensor cores, of 16 rows by 16 by 8 columns of FP16, summed in float: what mma.sync of SM 8.0 and
// later does. Finer than nvcuda::wmma, which wants tiles at multiples of 32 bytes and no swizzle.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#ifdef __CUDACC__

namespace ksnet {

__device__ inline uint32_t lane_of_warp() { return threadIdx.x % 32; }

// 16 rows of 16 elements in shared memory.
struct RowTile {
  uint32_t parts[4];

  // place(row, half): where elements 8 * half to 8 * half + 7 of a row lie, at a multiple of 16 bytes.
  template <typename Place>
  __device__ void load(Place place) {
#if __CUDA_ARCH__ >= 800
    const uint32_t lane = lane_of_warp();
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(place(lane % 16, lane / 16)));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
                 : "r"(address)
                 : "memory");
#else
    (void)place;
    __trap();  // never a wrong sum; launchers ask for what was compiled
#endif
  }
};

// 16 rows of 8 columns, read from 8 rows of 16: a column's elements lie beside one another.
struct ColumnTile {
  uint32_t parts[2];

  __device__ void load(const __half* first, int pitch) {
    const uint32_t lane = lane_of_warp();
    const __half* column = first + lane / 4 * pitch + lane % 4 * 2;
    parts[0] = *reinterpret_cast<const uint32_t*>(column);
    parts[1] = *reinterpret_cast<const uint32_t*>(column + 8);
  }
};

// 16 rows of 8 columns of sums.
struct SumTile {
  float parts[4] = {};

  __device__ void add_product(const RowTile& rows, const ColumnTile& columns) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(parts[0]), "+f"(parts[1]), "+f"(parts[2]), "+f"(parts[3])
        : "r"(rows.parts[0]), "r"(rows.parts[1]), "r"(rows.parts[2]), "r"(rows.parts[3]), "r"(columns.parts[0]),
          "r"(columns.parts[1]));
#else
    (void)rows, (void)columns;
    __trap();
#endif
  }

  // take(row, column, sum) for each.
  template <typename Take>
  __device__ void each(Take take) const {
    const uint32_t lane = lane_of_warp(), row = lane / 4, column = lane % 4 * 2;
    take(row, column, parts[0]);
    take(row, column + 1, parts[1]);
    take(row + 8, column, parts[2]);
    take(row + 8, column + 1, parts[3]);
  }
};

}  // namespace ksnet

#else
#include <matrix_tile_on_cpu.h>
#endif
