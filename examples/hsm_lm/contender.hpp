// SPDX-License-Identifier: MIT
//
// The models that are compared: recipes that may carry what tells them positions, and a schedule of their own,
//
//   7*ab      attention@learned      7*ab:heads=8@rotated:dyadic
//
// each made as large as all others by the width of its feed-forward networks.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/summary.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// A model that is tried.
struct Contender {
  static constexpr double kEverything = -1;

  std::string name{};  ///< its recipe, and after @ where its positions or schedule are not those of all
  LanguageModelConfig config{};
  Index parameters = 0;
  double reach = 0;  ///< the farthest offset of its shifts; kEverything where a layer sees all

  Index depth() const { return static_cast<Index>(Recipe::parse(config.layers).layers.size()); }
};

/// What recipes are where they do not say it.
struct ContenderDefaults {
  std::string schedule = "dyadic", positions = "none";
  Index width = 0;
};

namespace detail {

/// What stands behind an @.
enum class Suffix { kPositions, kSchedule };

/// Reads it, and tells what it was.
inline Suffix read_suffix(const std::string& suffix, Index layers, LanguageModelConfig& config) {
  if (suffix == "none" || suffix == "learned") {
    config.positions = suffix == "learned" ? Positions::kLearned : Positions::kNone;
    return Suffix::kPositions;
  }
  if (suffix.find_first_of(":=") != std::string::npos || suffix == "dyadic") {
    config.schedule = ScheduleText::parse(suffix, layers).text();
    return Suffix::kSchedule;
  }
  throw std::invalid_argument("after @ must come positions, none or learned, or a schedule, got " +
                              hsm::detail::in_quotes(suffix));
}

/// "attention@learned", without its size.
inline Contender contender_of(const std::string& text, const ContenderDefaults& defaults) {
  std::size_t end = std::min(text.find('@'), text.size());
  Contender contender;
  LanguageModelConfig& config = contender.config;
  const Recipe recipe = Recipe::parse(text.substr(0, end));
  const auto layers = static_cast<Index>(recipe.layers.size());
  config.layers = recipe.text();
  config.width = defaults.width;
  config.feed_forward = 1;
  const std::string usual = ScheduleText::parse(defaults.schedule, layers).text();
  config.schedule = usual;
  read_suffix(defaults.positions, layers, config);
  std::set<Suffix> told;
  while (end < text.size()) {
    const std::size_t next = std::min(text.find('@', end + 1), text.size());
    const std::string suffix = text.substr(end + 1, next - end - 1);
    if (!told.insert(read_suffix(suffix, layers, config)).second)
      throw std::invalid_argument("after @ must come positions and a schedule at most once each, got " +
                                  hsm::detail::in_quotes(suffix) + " behind another");
    end = next;
  }
  contender.name = config.layers + (config.positions == Positions::kLearned ? "@learned" : "") +
                   (config.schedule == usual ? "" : "@" + config.schedule);
  for (const LayerSummary& layer : layers_of(config))
    contender.reach =
        layer.sees_all() || contender.reach < 0 ? Contender::kEverything : contender.reach + layer.reach();
  return contender;
}

/// All that a model is but for its sizes: two recipes with the same are one.
inline std::string whole_text(const LanguageModelConfig& config) {
  return with_all_options(StandardLayers{}, Recipe::parse(config.layers), config.width).text() + "@" +
         (config.positions == Positions::kLearned ? "learned" : "none") + "@" + config.schedule;
}

/// What `read` gives. The message of what it throws has the recipe in front instead of a function of the library.
template <class Read>
auto of_recipe(const std::string& recipe, const Read& read) {
  try {
    return read();
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(hsm::detail::in_quotes(recipe) + ": " + without_name(error.what()));
  }
}

template <class Value>
void check_once(const char* option, const std::vector<Value>& values) {
  if (std::set<Value>(values.begin(), values.end()).size() < values.size())
    throw std::invalid_argument(std::string(option) + " must name each value once, got one twice");
}

}  // namespace detail

/// The recipes, each once, without their sizes. Throws std::invalid_argument for what is none, or, unless `merge` leaves it
/// out, is there twice.
inline std::vector<Contender> contenders_of(const std::vector<std::string>& recipes,
                                            const ContenderDefaults& defaults, bool merge = false) {
  std::vector<Contender> contenders;
  std::map<std::string, std::string> models;  // by all that they are, however it is spelled
  for (const std::string& text : recipes) {
    contenders.push_back(detail::of_recipe(text, [&] { return detail::contender_of(text, defaults); }));
    const auto [before, fresh] =
        models.emplace(detail::whole_text(contenders.back().config), contenders.back().name);
    if (fresh) continue;
    if (merge) {
      contenders.pop_back();
      continue;
    }
    throw std::invalid_argument("--layers must name each model once, got " +
                                (before->second == contenders.back().name
                                     ? hsm::detail::in_quotes(before->second) + " twice"
                                     : hsm::detail::in_quotes(before->second) + " and " +
                                           hsm::detail::in_quotes(contenders.back().name) +
                                           ", which are the same"));
  }
  return contenders;
}

/// Gives all contenders this vocabulary and context, and as near to `parameters` parameters as they come; 0 stands
/// for those of attention with learned positions, as many layers as the deepest has, and feed-forward networks four
/// times as wide as a token. Returns how many are wanted. Throws std::invalid_argument for too few.
inline Index make_equal(std::vector<Contender>& contenders, Index vocabulary, Index context,
                        Index parameters) {
  Index depth = 1;
  for (const Contender& contender : contenders) depth = std::max(depth, contender.depth());
  if (parameters == 0) {
    LanguageModelConfig attention = contenders.front().config;
    attention.layers = std::to_string(depth) + "*" + std::string(kAttentionName);
    attention.schedule = "cyclic=1";  // any that so many layers can have
    attention.positions = Positions::kLearned;
    attention.vocabulary = vocabulary;
    attention.context = context;
    attention.feed_forward = 4 * attention.width;
    parameters = parameters_of(attention);
  }
  for (Contender& contender : contenders) {
    contender.config.vocabulary = vocabulary;
    contender.config.context = context;
    contender.config.feed_forward =
        detail::of_recipe(contender.name, [&] { return feed_forward_for(contender.config, parameters); });
    contender.parameters = parameters_of(contender.config);
  }
  return parameters;
}

/// "123 (-4)": how many parameters, and how many more than wanted.
inline std::string parameters_text(const Contender& contender, Index wanted) {
  return format("%td (%+td)", contender.parameters, contender.parameters - wanted);
}

}  // namespace hsm::examples
