// The kernel for C, on one thread: for tests, and to ask which path is taken.

#include "align.h"

#define KSNET_EXPORT extern "C" __attribute__((visibility("default")))

KSNET_EXPORT const char* ksnet_align_path() { return ksnet::align_path(); }

// Null, or a sentence that says what is wrong.
KSNET_EXPORT const char* ksnet_align(const ksnet::AlignParams* params) {
  ksnet::AlignWorkspaces* workspaces = ksnet::create_align_workspaces();
  if (workspaces == nullptr) return "KsAlign: out of memory";
  const char* wrong = ksnet::align(*params, *workspaces, [](size_t count, const std::function<void(size_t)>& part) {
    for (size_t i = 0; i < count; ++i) part(i);
  });
  ksnet::destroy_align_workspaces(workspaces);
  return wrong;
}
