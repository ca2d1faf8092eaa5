// What callers of the C interface need beside the launchers.
#include "storage.h"

// Number of the launchers' parameters, which Python compares with its own: another one with every change of a struct.
KSNET_API int ksnet_interface() { return 3; }

// For callers that have no CUDA runtime of their own.
KSNET_API const char* ksnet_error_string(cudaError_t error) { return cudaGetErrorString(error); }
