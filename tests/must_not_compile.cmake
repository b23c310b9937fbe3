# SPDX-License-Identifier: MIT
#
# The programs that the compiler must refuse with a given sentence: tests/**/must_not_compile/*.cpp.
get_target_property(hsm_eigen_dirs Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
list(GET hsm_eigen_dirs 0 hsm_eigen_dir)
add_test(NAME must_not_compile COMMAND bash ${PROJECT_SOURCE_DIR}/tests/must_not_compile.sh)
# It takes longest: begun first, it does not outlast the others.
set_tests_properties(must_not_compile PROPERTIES COST 100 TIMEOUT 600
  ENVIRONMENT "CXX=${CMAKE_CXX_COMPILER};EIGEN=${hsm_eigen_dir}")
