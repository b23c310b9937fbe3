// SPDX-License-Identifier: MIT
//
// Models of equal size: chooses the width of the feed-forward networks so that the total comes nearest to a
// target. Layers that cost less (an (a,b) mixer has 2 H values, attention 4 C^2 + 4 C) so get wider networks,
// and models with different mixers can be compared at one number of parameters.
//
//   total(F) = total(1) + (F - 1) L (2 C + 1)
//
// Cost: that of making one model with F = 1: O(V C) and the mixers.
#pragma once

#include <string>

#include <hsm/core/parameters.hpp>
#include <hsm/model/language_model.hpp>

namespace hsm::inline HSM_ABI {

/// The number of values in all tensors of a model of this config. Cost as in the file comment. Throws what the
/// constructor of the model throws.
template <class List = StandardPolicies>
Index parameters_of(LanguageModelConfig config) {
  const Index width = config.feed_forward;
  detail::check_at_least("parameters_of", "feed_forward", width, 1);
  config.feed_forward = 1;
  Random random(1);
  const LanguageModel<float, List> model(config, random);
  return count_parameters(model) + (width - 1) * model.layer_count() * (2 * config.width + 1);
}

/// The F for which a model of `config` has nearest to `target` parameters; the lower of two equally near.
/// config.feed_forward is not read. Throws std::invalid_argument if the model has more than `target`
/// parameters already with F = 1, and what the constructor of the model throws.
template <class List = StandardPolicies>
Index feed_forward_for(LanguageModelConfig config, Index target) {
  config.feed_forward = 1;
  const Index least = parameters_of<List>(config);
  if (target < least) {
    detail::fail("feed_forward_for", "the number of parameters",
                 "at least " + std::to_string(least) + ", which is that of feed-forward width 1",
                 std::to_string(target));
  }
  const Index per_width =
      static_cast<Index>(Recipe::parse(config.layers).layers.size()) * (2 * config.width + 1);
  const Index more = (target - least) / per_width, rest = (target - least) % per_width;
  return 1 + more + (2 * rest > per_width ? 1 : 0);
}

}  // namespace hsm::inline HSM_ABI
