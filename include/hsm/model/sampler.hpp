// SPDX-License-Identifier: MIT
//
// Chooses the next token from logits, in this order:
//
//   temperature   z / temperature; 0 takes the most probable token, the lowest id among equals, without a draw
//   top-k         keeps the k most probable tokens; 0 keeps all
//   top-p         of these keeps the fewest, most probable first, that sum to at least p; 1 keeps all
//
// then draws by the probabilities that remain, with one uniform() per token. Equal logits keep the order of their
// ids. O(V log V).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/random.hpp>

namespace hsm::inline HSM_ABI {

/// How a token is chosen.
struct SamplerOptions {
  double temperature = 1.0;  ///< >= 0
  Index top_k = 0;           ///< >= 0, 0 = all
  double top_p = 1.0;        ///< in (0, 1]
};

/// Draws tokens from logits.
class Sampler {
 public:
  /// Throws std::invalid_argument for options outside their range.
  explicit Sampler(SamplerOptions options) : options_(options) {
    detail::check_number("Sampler", options.temperature >= 0 && detail::is_finite(options.temperature),
                         "temperature", "at least 0 and finite", options.temperature);
    detail::check_at_least("Sampler", "top_k", options.top_k, 0);
    detail::check_number("Sampler", options.top_p > 0 && options.top_p <= 1, "top_p", "above 0 and at most 1",
                         options.top_p);
  }

  /// A token id by logits [V], of which -infinity is never drawn. Throws std::invalid_argument for no logits, one that
  /// is NaN, and where all are -infinity.
  template <class Scalar>
  std::int32_t operator()(std::span<const Scalar> logits, Random& random) {
    if (logits.empty())
      detail::raise<std::invalid_argument>("Sampler: expected the logits of at least one token, got none");
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (detail::is_nan(logits[i]))
        detail::raise<std::invalid_argument>("Sampler: the logit of token " + std::to_string(i) +
                                             " must be a number, got NaN");
    }
    const auto best = std::max_element(logits.begin(), logits.end());
    if (!detail::is_finite(*best) && *best < 0)
      detail::raise<std::invalid_argument>(
          "Sampler: the logit of at least one token must be above -infinity, got -infinity for each");
    if (options_.temperature == 0) return static_cast<std::int32_t>(best - logits.begin());
    order_.resize(logits.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    if (options_.top_k > 0)
      order_.resize((std::min)(order_.size(), static_cast<std::size_t>(options_.top_k)));
    weights_.clear();
    double sum = 0;
    for (const std::size_t id : order_) {
      weights_.push_back(
          std::exp((static_cast<double>(logits[id]) - static_cast<double>(*best)) / options_.temperature));
      sum += weights_.back();
    }
    double kept = 0;
    std::size_t count = 0;
    while (count < weights_.size() && (count == 0 || kept < options_.top_p * sum)) kept += weights_[count++];
    double draw = random.uniform() * kept;
    std::size_t chosen = 0;
    while (chosen + 1 < count && draw >= weights_[chosen]) draw -= weights_[chosen++];
    return static_cast<std::int32_t>(order_[chosen]);
  }

 private:
  SamplerOptions options_;
  std::vector<std::size_t> order_;
  std::vector<double> weights_;
};

}  // namespace hsm::inline HSM_ABI
