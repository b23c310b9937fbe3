// SPDX-License-Identifier: MIT
//
// What a figure was measured on: processor, compiler, flags, threads, and who computed the products. No host
// name, no path.
#pragma once

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <hsm/core/processors.hpp>
#include <hsm/core/product.hpp>
#include <hsm/core/types.hpp>
#include <hsm/version.hpp>

namespace hsm::bench {

inline std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

inline std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "g++ " __VERSION__;
#else
  return "unknown";
#endif
}

/// Name and value of everything that a figure depends on.
inline std::vector<std::pair<std::string, std::string>> machine() {
  return {{"hsm", std::string(kVersion)},
          {"processor", processor()},
          {"cores", std::to_string(available_processors())},
          {"compiler", compiler()},
          {"flags", HSM_BENCH_FLAGS},
          {"simd", Eigen::SimdInstructionSetsInUse()},
          {"products", product_library() == std::string_view("cblas") ? "OpenBLAS" : "Eigen"}};
}

}  // namespace hsm::bench
