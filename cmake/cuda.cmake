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

# cuDNN is needed at build time by its headers alone: those of cuDNN itself, and cudnn-frontend 1.12
# or later, which a Python wheel of that name has. The library is loaded at run time.
file(GLOB python_folders /usr/lib/python3*/dist-packages /usr/local/lib/python3*/*-packages
     $ENV{VIRTUAL_ENV}/lib/python3*/site-packages)
list(TRANSFORM python_folders APPEND /include OUTPUT_VARIABLE frontend_folders)
list(TRANSFORM python_folders APPEND /nvidia/cudnn/include OUTPUT_VARIABLE cudnn_folders)
find_path(CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${cuda_root}/include ${cudnn_folders})
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
          HINTS ${cuda_root}/include ${frontend_folders})
set(cudnn_found OFF)
if(CUDNN_INCLUDE_DIR AND CUDNN_FRONTEND_INCLUDE_DIR)
  file(STRINGS ${CUDNN_FRONTEND_INCLUDE_DIR}/cudnn_frontend_version.h frontend_version
       REGEX "define CUDNN_FRONTEND_(MAJOR|MINOR)_VERSION [0-9]+")
  string(REGEX REPLACE "[^0-9;]" "" frontend_version "${frontend_version}")
  string(REPLACE ";" "." frontend_version "${frontend_version}")
  if(frontend_version VERSION_GREATER_EQUAL 1.12)
    set(cudnn_found ON)
  endif()
endif()
if(cudnn_found)
  message(STATUS "cuDNN attention: cudnn-frontend ${frontend_version}")
else()
  message(STATUS "cuDNN attention: left out; cudnn-frontend 1.12 or later was not found "
                 "(CUDNN_FRONTEND_INCLUDE_DIR, CUDNN_INCLUDE_DIR)")
endif()

file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu
     ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cpp)
if(cudnn_found)
  list(FILTER cuda_sources EXCLUDE REGEX "/cudnn_library_unavailable\\.cpp$")
else()
  list(FILTER cuda_sources EXCLUDE REGEX "/cudnn_library\\.cpp$")
endif()
add_library(kernels_cuda STATIC ${cuda_sources})
target_include_directories(kernels_cuda PUBLIC ${PROJECT_SOURCE_DIR})
target_include_directories(kernels_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_options(kernels_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xfatbin=-compress-all;-Xcompiler=-Wall,-Wextra,-Wshadow,-ffp-contract=off>")
set_target_properties(kernels_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
target_link_libraries(kernels_cuda PUBLIC kernels_api kernels_core ${CUBLASLT_LIBRARY}
                      ${CUDART_LIBRARY} Threads::Threads rt ${CMAKE_DL_LIBS})
# What is promised bit for bit on every backend says its fused multiply-adds itself.
set(exact_sources adamw combine copy embedding quantize reduce)
foreach(source ${exact_sources})
  set_property(SOURCE ${PROJECT_SOURCE_DIR}/kernels/cuda/${source}.cu
               APPEND PROPERTY COMPILE_OPTIONS --fmad=false)
endforeach()
if(cudnn_found)
  set_source_files_properties(
    ${PROJECT_SOURCE_DIR}/kernels/cuda/cudnn_library.cpp PROPERTIES
    # Its newest names are not in the oldest version that will do.
    COMPILE_OPTIONS -Wno-deprecated-declarations
    COMPILE_DEFINITIONS "NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING;CUDNN_FRONTEND_SKIP_JSON_LIB")
  target_include_directories(kernels_cuda SYSTEM PRIVATE ${CUDNN_INCLUDE_DIR}
                             ${CUDNN_FRONTEND_INCLUDE_DIR})
endif()
