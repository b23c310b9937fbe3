# SPDX-License-Identifier: MIT
#
# Every way to use the library from another project, with programs that know nothing of this tree; see
# consumer/run.cmake.
get_target_property(hsm_eigen_dirs Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
list(GET hsm_eigen_dirs 0 hsm_eigen_dir)
foreach(way IN ITEMS install installed request eigen5 pkgconfig subdirectory fetchcontent plain single)
  add_test(NAME consumer_${way} COMMAND ${CMAKE_COMMAND}
    -D WAY=${way} -D SOURCE_DIR=${PROJECT_SOURCE_DIR} -D BINARY_DIR=${PROJECT_BINARY_DIR}
    -D "GENERATOR=${CMAKE_GENERATOR}" -D CONFIG=$<CONFIG> -D CXX=${CMAKE_CXX_COMPILER} -D EIGEN=${hsm_eigen_dir}
    -P ${CMAKE_CURRENT_SOURCE_DIR}/consumer/run.cmake)
  set_tests_properties(consumer_${way} PROPERTIES TIMEOUT 300)
endforeach()
set_tests_properties(consumer_install PROPERTIES FIXTURES_SETUP hsm_prefix)
set_tests_properties(consumer_installed consumer_request consumer_eigen5 consumer_pkgconfig PROPERTIES FIXTURES_REQUIRED hsm_prefix)
