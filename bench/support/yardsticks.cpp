// SPDX-License-Identifier: MIT
#include "bench/support/yardsticks.hpp"

#include <atomic>
#include <stdexcept>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace hsm::bench {

namespace {

/// First and count of the part of n that thread i of `threads` has: all alike, but for one.
std::pair<Index, Index> share(Index n, int i, int threads) {
  const Index first = n * i / threads;
  return {first, n * (i + 1) / threads - first};
}

}  // namespace

struct Team::Shared {
  const std::function<void(int)>* part = nullptr;
  std::atomic<int> round{0}, running{0};
  std::atomic<bool> stop{false};

  /// Returns once `value` is another than `old`: watches for some 40 microseconds, as the library's executor
  /// does, then sleeps.
  static void await_change(const std::atomic<int>& value, int old) {
    for (int i = 0; i < 2000 && value.load() == old; ++i) {
#if defined(__SSE2__)
      _mm_pause();
#endif
    }
    value.wait(old);
  }
};

Team::Team(int threads) : threads_(threads), shared_(std::make_unique<Shared>()) {
  for (int i = 1; i < threads; ++i) {
    others_.emplace_back([this, i] {
      for (int seen = 0;; ++seen) {
        Shared::await_change(shared_->round, seen);
        if (shared_->stop) return;
        (*shared_->part)(i);
        shared_->running.fetch_sub(1);
        shared_->running.notify_one();
      }
    });
  }
}

Team::~Team() {
  shared_->stop = true;
  shared_->round.fetch_add(1);
  shared_->round.notify_all();
  for (std::thread& thread : others_) thread.join();
}

void Team::run(const std::function<void(int)>& part) {
  shared_->part = &part;
  shared_->running = threads_ - 1;
  shared_->round.fetch_add(1);
  shared_->round.notify_all();
  part(0);
  for (int left = shared_->running; left != 0; left = shared_->running)
    Shared::await_change(shared_->running, left);
}

void Sgemm::run(bool blas) {
  team_.run([&](int i) {
    const auto [first, count] = share(1024, i, team_.threads());
#if defined(HSM_BENCH_OPENBLAS)
    if (blas) {
      cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, 512, static_cast<blasint>(count), 512, 1.0F,
                  a_.data(), 512, b_.data() + first * 512, 512, 0.0F, c_.data() + first * 512, 512);
      return;
    }
#endif
    (void)blas;
    c_.middleCols(first, count).noalias() = a_ * b_.middleCols(first, count);
  });
}

void Sgemm::check() {
  run(blas_);
  const Eigen::MatrixXd expected = a_.cast<double>() * b_.cast<double>();
  if (!((expected - c_.cast<double>()).cwiseAbs().maxCoeff<Eigen::PropagateNaN>() <= 1e-3))
    throw std::runtime_error("the yardstick sgemm is wrong");
}

Products::Products(Team& team, bool blas, const std::vector<std::pair<Index, Index>>& weights, Index T,
                   bool backward)
    : team_(team), blas_(blas), backward_(backward) {
  for (const auto& [rows, columns] : weights) {
    products_.push_back({Weights::Random(rows, columns), Weights::Zero(rows, columns),
                         Matrix::Random(columns, T), Matrix::Random(rows, T),
                         backward ? Matrix::Zero(columns, T) : Matrix()});
  }
}

void Products::operator()() {
  for (Product& p : products_) team_.run([&](int i) { part(p, i); });
}

void Products::part(Product& p, int i) const {
  const auto [t, n] = share(p.x.cols(), i, team_.threads());
  const auto [row, rows] = share(p.w.rows(), i, team_.threads());
#if defined(HSM_BENCH_OPENBLAS)
  if (blas_) {
    const auto to_int = [](Index value) { return static_cast<blasint>(value); };
    const blasint R = to_int(p.w.rows()), C = to_int(p.w.cols()), N = to_int(p.x.cols());
    const float *x = p.x.data() + t * p.x.rows(), *dy = p.y.data() + t * p.y.rows();
    float* y = p.y.data() + t * p.y.rows();
    if (!backward_) {
      cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, R, to_int(n), C, 1.0F, p.w.data(), C, x, C, 0.0F,
                  y, R);
    } else {
      cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, C, to_int(n), R, 1.0F, p.w.data(), C, dy, R,
                  0.0F, p.dx.data() + t * p.dx.rows(), C);
      cblas_sgemm(CblasColMajor, CblasNoTrans, CblasTrans, C, to_int(rows), N, 1.0F, p.x.data(), C,
                  p.y.data() + row, R, 1.0F, p.dw.data() + row * C, C);
    }
    return;
  }
#endif
  if (!backward_) {
    p.y.middleCols(t, n).noalias() = p.w * p.x.middleCols(t, n);
  } else {
    p.dx.middleCols(t, n).noalias() = p.w.transpose() * p.y.middleCols(t, n);
    p.dw.middleRows(row, rows).noalias() += p.y.middleRows(row, rows) * p.x.transpose();
  }
}

}  // namespace hsm::bench
