#include "storage.h"

// For callers of the C interface, which have no CUDA runtime of their own.
KSNET_API const char* ksnet_error_string(cudaError_t error) { return cudaGetErrorString(error); }
