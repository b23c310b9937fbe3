# SPDX-License-Identifier: MIT
#
# Builds and runs the consumer in a fresh folder outside the source tree. WAY is one of
#   installed      install into a prefix, find_package(hsm)
#   subdirectory   add_subdirectory of the source tree
#   pkgconfig      install into a prefix, the compiler with the flags of pkg-config
# Further: SOURCE_DIR and BINARY_DIR of hsm, GENERATOR, CXX.
set(work ${BINARY_DIR}/consumer_${WAY})
file(REMOVE_RECURSE ${work})
file(COPY ${CMAKE_CURRENT_LIST_DIR}/CMakeLists.txt ${CMAKE_CURRENT_LIST_DIR}/main.cpp DESTINATION ${work}/source)

function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

if(NOT WAY STREQUAL "subdirectory")
  run(${CMAKE_COMMAND} --install ${BINARY_DIR} --prefix ${work}/built)
  file(RENAME ${work}/built ${work}/prefix)  # the installed tree must not know where it was put first
endif()

if(WAY STREQUAL "pkgconfig")
  find_program(PKG_CONFIG NAMES pkg-config pkgconf REQUIRED)
  set(ENV{PKG_CONFIG_PATH} ${work}/prefix/share/pkgconfig)
  execute_process(COMMAND ${PKG_CONFIG} --cflags --libs hsm OUTPUT_VARIABLE flags
    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run(${CXX} -std=c++20 ${work}/source/main.cpp -o ${work}/consumer ${flags})
  run(${work}/consumer)
else()
  if(WAY STREQUAL "installed")
    set(where -D CMAKE_PREFIX_PATH=${work}/prefix)
  elseif(WAY STREQUAL "subdirectory")
    set(where -D HSM_SUBDIRECTORY=${SOURCE_DIR})
  else()
    message(FATAL_ERROR "WAY must be installed, subdirectory or pkgconfig, got '${WAY}'")
  endif()
  run(${CMAKE_COMMAND} -S ${work}/source -B ${work}/build -G ${GENERATOR} -D CMAKE_CXX_COMPILER=${CXX} ${where})
  run(${CMAKE_COMMAND} --build ${work}/build)
  run(${work}/build/consumer)
endif()
