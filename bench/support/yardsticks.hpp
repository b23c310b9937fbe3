// SPDX-License-Identifier: MIT
//
// What the machine allows, to stand beside every figure:
//
//   read    a sum over `bytes`, on n threads
//   copy    the faster of memcpy and a non-temporal copy of `bytes`, on n threads
//   sgemm   512 x 1024 x 512 in float, the better of Eigen and OpenBLAS, on n threads: n std::threads with a share of the columns each,
//           every share a single-threaded product
//
// Both are plain std::threads and use nothing of the library's executor or products.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>
#if defined(HSM_BENCH_OPENBLAS)
#include <cblas.h>
#endif

#include <hsm/core/nontemporal.hpp>
#include <hsm/core/types.hpp>

#include "bench/support/measure.hpp"

namespace hsm::bench {

/// Keeps n - 1 threads that wait for work, so that starting them is not part of a measurement.
class Team {
 public:
  explicit Team(int threads);
  ~Team();
  /// part(i) for i = 0 ... threads-1, one per thread, the calling one included.
  void run(const std::function<void(int)>& part);
  int threads() const { return threads_; }

 private:
  struct Shared;
  int threads_;
  std::unique_ptr<Shared> shared_;
  std::vector<std::thread> others_;
};

/// A sum over memory, each thread over its share.
class Read {
 public:
  Read(Team& team, std::size_t bytes)
      : team_(team),
        values_(bytes / sizeof(std::uint64_t), 1),
        sums_(static_cast<std::size_t>(team.threads())) {}
  void operator()() {
    team_.run([&](int i) {
      const std::size_t parts = sums_.size(), part = static_cast<std::size_t>(i), n = values_.size() / parts;
      std::uint64_t sum = 0;
      for (std::size_t k = part * n; k < (part + 1) * n; ++k) sum += values_[k];
      sums_[part] += sum;  // of whole numbers, which a compiler may add side by side
    });
  }

 private:
  Team& team_;
  std::vector<std::uint64_t> values_, sums_;
};

/// y = x by the faster of two ways, chosen when made.
class Copy {
 public:
  Copy(Team& team, std::size_t bytes) : team_(team), from_(bytes / 4, 1.0F), to_(bytes / 4, 0.0F) {
    const auto plain = [this] { run(false); };
    const auto streamed = [this] { run(true); };
    streaming_ = measure(streamed, plain, 0.05).ratio > 1;
  }
  void operator()() { run(streaming_); }

 private:
  void run(bool streaming) {
    team_.run([&](int i) {
      const std::size_t n = from_.size(), parts = static_cast<std::size_t>(team_.threads());
      const std::size_t first = n / parts * static_cast<std::size_t>(i);
      const std::size_t count = i + 1 == team_.threads() ? n - first : n / parts;
      if (streaming) {
        stream_copy(static_cast<Index>(count), from_.data() + first, to_.data() + first);
        nontemporal_fence();
      } else {
        std::memcpy(to_.data() + first, from_.data() + first, count * sizeof(float));
      }
    });
  }

  Team& team_;
  std::vector<float> from_, to_;
  bool streaming_ = false;
};

/// C = A B with A 512 x 512, B 512 x 1024.
class Sgemm {
 public:
  static constexpr double kFlop = 2.0 * 512 * 512 * 1024;

  explicit Sgemm(Team& team)
      : team_(team), a_(Matrix::Random(512, 512)), b_(Matrix::Random(512, 1024)), c_(512, 1024) {
#if defined(HSM_BENCH_OPENBLAS)
    blas_ = measure([this] { run(true); }, [this] { run(false); }, 0.3).ratio > 1;
#endif
    check();
  }
  void operator()() { run(blas_); }
  /// Whether OpenBLAS is the better one here.
  bool blas() const { return blas_; }
  const char* library() const { return blas_ ? "OpenBLAS" : "Eigen"; }

 private:
  using Matrix = Eigen::MatrixXf;
  void run(bool blas);
  /// Throws std::runtime_error unless the product is that of doubles.
  void check();

  Team& team_;
  Matrix a_, b_, c_;
  bool blas_ = false;
};

/// The products of a layer over T tokens and nothing else, at the same shapes: Y = W X for each weight, or,
/// backward, dX = W^T dY and dW += dY X^T. Each thread has a share of the tokens (forward, dX) or of the rows
/// of the weights (dW).
class Products {
 public:
  Products(Team& team, bool blas, const std::vector<std::pair<Index, Index>>& weights, Index T,
           bool backward);
  void operator()();

 private:
  using Matrix = Eigen::MatrixXf;
  using Weights = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  struct Product {
    Weights w, dw;
    Matrix x, y, dx;
  };

  void part(Product& p, int i) const;

  Team& team_;
  bool blas_, backward_;
  std::vector<Product> products_;
};

}  // namespace hsm::bench
