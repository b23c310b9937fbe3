// SPDX-License-Identifier: MIT
//
// One line about what a measurement ran on: processor, threads, and who computes the matrix products.
#pragma once

#include <algorithm>
#include <fstream>
#include <string>

#ifdef HSM_USE_BLAS
#include <cblas.h>
#endif

#include <hsm/core/types.hpp>

#include "examples/support/limits.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// The processor's own name, where the system says it.
inline std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

/// Who computes the matrix products of this program.
inline std::string product_library_text() {
#ifdef HSM_USE_BLAS
  const std::string config = openblas_get_config();  // "OpenBLAS 0.3.21 and its options"
  return config.substr(0, config.find(' ', std::min(config.size(), config.find(' ') + 1)));
#else
  return format("Eigen %d.%d.%d", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
#endif
}

/// "<processor>, 2 threads, products by OpenBLAS 0.3.21".
inline std::string machine_line(int threads) {
  return format("%s, %s, products by %s", processor_name().c_str(), counted(threads, "thread").c_str(),
                product_library_text().c_str());
}

/// For the first line of main: OpenBLAS computes on the thread that calls it, since the library brings its own
/// threads.
inline void use_one_blas_thread() {
#ifdef HSM_USE_BLAS
  openblas_set_num_threads(1);
#endif
}

}  // namespace hsm::examples
