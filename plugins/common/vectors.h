// Several neighbouring elements of a tensor as one load or store.
#pragma once

#include <cstddef>
#include <cstdint>

#include "storage.h"

namespace ksnet {

// Elements that one access of 16 bytes moves.
template <typename T>
constexpr int kVector = static_cast<int>(16 / sizeof(T));

template <typename T, int count>
struct alignas(sizeof(T) * count) Vector {
  T values[count];
};

template <int count, typename T>
__host__ __device__ inline Vector<T, count>& vector_at(T* place) {
  return *reinterpret_cast<Vector<T, count>*>(place);
}
template <int count, typename T>
__host__ __device__ inline const Vector<T, count>& vector_at(const T* place) {
  return *reinterpret_cast<const Vector<T, count>*>(place);
}

inline bool is_vector_aligned(const void* address, size_t bytes = 16) {
  return reinterpret_cast<uintptr_t>(address) % bytes == 0;
}

}  // namespace ksnet
