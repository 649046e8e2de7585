# Included by the build: defines the library hearth_build_info, whose one header is build_info.h.
# Run as a script (cmake -P) at every build: writes that header when the commit has changed.
if(CMAKE_SCRIPT_MODE_FILE)
  execute_process(
    COMMAND git -C ${SOURCE_DIR} describe --always --dirty --abbrev=12 --exclude=*
    OUTPUT_VARIABLE HEARTH_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT HEARTH_COMMIT)
    set(HEARTH_COMMIT unknown)
  endif()
  configure_file(${SOURCE_DIR}/cmake/build_info.h.in ${OUTPUT} @ONLY)
  return()
endif()

string(TOLOWER "${CMAKE_BUILD_TYPE}" build_type)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=([a-z,]+)")
  string(APPEND build_type ", sanitizers: ${CMAKE_MATCH_1}")
endif()
set(build_backends cpu)
if(HEARTH_CUDA)
  set(build_backends "cpu cuda")
endif()
set(build_info_header ${CMAKE_BINARY_DIR}/generated/build_info.h)
add_custom_target(build_info_header
  COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${PROJECT_SOURCE_DIR} -DOUTPUT=${build_info_header}
          -DHEARTH_VERSION=${PROJECT_VERSION} "-DHEARTH_BUILD_TYPE=${build_type}"
          "-DHEARTH_COMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
          "-DHEARTH_TARGET=${CMAKE_SYSTEM_NAME} ${CMAKE_SYSTEM_PROCESSOR}" "-DHEARTH_BACKENDS=${build_backends}"
          "-DHEARTH_MPI=MPI ${MPI_C_VERSION}"
          -DHEARTH_CONFIGS=${CMAKE_INSTALL_DATADIR}/hearth/configs
          -P ${CMAKE_CURRENT_LIST_FILE}
  BYPRODUCTS ${build_info_header} COMMENT "Noting the commit in build_info.h" VERBATIM)
add_library(hearth_build_info INTERFACE)
target_include_directories(hearth_build_info INTERFACE ${CMAKE_BINARY_DIR}/generated)
add_dependencies(hearth_build_info build_info_header)
