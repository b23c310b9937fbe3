# SPDX-License-Identifier: MIT
#
# Consumes hsm as a stranger would, in a fresh folder outside the source tree. WAY is one of
#   install        installs into the prefix that the next three use; no GoogleTest can be found, none is needed
#   installed      find_package(hsm)
#   request        components and versions that the installed package has not are refused, and it says why
#   eigen5         a package that calls itself Eigen 5 is taken wherever it is named, here and by find_package(hsm)
#   pkgconfig      the compiler with the flags of pkg-config
#   subdirectory   add_subdirectory of the source tree
#   fetchcontent   FetchContent with a local source
#   plain          the compiler with -I
#   single         the compiler with the one-file form of .ci/single-header alone
# Further: SOURCE_DIR and BINARY_DIR of hsm, GENERATOR, CONFIG, CXX, EIGEN (include folder).
set(work ${BINARY_DIR}/consumer/${WAY})
set(prefix ${BINARY_DIR}/consumer/prefix)
file(REMOVE_RECURSE ${work})
file(GLOB sources ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
file(COPY ${CMAKE_CURRENT_LIST_DIR}/CMakeLists.txt ${sources} DESTINATION ${work}/source)

function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# Configures the consumer; with EXPECTED, it must fail and say so.
set(configure ${CMAKE_COMMAND} -S ${work}/source -B ${work}/build -G ${GENERATOR} -D CMAKE_CXX_COMPILER=${CXX}
  -D CMAKE_PREFIX_PATH=${prefix})
function(refused expected)
  execute_process(COMMAND ${configure} -D WAY=request ${ARGN} RESULT_VARIABLE result ERROR_VARIABLE text OUTPUT_QUIET)
  string(REGEX REPLACE "[ \n]+" " " text "${text}")  # CMake breaks lines
  if(result EQUAL 0 OR NOT text MATCHES "${expected}")
    message(FATAL_ERROR "${ARGN}: expected a refusal with '${expected}', got ${result} with '${text}'")
  endif()
  message(STATUS "refused as it should be: ${ARGN}")
endfunction()

# Configures, twice in the same folder, and looks whether the package that calls itself Eigen 5 was found.
function(taken)
  foreach(time IN ITEMS first second)
    execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE errors)
    if(NOT result EQUAL 0 OR NOT text MATCHES "Eigen 5 is taken")
      message(FATAL_ERROR "${ARGV}: expected Eigen 5 to be found the ${time} time, got ${result} with '${text}${errors}'")
    endif()
  endforeach()
  message(STATUS "took Eigen 5 as it should: ${ARGV}")
endfunction()

function(build_and_run)
  run(${configure} ${ARGN})
  if(CONFIG)  # which generators of several configurations want to be told
    set(config --config ${CONFIG})
    set(build_config --build-config ${CONFIG})
  endif()
  run(${CMAKE_COMMAND} --build ${work}/build ${config})
  run(${CMAKE_CTEST_COMMAND} --test-dir ${work}/build ${build_config} --output-on-failure --no-tests=error)
endfunction()

function(compile_and_run)
  run(${CXX} -std=c++20 ${work}/source/mixer.cpp -o ${work}/mixer ${ARGN})
  run(${work}/mixer)
endfunction()

if(WAY STREQUAL "install")
  run(${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${work}/hsm -G ${GENERATOR} -D CMAKE_CXX_COMPILER=${CXX}
    -D HSM_BUILD_TESTS=OFF -D HSM_BUILD_BENCH=OFF -D HSM_BUILD_EXAMPLES=OFF
    -D CMAKE_DISABLE_FIND_PACKAGE_GTest=ON -D CMAKE_DISABLE_FIND_PACKAGE_benchmark=ON
    -D CMAKE_DISABLE_FIND_PACKAGE_CLI11=ON)
  run(${CMAKE_COMMAND} --install ${work}/hsm --prefix ${work}/built)
  file(REMOVE_RECURSE ${prefix})
  file(RENAME ${work}/built ${prefix})  # the installed tree must not know where it was put first
elseif(WAY STREQUAL "installed")
  build_and_run(-D WAY=installed)
elseif(WAY STREQUAL "request")
  run(${configure} -D WAY=request -D COMPONENTS=hsm)
  refused("no component .gpu.; the components are hsm, io, blas, sentencepiece, mpi and torch" -D COMPONENTS=gpu)
  refused("component io needs nlohmann_json.*nlohmann-json3-dev" -D COMPONENTS=io
    -D CMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
  refused("component blas needs OpenBLAS.*libopenblas-pthread-dev" -D COMPONENTS=blas -D HSM_OPENBLAS_LIBRARY=)
  refused("component sentencepiece needs SentencePiece.*libsentencepiece-dev" -D COMPONENTS=sentencepiece
    -D HSM_SENTENCEPIECE_LIBRARY=)
  refused("component mpi needs MPI.*libopenmpi-dev" -D COMPONENTS=mpi -D CMAKE_DISABLE_FIND_PACKAGE_MPI=ON)
  refused("component torch needs LibTorch.*libtorch-dev" -D COMPONENTS=torch -D HSM_TORCH_LIBRARY=)
  refused("requested version \"99\\.0\"" -D VERSION=99.0 -D COMPONENTS=hsm)
elseif(WAY STREQUAL "eigen5")
  set(folder ${work}/eigen/share/eigen3/cmake)
  file(WRITE ${folder}/Eigen3Config.cmake "message(STATUS \"Eigen 5 is taken\")
add_library(Eigen3::Eigen INTERFACE IMPORTED)
target_include_directories(Eigen3::Eigen INTERFACE [[${EIGEN}]])\n")
  file(WRITE ${folder}/Eigen3ConfigVersion.cmake "set(PACKAGE_VERSION 5.0.1)
if(PACKAGE_FIND_VERSION_MAJOR EQUAL 5)
  set(PACKAGE_VERSION_COMPATIBLE ON)
endif()\n")
  set(tree ${CMAKE_COMMAND} -S ${SOURCE_DIR} -G ${GENERATOR} -D CMAKE_CXX_COMPILER=${CXX}
    -D HSM_BUILD_TESTS=OFF -D HSM_BUILD_BENCH=OFF -D HSM_BUILD_EXAMPLES=OFF)
  foreach(named IN ITEMS Eigen3_DIR=${folder} Eigen3_ROOT=${work}/eigen CMAKE_PREFIX_PATH=${work}/eigen)
    string(REGEX REPLACE "=.*" "" variable ${named})
    taken(${tree} -B ${work}/${variable} -D ${named})
    taken(${configure} -B ${work}/${variable}_installed -D WAY=request -D COMPONENTS=hsm
      -D hsm_DIR=${prefix}/share/cmake/hsm -D ${named})
  endforeach()
elseif(WAY STREQUAL "subdirectory")
  build_and_run(-D WAY=subdirectory -D HSM_SUBDIRECTORY=${SOURCE_DIR})
elseif(WAY STREQUAL "fetchcontent")
  build_and_run(-D WAY=fetchcontent -D FETCHCONTENT_SOURCE_DIR_HSM=${SOURCE_DIR})
elseif(WAY STREQUAL "pkgconfig")
  find_program(PKG_CONFIG NAMES pkg-config pkgconf REQUIRED)
  set(ENV{PKG_CONFIG_PATH} ${prefix}/share/pkgconfig)
  foreach(question IN ITEMS modversion "cflags;--libs")
    execute_process(COMMAND ${PKG_CONFIG} --${question} hsm OUTPUT_VARIABLE answer
      OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    list(APPEND answers "${answer}")
  endforeach()
  list(POP_FRONT answers version)
  separate_arguments(flags UNIX_COMMAND "${answers}")
  compile_and_run(${flags} "-DHSM_EXPECTED_VERSION=\"${version}\"")
elseif(WAY STREQUAL "plain")
  compile_and_run(-I ${SOURCE_DIR}/include -I ${EIGEN} -pthread)
elseif(WAY STREQUAL "single")
  find_program(PYTHON NAMES python3 REQUIRED)
  foreach(folder IN ITEMS hsm again)
    run(${PYTHON} ${SOURCE_DIR}/.ci/single-header --output ${work}/include/${folder}/hsm.hpp)
  endforeach()
  run(${CMAKE_COMMAND} -E compare_files ${work}/include/hsm/hsm.hpp ${work}/include/again/hsm.hpp)
  compile_and_run(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I ${work}/include -isystem ${EIGEN} -pthread)
else()
  message(FATAL_ERROR "unknown WAY '${WAY}'; the head of this file lists them")
endif()
