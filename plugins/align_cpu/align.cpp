#include "align.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "path.h"

namespace ksnet {
namespace {

constexpr int32_t kRows = 12;      // of an area; few enough that all threads have work until the end
constexpr int32_t kColumns = 512;  // at most; what a row needs then stays in the second cache

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// Memory that grows and is not given back before its end. Its content is lost when it grows.
class Buffer {
 public:
  float* of(size_t floats) {
    if (floats > size_) {
      memory_.reset();
      size_ = 0;
      memory_.reset(static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)));
      if (memory_ == nullptr) throw std::bad_alloc();
      size_ = floats;
    }
    return memory_.get();
  }
  size_t size() const { return size_; }

 private:
  std::unique_ptr<float, Free> memory_;
  size_t size_ = 0;
};

struct Workspace {
  Buffer padded, packed;
  // Frame of zeros that lies in `padded`: images, height, width, channels.
  int32_t framed[4] = {0, 0, 0, 0};
};

const AlignPath* chosen_path(const char** name) {
  const char* asked = std::getenv("KSNET_ALIGN_PATH");
  const auto fits = [&](const char* candidate, bool runs_here) {
    const bool wanted = asked == nullptr || *asked == 0 || std::strcmp(asked, candidate) == 0;
    if (wanted && runs_here) *name = candidate;
    return wanted && runs_here;
  };
#ifdef KSNET_X86
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (fits("avx512", avx512)) return &kAvx512;
  if (fits("avx2", avx2)) return &kAvx2;
#endif
  return fits("portable", true) ? &kPortable : nullptr;
}

const char* complaint(const AlignParams& p) {
  if (p.batch < 1 || p.channels < 1 || p.out_channels < 1 || p.height < 1 || p.width < 1)
    return "KsAlign: a side of a tensor is zero";
  if (p.groups < 1 || p.channels % p.groups != 0) return "KsAlign: the groups do not divide the channels";
  if (p.stride != 1 && p.stride != 2) return "KsAlign: the stride must be 1 or 2";
  if (p.flow != nullptr && (p.flows < 1 || p.groups % p.flows != 0))
    return "KsAlign: the flows do not divide the groups";
  if (static_cast<int64_t>(p.height + kFrame) * (p.width + kFrame) * p.channels > INT32_MAX)
    return "KsAlign: the frames are too large for this kernel; take smaller ones or tiles";
  return nullptr;
}

// The frame is written only where the buffer held another one: what is inside of it is written with every call.
float* framed(Workspace& workspace, const AlignParams& p) {
  const size_t row = static_cast<size_t>(p.width + kFrame) * p.channels;
  const size_t image = row * (p.height + kFrame);
  float* padded = workspace.padded.of(image * p.batch);
  const int32_t wanted[4] = {p.batch, p.height, p.width, p.channels};
  if (std::memcmp(workspace.framed, wanted, sizeof wanted) != 0) {
    std::memset(padded, 0, image * p.batch * sizeof(float));
    std::memcpy(workspace.framed, wanted, sizeof wanted);
  }
  return padded;
}

}  // namespace

class AlignWorkspaces {
 public:
  std::unique_ptr<Workspace> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return std::make_unique<Workspace>();
    std::unique_ptr<Workspace> taken = std::move(free_.back());
    free_.pop_back();
    return taken;
  }
  void give_back(std::unique_ptr<Workspace> workspace) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(workspace));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

AlignWorkspaces* create_align_workspaces() { return new (std::nothrow) AlignWorkspaces(); }
void destroy_align_workspaces(AlignWorkspaces* workspaces) { delete workspaces; }

const char* align_path() {
  const char* name = nullptr;
  chosen_path(&name);
  return name;
}

const char* align(const AlignParams& p, AlignWorkspaces& workspaces, const ParallelFor& parallel) noexcept {
  const char* name = nullptr;
  const AlignPath* path = chosen_path(&name);
  if (path == nullptr) return "KsAlign: KSNET_ALIGN_PATH names no path that this processor has";
  if (const char* wrong = complaint(p)) return wrong;
  try {
    std::unique_ptr<Workspace> workspace = workspaces.take();
    float* padded = framed(*workspace, p);
    const int32_t blocks = (p.out_channels + path->block - 1) / path->block;
    float* packed = workspace->packed.of(static_cast<size_t>(blocks) * path->block * (p.channels * 9 + 1));
    path->pack(p, packed);

    const size_t rows = static_cast<size_t>(p.batch) * p.height;
    parallel((rows + kRows - 1) / kRows, [&](size_t part) {
      for (size_t row = part * kRows; row < rows && row < (part + 1) * kRows; ++row)
        path->transpose(p, padded, static_cast<int32_t>(row));
    });

    const int32_t across = (p.width + kColumns - 1) / kColumns;
    const int32_t columns = (p.width + across - 1) / across;
    const int32_t down = (p.height + kRows - 1) / kRows;
    const size_t areas = static_cast<size_t>(across) * down;
    bool failed = false;
    std::mutex failing;
    parallel(areas * p.batch, [&](size_t part) {
      thread_local Buffer scratch;
      try {
        const int32_t area = static_cast<int32_t>(part % areas);
        const int32_t top = area / across * kRows;
        const int32_t left = area % across * columns;
        const int32_t bottom = top + kRows < p.height ? top + kRows : p.height;
        const int32_t right = left + columns < p.width ? left + columns : p.width;
        float* memory = scratch.of(path->scratch(p, columns));
        path->compute(p, padded, packed, static_cast<int32_t>(part / areas), top, bottom, left, right, memory);
      } catch (const std::bad_alloc&) {
        const std::lock_guard<std::mutex> lock(failing);
        failed = true;
      }
    });
    workspaces.give_back(std::move(workspace));
    return failed ? "KsAlign: out of memory" : nullptr;
  } catch (...) {
    return "KsAlign: out of memory";
  }
}

}  // namespace ksnet
