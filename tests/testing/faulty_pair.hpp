// SPDX-License-Identifier: MIT
//
// A mixing policy with one fault at a time, of those that authors make.
#pragma once

#include <hsm/shift/mixer.hpp>
#include <string>

namespace hsm::test {

enum class PolicyFault {
  kNone,
  kForgottenTensor,   // add_sums leaves b out
  kDoubledSums,       // add_sums adds a twice
  kOverwrittenSums,   // add_sums writes
  kEmptyAdjoint,      // adjoint_past does nothing
  kDoubledAdjoint,    // adjoint_past adds twice
  kWrongSign,         // adjoint_past subtracts
  kWrongSignNow,      // adjoint_now has the sign of a wrong
  kOverwrittenPast,   // adjoint_past writes, over what adjoint_now gave
  kUnwrittenNow,      // adjoint_now adds, to what nobody wrote
  kFuture,            // combine reads the next column
  kNotInPlace,        // combine reads tap 0 after it has written z
  kFirstHeads,        // the weights of the first head, whichever the run begins with
  kUnwrittenColumn,   // combine leaves a column out
  kMemory,            // combine remembers what it computed
  kSwappedWeights,    // channel_weights gives b and a
  kSumsNobodyCounts,  // sum_count asks for fewer than there are
};

/// z = a .* x[t] + b .* x[t-s], a and b [C].
struct FaultyPair {
  using Scalar = double;
  static constexpr std::string_view kName = "pair";
  static constexpr Stages kStages{.shifts_input = true, .in_place = true};

  Vector<double> a, b;
  PolicyFault fault = PolicyFault::kNone;
  mutable double held = 0;
  Index head_count;

  FaultyPair(PolicyFault of, Index C, Index H = 1)
      : a(Vector<double>::Constant(C, 0.8)), b(Vector<double>::Constant(C, 0.6)), fault(of), head_count(H) {}

  Index channels() const { return a.size(); }
  Index heads() const { return head_count; }
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("a", self.a, more.a...);
    f("b", self.b, more.b...);
  }
  bool has(PolicyFault one) const { return fault == one; }
  Index first_row(const Run<double>& run) const {
    return has(PolicyFault::kFirstHeads) ? 0 : run.first_head * channels() / heads();
  }

  void channel_weights(double* as, double* bs) const {
    Vector<double>::Map(has(PolicyFault::kSwappedWeights) ? bs : as, a.size()) = a;
    Vector<double>::Map(has(PolicyFault::kSwappedWeights) ? as : bs, b.size()) = b;
  }
  void combine(const Run<double>& run, Columns<double> z) const {
    const auto as = a.segment(first_row(run), run.rows), bs = b.segment(first_row(run), run.rows);
    const auto now = run.tap(0), past = run.tap(1);
    for (Index j = run.count - 1; j >= 0; --j) {
      if (has(PolicyFault::kUnwrittenColumn) && j == 2) continue;
      if (has(PolicyFault::kNotInPlace)) {
        z.col(j) = bs.cwiseProduct(past.col(j));
        z.col(j) += as.cwiseProduct(now.col(j));
        continue;
      }
      const Index next = has(PolicyFault::kFuture) && j + 1 < run.count ? j + 1 : j;
      for (Index i = 0; i < run.rows; ++i) z(i, j) = as[i] * now(i, next) + bs[i] * past(i, j);
      if (has(PolicyFault::kMemory)) z(0, j) += held, held += 1e-9;
    }
  }
  void adjoint_now(const Run<double>& run, ConstColumns<double> dz, const RunGradient<double>& d,
                   std::span<double> sums) const {
    const Index first = first_row(run);
    const Eigen::MatrixXd gradient = a.segment(first, run.rows).asDiagonal() * dz;
    if (has(PolicyFault::kUnwrittenNow)) {
      d.tap(0) += gradient;
    } else {
      d.tap(0) = has(PolicyFault::kWrongSignNow) ? Eigen::MatrixXd(-gradient) : gradient;
    }
    for (Index i = 0; i < run.rows; ++i) {
      sums[static_cast<std::size_t>(first + i)] += dz.row(i).dot(run.tap(0).row(i));
      if (has(PolicyFault::kSumsNobodyCounts)) continue;
      sums[static_cast<std::size_t>(channels() + first + i)] += dz.row(i).dot(run.tap(1).row(i));
    }
  }
  void adjoint_past(const Run<double>& run, ConstColumns<double> dz, const RunGradient<double>& d) const {
    const Eigen::MatrixXd gradient = b.segment(first_row(run), run.rows).asDiagonal() * dz;
    if (has(PolicyFault::kEmptyAdjoint)) return;
    if (has(PolicyFault::kOverwrittenPast)) d.tap(1).setZero();
    d.tap(1) += (has(PolicyFault::kWrongSign) ? -1 : has(PolicyFault::kDoubledAdjoint) ? 2 : 1) * gradient;
  }
  Index sum_count() const { return (has(PolicyFault::kSumsNobodyCounts) ? 1 : 2) * channels(); }
  void add_sums(std::span<const double> sums, FaultyPair& gradients) const {
    const auto da = Vector<double>::Map(sums.data(), channels());
    if (has(PolicyFault::kOverwrittenSums)) gradients.a.setZero();
    gradients.a += (has(PolicyFault::kDoubledSums) ? 2 : 1) * da;
    if (has(PolicyFault::kForgottenTensor) || has(PolicyFault::kSumsNobodyCounts)) return;
    gradients.b += Vector<double>::Map(sums.data() + channels(), channels());
  }
};

}  // namespace hsm::test
