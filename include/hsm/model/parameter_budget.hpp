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

#include <hsm/model/language_model_config.hpp>
#include <hsm/model/layer_size.hpp>
#include <hsm/schedule/schedule_text.hpp>

namespace hsm::inline HSM_ABI {

/// The number of values in a block of width C: its mixer, two norms and its feed-forward network of width F.
/// Throws std::invalid_argument for more than can be counted.
inline Index block_parameters(Index mixer, Index C, Index F) {
  detail::SizeSum sum("block_parameters");
  sum.add({mixer});
  sum.add({4, C});
  sum.add({F, 2 * C + 1});
  sum.add({C});
  return sum.value();
}

/// The number of values in all tensors of a model of this config. Throws what the constructor of the model
/// throws, but for a context or a shift that are too large, and std::invalid_argument for more than can be counted.
template <class List = StandardLayers>
Index parameters_of(const LanguageModelConfig& config) {
  constexpr const char* kWho = "parameters_of";
  const Index C = config.width;
  detail::check_at_least(kWho, "vocabulary", config.vocabulary, 1);
  detail::check_at_least(kWho, "width", C, 1);
  detail::check_at_least(kWho, "feed_forward", config.feed_forward, 1);
  detail::check_at_least(kWho, "context", config.context, 1);
  const Recipe recipe = Recipe::parse(config.layers);
  ScheduleText::parse(config.schedule, static_cast<Index>(recipe.layers.size()));
  detail::SizeSum sum(kWho);
  sum.add({config.vocabulary, C});
  if (config.positions == Positions::kLearned) sum.add({config.context, C});
  for (const LayerSize& layer : layer_sizes<List>(recipe, C))
    sum.add({block_parameters(layer.parameters, C, config.feed_forward)});
  sum.add({2, C});
  return sum.value();
}

/// The F for which a model of `config` has nearest to `target` parameters; the lower of two equally near.
/// config.feed_forward is not read. Throws std::invalid_argument if the model has more than `target`
/// parameters already with F = 1, and what the constructor of the model throws.
template <class List = StandardLayers>
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
