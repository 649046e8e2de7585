# The fuzz targets, in one program. In the suite our own driver runs them (fuzz_parsers); the readers
# are compiled a second time for it, with sanitizers, unless the whole build has them. In a build
# with clang and -fsanitize=fuzzer-no-link (run_libfuzzer.sh) libFuzzer does (fuzz_libfuzzer).
if(HEARTH_CUDA)
  return()
endif()
# What AddressSanitizer finds as well is left to it, and fmt to its library: half the time to compile.
set(fuzz_checks bounds,signed-integer-overflow,shift,integer-divide-by-zero,float-cast-overflow,enum,bool)
set(HEARTH_FUZZ_OPTIMIZATION -O1 CACHE STRING "-O2: a tenth faster, and longer to compile")
set(fuzz_flags -UFMT_HEADER_ONLY -fsanitize=address,${fuzz_checks} -fno-sanitize-recover=all
    -fno-omit-frame-pointer ${HEARTH_FUZZ_OPTIMIZATION} -g1)

file(GLOB fuzz_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
set(fuzz_driver ${CMAKE_CURRENT_LIST_DIR}/driver.cpp ${CMAKE_CURRENT_LIST_DIR}/campaign.cpp
    ${CMAKE_CURRENT_LIST_DIR}/watched_run.cpp)
list(FILTER fuzz_sources EXCLUDE REGEX "/(driver|campaign|watched_run|libfuzzer_main)\\.cpp$")

# Whatever turns the content of a file into something of ours; the rest comes from the libraries.
set(fuzz_readers kernels/api/gemm_table runtime/config/built_values runtime/config/codecs
    runtime/config/convert_*
    runtime/config/field_table runtime/config/fields runtime/config/overrides runtime/config/resolved_config
    runtime/config/scalar_text runtime/config/sweep_* runtime/config/validation
    runtime/config/yaml_document runtime/config/yaml_values runtime/plan/hardware_profile
    runtime/model/hf_config
    runtime/model/json_reader runtime/model/load_model runtime/model/model_config
    runtime/model/safetensors_reader runtime/model/weight_source runtime/data/hashing
    runtime/data/hearth_format runtime/data/jsonl_reader runtime/data/mapped_file
    runtime/data/megatron_format runtime/data/token_dataset runtime/data/token_file
    runtime/data/token_formats runtime/plan/link_table runtime/checkpoint/checkpoint runtime/checkpoint/manifest
    runtime/report/read_* runtime/report/run_files runtime/report/series
    runtime/telemetry/json_lines_log runtime/text/added_tokens runtime/text/bpe_model
    runtime/text/byte_alphabet runtime/text/character_classes runtime/text/nfc
    runtime/text/tokenizer runtime/text/tokenizer_file runtime/text/tokenizer_parts
    runtime/text/chat_format runtime/text/chat_reader runtime/text/white_space
    runtime/text/unicode_tables runtime/text/utf8 runtime/text/word_cache runtime/text/word_splitter)
# Of the launcher, whose library would bring everything else.
set(fuzz_launcher ${PROJECT_SOURCE_DIR}/launcher/hostfile.cpp
    ${PROJECT_SOURCE_DIR}/launcher/sweep_log.cpp ${PROJECT_SOURCE_DIR}/launcher/sweep_outcome.cpp)
list(TRANSFORM fuzz_readers REPLACE "(.+)" "${PROJECT_SOURCE_DIR}/\\1.cpp")
file(GLOB fuzz_reader_sources CONFIGURE_DEPENDS ${fuzz_readers})

# The library of fmt first: the others hold its functions too, and would be taken instead of ours.
function(fuzz_program name)
  add_executable(${name} ${fuzz_sources} ${fuzz_launcher} ${ARGN})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE HEARTH_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE fmt::fmt runtime_report runtime_checkpoint runtime_telemetry
                        runtime_data runtime_text runtime_model runtime_config kernels_api kernels_core fmt::fmt-header-only)
endfunction()

if(CMAKE_CXX_FLAGS MATCHES "fsanitize=fuzzer-no-link")
  fuzz_program(fuzz_libfuzzer ${CMAKE_CURRENT_LIST_DIR}/libfuzzer_main.cpp)
  target_link_options(fuzz_libfuzzer PRIVATE -fsanitize=fuzzer)
elseif(NOT CMAKE_CXX_FLAGS MATCHES "fsanitize=thread")
  if(CMAKE_CXX_FLAGS MATCHES "fsanitize=address")
    fuzz_program(fuzz_parsers ${fuzz_driver})
  else()
    fuzz_program(fuzz_parsers ${fuzz_driver} ${fuzz_reader_sources})
    target_compile_options(fuzz_parsers PRIVATE ${fuzz_flags})
    target_link_options(fuzz_parsers PRIVATE -fsanitize=address,undefined)
  endif()
  target_link_libraries(fuzz_parsers PRIVATE GTest::gtest)
  hearth_test(fuzz_parsers fuzz 1 600 $<TARGET_FILE:fuzz_parsers>)
  # Watching stacks after return doubles the time.
  set_tests_properties(fuzz_parsers PROPERTIES ENVIRONMENT
    "UBSAN_OPTIONS=print_stacktrace=1")
endif()

if(NOT CMAKE_CXX_FLAGS MATCHES "fsanitize")
  hearth_test(long_fuzz long 1 86400 ${CMAKE_CURRENT_LIST_DIR}/run_libfuzzer.sh)
  set_tests_properties(long_fuzz PROPERTIES RUN_SERIAL ON)
endif()
