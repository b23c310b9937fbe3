// SPDX-License-Identifier: MIT
//
// The threads of a command, and what its product library needs for each of them, asked for before any work: what
// the system refuses is one sentence, not a crash or a wait without end.
#pragma once

#include <atomic>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(HSM_USE_BLAS) && !defined(_WIN32)
#include <sys/mman.h>
#endif

#include <hsm/core/product.hpp>
#include <hsm/core/threaded_executor.hpp>

#include "examples/support/limits.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// An executor of so many threads. Throws std::runtime_error if the system refuses to start them.
inline std::unique_ptr<ThreadedExecutor> start_threads(int threads) {
  const auto refuse = [threads](const std::string& reason) {
    return std::runtime_error("--threads " + std::to_string(threads) +
                              ": the system does not start so many threads (" + reason +
                              "); fewer, or higher limits of processes and address space, may help");
  };
  try {
    return std::make_unique<ThreadedExecutor>(threads);
  } catch (const std::runtime_error& error) {
    const std::string what = error.what();  // "ThreadedExecutor: cannot start thread 5 of 8: why"
    throw refuse(what.substr(what.rfind(": ") + 2));
  } catch (const std::bad_alloc&) {
    throw refuse("there is not enough memory");
  }
}

#if defined(HSM_USE_BLAS) && !defined(_WIN32)

namespace detail {

/// How many of `most` blocks of `bytes` bytes the system would give now.
inline int blocks_to_be_had(int most, std::size_t bytes) {
  std::vector<void*> blocks;
  while (static_cast<int>(blocks.size()) < most) {
    void* block = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) break;
    blocks.push_back(block);
  }
  for (void* block : blocks) static_cast<void>(::munmap(block, bytes));
  return static_cast<int>(blocks.size());
}

}  // namespace detail

/// Lets OpenBLAS take its buffer for every thread of the executor. It asks the system for one when a thread first
/// computes a product, and where the system refuses it asks again, for ever; so this asks first. Throws
/// std::runtime_error if there is not enough.
inline void take_product_buffers(Executor& executor) {
  constexpr std::size_t kBuffer = std::size_t{128} << 20;  // address space; of x86-64, elsewhere less
  const int threads = executor.workers();
  const double left = address_space_left();
  if (const int got = detail::blocks_to_be_had(threads, kBuffer); got < threads) {
    throw std::runtime_error(
        format("the matrix products of OpenBLAS need %s of address space for each of %s, and ",
               bytes_text(static_cast<double>(kBuffer)).c_str(), counted(threads, "thread").c_str()) +
        (left < static_cast<double>(kBuffer) * threads
             ? "the limit of this process (ulimit -v) leaves " + bytes_text(left)
             : "the system refuses") +
        (got > 0 ? format("; --threads %d would do", got) : ""));
  }
  // A thread keeps its task until all have one, so each computes a product.
  std::atomic<int> begun{0};
  const auto compute = [&](Index, int) {
    constexpr Index n = 64;  // OpenBLAS computes the smallest products without a buffer
    const std::vector<float> a(n * n), b(n * n);
    std::vector<float> c(n * n);
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a.data(), n, b.data(), n, 0, c.data(),
                n);
    begun.fetch_add(1);
    begun.notify_all();
    for (int now = begun.load(); now < threads; now = begun.load()) begun.wait(now);
  };
  executor.run(threads, compute);
}

#else

/// Nothing to take: Eigen's products ask for their memory as everything else does.
inline void take_product_buffers(Executor&) {}

#endif

}  // namespace hsm::examples
