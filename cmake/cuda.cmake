# The library kernels_cuda. HEARTH_NVCC names the compiler (cmake/setup.sh finds it);
# HEARTH_CUDA_ARCHITECTURES the GPUs, by default those of this machine.
set(HEARTH_NVCC nvcc CACHE STRING "nvcc 12.8 or later")
set(HEARTH_CUDA_ARCHITECTURES native CACHE STRING "80;86;89;90;120, or native")

find_program(hearth_nvcc NAMES ${HEARTH_NVCC} PATHS /usr/local/cuda/bin REQUIRED NO_CACHE)
set(CMAKE_CUDA_COMPILER ${hearth_nvcc})
set(CMAKE_CUDA_ARCHITECTURES ${HEARTH_CUDA_ARCHITECTURES})
enable_language(CUDA)
# CMake 3.25 does not know this flag of nvcc 13.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

# A toolkit of Python wheels has its libraries only under their versioned names.
get_filename_component(cuda_root ${hearth_nvcc} REALPATH)
get_filename_component(cuda_root ${cuda_root}/../.. ABSOLUTE)
set(cuda_folders ${cuda_root}/lib64 ${cuda_root}/lib ${cuda_root}/targets/x86_64-linux/lib
    ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES})
find_library(CUBLASLT_LIBRARY NAMES cublasLt libcublasLt.so.13 libcublasLt.so.12
             HINTS ${cuda_folders} REQUIRED)
find_library(CUDART_LIBRARY NAMES libcudart_static.a HINTS ${cuda_folders} REQUIRED)

file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu
     ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cpp)
add_library(kernels_cuda STATIC ${cuda_sources})
target_include_directories(kernels_cuda PUBLIC ${PROJECT_SOURCE_DIR})
target_include_directories(kernels_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_options(kernels_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xfatbin=-compress-all;-Xcompiler=-Wall,-Wextra,-Wshadow,-ffp-contract=off>")
set_target_properties(kernels_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
target_link_libraries(kernels_cuda PUBLIC kernels_api kernels_core ${CUBLASLT_LIBRARY}
                      ${CUDART_LIBRARY} Threads::Threads rt ${CMAKE_DL_LIBS})
# What is promised bit for bit on every backend says its fused multiply-adds itself.
set(exact_sources adamw copy embedding quantize reduce)
foreach(source ${exact_sources})
  set_property(SOURCE ${PROJECT_SOURCE_DIR}/kernels/cuda/${source}.cu
               APPEND PROPERTY COMPILE_OPTIONS --fmad=false)
endforeach()
