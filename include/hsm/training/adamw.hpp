// SPDX-License-Identifier: MIT
//
// AdamW: Adam with weight decay that does not pass through the moments (Loshchilov & Hutter, arXiv
// 1711.05101; Adam: Kingma & Ba, arXiv 1412.6980). At step t = 1, 2, ... with gradient g and learning rate r:
//
//   m = beta1 m + (1 - beta1) g                  v = beta2 v + (1 - beta2) g^2
//   p = p - r decay p - r (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
//
// It works on any parameter struct with the static visit(f, parameters, more...), which calls
// f(name, tensor, more_tensors...) for Eigen matrices and vectors. Which of them decay is said by describe() of the
// parameters (core/tensor_spec.hpp), as a model has it, else by their names (`decays`).
// Cost: 4 reads and 3 writes per parameter. Each element is computed by itself: threads change no bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/tensor_spec.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// Hyper-parameters of AdamW; the defaults are those common for language models.
struct AdamWConfig {
  double beta1 = 0.9;         ///< memory of the mean gradient, in [0, 1)
  double beta2 = 0.95;        ///< memory of the mean squared gradient, in [0, 1)
  double epsilon = 1e-8;      ///< added to the root, > 0
  double weight_decay = 0.1;  ///< per unit of learning rate, >= 0

  /// Whether all are equal.
  bool operator==(const AdamWConfig&) const = default;
};

/// Whether weight decay applies to the tensor of this name, where the parameters have no describe(): to weight matrices,
/// "...weight", except those of embeddings, positions and norms. Biases, gains and mixing scalars never decay.
constexpr bool decays(std::string_view name) {
  const auto contains = [name](std::string_view part) { return name.find(part) != std::string_view::npos; };
  return name.ends_with("weight") && !contains("embedding") && !contains("position") && !contains("norm");
}

/// The optimizer's state: two moments in the shape of the parameters, and the number of steps.
template <class Parameters>
class AdamW {
 public:
  /// Moments of 0 in the shape of `like`. Throws std::invalid_argument for a config outside its bounds.
  explicit AdamW(const Parameters& like, AdamWConfig config = {})
      : config_(checked(config)), first_(like), second_(like) {
    const auto zero = [this](std::string_view, auto& m, auto& v) {
      check_rounded<typename std::remove_cvref_t<decltype(m)>::Scalar>(config_);
      m.setZero();
      v.setZero();
    };
    Parameters::visit(zero, first_, second_);
    if constexpr (requires { like.describe(); }) {
      for (const TensorSpec& spec : like.describe()) decays_.push_back(spec.decays);
    } else {
      Parameters::visit([&](std::string_view name, const auto&) { decays_.push_back(hsm::decays(name)); },
                        like);
    }
  }

  /// Updates p by one step. Throws std::invalid_argument, with nothing changed, if a tensor of `gradients` or
  /// of p has another shape than its moments, or for a learning rate that check_rate refuses.
  /// Gradients that are not finite spoil parameters and moments, and one whose square is not in its scalar (above 1.8e19 in
  /// float) leaves its parameter where it is from then on; look at their norm first (gradient_clip.hpp).
  void step(Parameters& p, const Parameters& gradients, double learning_rate, Executor& executor);

  /// The same on the calling thread.
  void step(Parameters& p, const Parameters& gradients, double learning_rate) {
    SerialExecutor serial;
    step(p, gradients, learning_rate, serial);
  }

  /// Throws std::invalid_argument, which `who` begins, unless each tensor of p has the shape of its moments.
  void check_like(const std::string& who, const Parameters& p) const { check_shapes(who, p, second_); }

  /// Throws std::invalid_argument, which `who` begins, for a learning rate that is negative or not finite, or that is not
  /// in the scalar of the parameters once it is divided by 1 - beta1, as the first step does, or multiplied by the decay.
  void check_rate(const char* who, double learning_rate) const {
    detail::check_number(who, learning_rate >= 0 && detail::is_finite(learning_rate), "learning_rate",
                         "at least 0 and finite", learning_rate);
    const double largest =
        (std::max)(learning_rate / (1 - config_.beta1), learning_rate * config_.weight_decay);
    Parameters::visit(
        [&](std::string_view, const auto& tensor) {
          using Scalar = typename std::remove_cvref_t<decltype(tensor)>::Scalar;
          constexpr double kMost = static_cast<double>((std::numeric_limits<Scalar>::max)());
          detail::check_number(who, largest <= kMost, "learning_rate",
                               "finite as a scalar of the parameters, over 1 - beta1 and with the decay",
                               learning_rate);
        },
        first_);
  }

  /// The hyper-parameters it was made with.
  const AdamWConfig& config() const { return config_; }
  /// Steps taken.
  Index steps() const { return steps_; }
  /// m, the decaying mean of gradients.
  const Parameters& first_moment() const { return first_; }
  /// v, the decaying mean of squared gradients.
  const Parameters& second_moment() const { return second_; }

  /// Goes on from saved moments after `steps` steps. Throws std::invalid_argument, with nothing changed, if a
  /// tensor has another shape or steps < 0.
  void restore(Parameters first, Parameters second, Index steps) {
    detail::check_at_least("AdamW::restore", "steps", steps, 0);
    check_shapes("AdamW::restore", first, second);
    first_ = std::move(first);
    second_ = std::move(second);
    steps_ = steps;
  }

  /// Goes on after `steps` steps, where the moments were filled through `visit`. Throws std::invalid_argument for
  /// steps < 0.
  void set_steps(Index steps) {
    detail::check_at_least("AdamW::set_steps", "steps", steps, 0);
    steps_ = steps;
  }

  /// Calls f(name, tensor, more...) for each tensor of first_moment, then of second_moment, to save and to fill
  /// them; their shapes must stay.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Parameters::visit(named("first_moment", f), self.first_, more.first_...);
    Parameters::visit(named("second_moment", f), self.second_, more.second_...);
  }

 private:
  /// Constants of one step for one tensor.
  template <class Scalar>
  struct Constants {
    Scalar beta1, rest1;  // beta1 and 1 - beta1
    Scalar beta2, rest2;
    Scalar rate;  // r / (1 - beta1^t)
    Scalar root;  // 1 / sqrt(1 - beta2^t)
    Scalar epsilon;
    Scalar minus_decay;  // -r decay
  };

  static void check(bool good, const char* what, const char* expected, double got) {
    detail::check_number("AdamW", good, what, expected, got);
  }
  /// What is in its bounds as a double may round to their end.
  template <class Scalar>
  static void check_rounded(const AdamWConfig& config) {
    check(static_cast<Scalar>(config.beta1) < 1, "beta1", "below 1 as a scalar of the parameters",
          config.beta1);
    check(static_cast<Scalar>(config.beta2) < 1, "beta2", "below 1 as a scalar of the parameters",
          config.beta2);
    check(static_cast<Scalar>(config.epsilon) > 0, "epsilon", "above 0 as a scalar of the parameters",
          config.epsilon);
  }
  static AdamWConfig checked(const AdamWConfig& config) {
    check(config.beta1 >= 0 && config.beta1 < 1, "beta1", "in [0, 1)", config.beta1);
    check(config.beta2 >= 0 && config.beta2 < 1, "beta2", "in [0, 1)", config.beta2);
    check(config.epsilon > 0 && detail::is_finite(config.epsilon), "epsilon", "above 0 and finite",
          config.epsilon);
    check(config.weight_decay >= 0 && detail::is_finite(config.weight_decay), "weight_decay",
          "at least 0 and finite", config.weight_decay);
    return config;
  }

  void check_shapes(const std::string& who, const Parameters& a, const Parameters& b) const {
    const auto check = [&who](std::string_view name, const auto& m, const auto& x, const auto& y) {
      const auto shape = [](const auto& tensor) { return Shape<2>{tensor.rows(), tensor.cols()}; };
      for (const Shape<2>& got : {shape(x), shape(y)}) {
        if (got != shape(m)) {
          detail::fail(who, std::string(name), detail::to_text(shape(m)), detail::to_text(got));
        }
      }
    };
    Parameters::visit(check, first_, a, b);
  }

  template <class Scalar>
  static void update(const Constants<Scalar>& k, Index n, Scalar* p, const Scalar* g, Scalar* m, Scalar* v);

  AdamWConfig config_;
  Parameters first_, second_;
  std::vector<bool> decays_;  // by the order of visit
  Index steps_ = 0;
};

template <class Parameters>
void AdamW<Parameters>::step(Parameters& p, const Parameters& gradients, double learning_rate,
                             Executor& executor) {
  check_rate("AdamW::step", learning_rate);
  check_shapes("AdamW::step", p, gradients);
  check_shapes("AdamW::step", first_, second_);
  ++steps_;
  const double t = static_cast<double>(steps_);
  const double rate = learning_rate / (1 - std::pow(config_.beta1, t));
  const double root = 1 / std::sqrt(1 - std::pow(config_.beta2, t));
  std::size_t next = 0;
  const auto update_tensor = [&](std::string_view, auto& tensor, const auto& gradient, auto& m, auto& v) {
    using Scalar = typename std::remove_cvref_t<decltype(tensor)>::Scalar;
    const Constants<Scalar> k{
        .beta1 = Scalar(config_.beta1),
        .rest1 = Scalar(1 - config_.beta1),
        .beta2 = Scalar(config_.beta2),
        .rest2 = Scalar(1 - config_.beta2),
        .rate = Scalar(rate),
        .root = Scalar(root),
        .epsilon = Scalar(config_.epsilon),
        .minus_decay = Scalar(decays_[next++] ? -learning_rate * config_.weight_decay : 0.0)};
    constexpr Index kTaskElements = 16384;
    parallel_blocks(executor, tensor.size(), kTaskElements, [&](Index first, Index size, int) {
      update(k, size, tensor.data() + first, gradient.data() + first, m.data() + first, v.data() + first);
    });
  };
  Parameters::visit(update_tensor, p, gradients, first_, second_);
}

template <class Parameters>
template <class Scalar>
void AdamW<Parameters>::update(const Constants<Scalar>& k, Index n, Scalar* p, const Scalar* g, Scalar* m,
                               Scalar* v) {
  // In parts, with a loop of its own for the root: std::sqrt sets errno and so keeps its loop from becoming
  // vector code, and Eigen's packet root is an estimate for float, with other bits on other processors.
  constexpr Index kPiece = 256;
  Scalar root[kPiece];
  for (Index first = 0; first < n; first += kPiece) {
    const Index size = (std::min)(kPiece, n - first);
    for (Index j = 0; j < size; ++j) {
      const Index i = first + j;
      m[i] = multiply_add(k.beta1, m[i], k.rest1 * g[i]);
      v[i] = multiply_add(k.beta2, v[i], k.rest2 * g[i] * g[i]);
    }
    for (Index j = 0; j < size; ++j) root[j] = std::sqrt(v[first + j]);
    for (Index j = 0; j < size; ++j) {
      const Index i = first + j;
      const Scalar direction = m[i] / multiply_add(k.root, root[j], k.epsilon);
      p[i] = multiply_add(-k.rate, direction, multiply_add(k.minus_decay, p[i], p[i]));
    }
  }
}

}  // namespace hsm::inline HSM_ABI
