# What is installed, and packages of it: `make install`, `make package`.
install(TARGETS hearth RUNTIME)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs DESTINATION ${CMAKE_INSTALL_DATADIR}/hearth)
install(FILES ${PROJECT_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(CPACK_PACKAGE_NAME hearth)
set(CPACK_PACKAGE_VENDOR "The Hearth authors")
set(CPACK_PACKAGE_CONTACT "The Hearth authors <hearth@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "trains large language models in FP8")
set(CPACK_PACKAGE_DESCRIPTION "Trains and fine-tunes large language models on the machines people own:
 one MPI rank per device, every run a YAML file, no Python at run time.")
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_PACKAGE_FILE_NAME
    "hearth-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR}")

# A Debian package needs to know the packages of all its libraries, and CUDA's come from elsewhere.
set(CPACK_GENERATOR TGZ)
if(NOT HEARTH_CUDA)
  list(APPEND CPACK_GENERATOR DEB)
endif()
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)          # libraries with their versions, found in the binary
set(CPACK_DEBIAN_PACKAGE_DEPENDS "openmpi-bin")  # mpirun starts the ranks
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "openssh-client")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
