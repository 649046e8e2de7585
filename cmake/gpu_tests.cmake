# hearth-gpu-tests: the sources of the kernel, golden, property and resume tests in one program that
# runs them on the first GPU (tests/support/gpu_main.cpp), and tests of several ranks, which it runs
# under mpirun. One program, so that it can be carried.
file(GLOB gpu_test_sources CONFIGURE_DEPENDS kernels/*/*.cpp property/training/*.cpp
     property/resume/*.cpp golden/gradients/*.cpp gpu/*/*.cpp)
add_executable(hearth-gpu-tests support/gpu_main.cpp support/gpu_ranks.cpp support/multirank_run.cpp
               ${gpu_test_sources})
target_include_directories(hearth-gpu-tests PRIVATE ${PROJECT_SOURCE_DIR})
target_include_directories(hearth-gpu-tests SYSTEM PRIVATE
                           ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_options(hearth-gpu-tests PRIVATE -O1)
target_link_libraries(hearth-gpu-tests PRIVATE tests_training_support tests_comm_support
                      tests_support ${hearth_libraries})
target_compile_definitions(hearth-gpu-tests PRIVATE HEARTH_SOURCE_DIR="${source_folder}")
hearth_test(gpu gpu 2 3600 $<TARGET_FILE:hearth-gpu-tests>)
foreach(ranks 2 3 4)
  hearth_test(gpu_ranks_${ranks} gpu ${ranks} 900 ${CMAKE_CURRENT_SOURCE_DIR}/run_ranks.sh ${ranks}
              $<TARGET_FILE:hearth-gpu-tests> --ranks)
endforeach()
