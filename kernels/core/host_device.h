// Marks functions that are compiled for the host and for CUDA devices from one source.
#pragma once

#ifdef __CUDACC__
#define HEARTH_HOST_DEVICE __host__ __device__
#else
#define HEARTH_HOST_DEVICE
#endif
