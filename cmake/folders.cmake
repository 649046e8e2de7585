# Each folder of the include table is one library; what it links is what it may include.
function(hearth_library name folder)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC Threads::Threads)
  foreach(dependency ${ARGN})
    if(TARGET ${dependency} OR NOT dependency MATCHES "^(kernels|comm|runtime)_")
      target_link_libraries(${name} PUBLIC ${dependency})
    endif()
  endforeach()
endfunction()

hearth_library(kernels_core kernels/core)
hearth_library(kernels_api kernels/api kernels_core)
hearth_library(kernels_host kernels/host kernels_api kernels_core ${HWY_LIBRARY})
set(sgemm_elsewhere kernels/cpu/sgemm_plain.cpp)
if(HEARTH_PORTABLE)
  set(sgemm_elsewhere kernels/cpu/sgemm.cpp)
  set(DNNL_LIBRARY)
endif()
set_source_files_properties(${sgemm_elsewhere} PROPERTIES HEADER_FILE_ONLY ON)
hearth_library(kernels_cpu kernels/cpu kernels_api kernels_core ${DNNL_LIBRARY} gomp)
# No result changes: floating-point exceptions as flags and errno are not observed, and without them
# selects and square roots become vector code.
target_compile_options(kernels_cpu PRIVATE -fno-trapping-math -fno-math-errno)
if(HEARTH_CUDA)
  include(cmake/cuda.cmake)
endif()
hearth_library(kernels_backend kernels kernels_cpu kernels_cuda kernels_api kernels_core)
if(HEARTH_CUDA)
  set_source_files_properties(kernels/without_cuda.cpp PROPERTIES HEADER_FILE_ONLY ON)
endif()
hearth_library(comm_api comm/api kernels_core)
hearth_library(comm_inproc comm/inproc comm_api kernels_api kernels_core)
hearth_library(comm_mpi comm/mpi comm_api kernels_api kernels_core MPI::MPI_C)
hearth_library(comm_tcp comm/tcp comm_api kernels_core)
if(HEARTH_CUDA)
  include(cmake/gpu_comm.cmake)
endif()
hearth_library(comm_all comm comm_mpi comm_tcp comm_inproc comm_nccl comm_copy_engine comm_api kernels_api)
if(TARGET comm_copy_engine)
  set_source_files_properties(comm/without_cuda.cpp PROPERTIES HEADER_FILE_ONLY ON)
endif()
if(TARGET comm_nccl)
  set_source_files_properties(comm/without_nccl.cpp PROPERTIES HEADER_FILE_ONLY ON)
endif()
hearth_library(runtime_config runtime/config kernels_core fmt::fmt-header-only ${YAML_CPP_LIBRARY})
hearth_library(runtime_telemetry runtime/telemetry kernels_core fmt::fmt-header-only
               nlohmann_json::nlohmann_json)
hearth_library(runtime_model runtime/model runtime_config kernels_core fmt::fmt-header-only
               nlohmann_json::nlohmann_json ${YAML_CPP_LIBRARY})
hearth_library(runtime_memory runtime/memory runtime_telemetry kernels_core
               fmt::fmt-header-only)
hearth_library(runtime_text runtime/text runtime_model kernels_core fmt::fmt-header-only
               ${XXHASH_LIBRARY} ${PCRE2_LIBRARY})
target_compile_definitions(runtime_text PUBLIC PCRE2_CODE_UNIT_WIDTH=8)
hearth_library(runtime_data runtime/data runtime_config runtime_text runtime_model kernels_core fmt::fmt-header-only
               nlohmann_json::nlohmann_json ${XXHASH_LIBRARY})
hearth_library(runtime_layers runtime/layers runtime_model runtime_config kernels_api kernels_core
               fmt::fmt-header-only)
hearth_library(runtime_plan runtime/plan runtime_model runtime_config comm_api kernels_api kernels_core
               fmt::fmt-header-only ${YAML_CPP_LIBRARY})
hearth_library(runtime_state runtime/state runtime_model runtime_memory runtime_plan
               runtime_telemetry comm_api kernels_api kernels_core fmt::fmt-header-only)
hearth_library(runtime_optimizer runtime/optimizer runtime_config runtime_model runtime_state
               kernels_host kernels_api kernels_core fmt::fmt-header-only)
hearth_library(runtime_checkpoint runtime/checkpoint runtime_config runtime_model runtime_state
               runtime_data comm_api kernels_core fmt::fmt-header-only
               nlohmann_json::nlohmann_json ${XXHASH_LIBRARY})
hearth_library(runtime_train runtime/train runtime_layers runtime_optimizer runtime_checkpoint
               runtime_state runtime_plan runtime_data runtime_memory runtime_telemetry comm_api
               kernels_api fmt::fmt-header-only)
hearth_library(runtime_report runtime/report runtime_config runtime_telemetry kernels_core
               fmt::fmt-header-only nlohmann_json::nlohmann_json)
hearth_library(runtime_bench runtime/bench runtime_train kernels_host fmt::fmt-header-only)

# The program.
file(GLOB launcher_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/launcher/*.cpp)
list(FILTER launcher_sources EXCLUDE REGEX "/main\\.cpp$")
if(launcher_sources)
  add_library(hearth_launcher STATIC ${launcher_sources})
  target_include_directories(hearth_launcher PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(hearth_launcher PUBLIC hearth_build_info Boost::program_options
                        fmt::fmt-header-only)
  foreach(library runtime_report runtime_bench runtime_train runtime_data runtime_text runtime_config kernels_backend comm_all)
    if(TARGET ${library})
      target_link_libraries(hearth_launcher PUBLIC ${library})
    endif()
  endforeach()
endif()
if(EXISTS ${PROJECT_SOURCE_DIR}/launcher/main.cpp)
  add_executable(hearth ${PROJECT_SOURCE_DIR}/launcher/main.cpp)
  target_link_libraries(hearth PRIVATE hearth_launcher)
  include(cmake/package.cmake)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/configs ${CMAKE_BINARY_DIR}/configs SYMBOLIC)
endif()

if(EXISTS ${PROJECT_SOURCE_DIR}/tests/CMakeLists.txt)
  add_subdirectory(${PROJECT_SOURCE_DIR}/tests)
endif()
