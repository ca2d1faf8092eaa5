// The tiles of plugins/common/matrix_tile.h on a CPU. Lane 0 of a warp holds the whole tile and does the work; on a GPU
// all lanes must take part, so the other lanes' calls are empty here.
#pragma once

#include <mma.h>

namespace ksnet {

struct RowTile {
  float values[16][16];

  template <typename Place>
  void load(Place place) {
    if (!cuda_on_cpu::is_first_lane()) return;
    for (int row = 0; row < 16; ++row) {
      for (int part = 0; part < 2; ++part) {
        const __half* from = place(row, part);
        cuda_on_cpu::require(reinterpret_cast<uintptr_t>(from) % 16 == 0, "a row must be aligned to 16 bytes");
        for (int i = 0; i < 8; ++i) values[row][8 * part + i] = __half2float(from[i]);
      }
    }
  }
};

struct ColumnTile {
  float values[16][8];

  void load(const __half* first, int pitch) {
    if (!cuda_on_cpu::is_first_lane()) return;
    cuda_on_cpu::require(reinterpret_cast<uintptr_t>(first) % 4 == 0 && pitch % 2 == 0, "columns must be aligned");
    for (int column = 0; column < 8; ++column) {
      for (int row = 0; row < 16; ++row) values[row][column] = __half2float(first[column * pitch + row]);
    }
  }
};

struct SumTile {
  float values[16][8] = {};

  void add_product(const RowTile& rows, const ColumnTile& columns) {
    if (!cuda_on_cpu::is_first_lane()) return;
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        for (int k = 0; k < 16; ++k) values[row][column] += rows.values[row][k] * columns.values[k][column];
      }
    }
  }

  template <typename Take>
  void each(Take take) const {
    if (!cuda_on_cpu::is_first_lane()) return;
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) take(row, column, values[row][column]);
    }
  }
};

}  // namespace ksnet
