# The communicators that know GPUs. NCCL is loaded at run time; its header is looked for beside the
# toolkit, in the system and in Python wheels.
hearth_library(comm_copy_engine comm/copy_engine comm_api kernels_cuda kernels_api kernels_core)
target_include_directories(comm_copy_engine SYSTEM PRIVATE
                           ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})

file(GLOB nccl_wheels ${cuda_root}/../nccl/include /usr/lib/python3*/dist-packages/nvidia/nccl/include
     /usr/local/lib/python3*/*-packages/nvidia/nccl/include
     $ENV{VIRTUAL_ENV}/lib/python3*/site-packages/nvidia/nccl/include)
find_path(NCCL_INCLUDE nccl.h HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} ${cuda_root}/include
          ${nccl_wheels})
if(NCCL_INCLUDE)
  hearth_library(comm_nccl comm/nccl comm_copy_engine comm_api kernels_cuda kernels_api kernels_core
                 ${CMAKE_DL_LIBS})
  target_include_directories(comm_nccl SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES}
                             ${NCCL_INCLUDE})
else()
  message(NOTICE "nccl.h was not found: the build has no NCCL")
endif()
