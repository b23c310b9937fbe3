// SPDX-License-Identifier: MIT
//
// What `hsm_lm compare` is told, and the contenders that follow from it.
#pragma once

#include <cmath>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "examples/hsm_lm/compare_texts.hpp"
#include "examples/hsm_lm/contender.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/training_memory.hpp"

namespace hsm::examples {

/// The options of `hsm_lm compare`. A 0 or an empty list stands for the default of the form.
struct CompareOptions {
  std::string text{}, valid{}, tokenizer{}, out{}, schedule = "dyadic", positions = "none";
  std::vector<std::string> layers{};
  std::vector<double> rates{1e-3, 3e-3, 1e-2};
  std::vector<std::uint64_t> seeds{1, 2};
  Index depth = 0, width = 0, context = 0, parameters = 0, tokens = 0, batch = 0;
  bool quick = false, speeds = false;
  std::vector<Index> speed_contexts{}, speed_windows{};
  ThreadOptions threads{};
};

/// The sizes of a form where none are given.
struct CompareDefaults {
  Index depth, width, context, batch, tokens;
  std::vector<Index> speed_contexts;
  double speed_seconds;  ///< of one measurement
  std::size_t story_bytes;
};

/// Of a file; of the built-in stories, some minutes on two cores; of --quick, some seconds.
inline CompareDefaults compare_defaults(const CompareOptions& options) {
  if (options.quick) return {3, 16, 32, 4, 2048, {32, 128}, 0.005, 20'000};
  if (options.text.empty()) return {5, 64, 64, 16, 200'000, {100, 1000}, 0.3, 400'000};
  return {7, 128, 128, 16, 4'000'000, {100, 10'000}, 1, 0};
}

/// All that is run.
struct ComparePlan {
  std::vector<Contender> contenders{};
  Index parameters = 0;      ///< wanted of each
  Index steps = 0;           ///< of a run
  double speed_seconds = 0;  ///< of one measurement
  CompareTexts texts{};
};

/// What is compared where no recipes are given: attention, each mixer, and hybrids with attention in two and in three
/// places. The one list of them.
inline std::vector<std::string> compare_recipes(Index depth) {
  std::vector<std::string> all,
      layers{"attention@learned", "attention:rotary=10000", "ab:heads=8@rotated:dyadic"};
  [&]<template <class> class... Policies>(LayerList<Policies...>) {
    (layers.emplace_back(Policies<float>::kName), ...);
  }(StandardPolicies{});
  for (const std::string& layer : layers) all.push_back(std::to_string(depth) + "*" + layer);
  const auto hybrid = [&](const std::string& mixer, const std::set<Index>& places) {
    std::string recipe;
    for (Index l = 0; l < depth; ++l)
      recipe += (l > 0 ? "," : "") + (places.contains(l) ? std::string(kAttentionName) : mixer);
    if (static_cast<Index>(places.size()) < depth) all.push_back(recipe);
  };
  if (depth < 3) return all;
  hybrid("ab", {depth / 2, depth - 1 - (depth > 3)});
  hybrid("gated-pair", {depth / 2, depth - 1 - (depth > 3)});
  hybrid("ab", {1, depth / 2, depth - 1 - (depth > 3)});
  std::vector<std::string> different;  // of three layers some hybrids are alike
  for (const std::string& recipe : all) {
    if (std::find(different.begin(), different.end(), recipe) == different.end()) different.push_back(recipe);
  }
  return different;
}

/// Fills the defaults into `options`, reads the texts and lists what to run. Throws std::invalid_argument for
/// recipes, sizes, texts or a number of parameters that do not fit.
inline ComparePlan plan_compare(CompareOptions& options) {
  if (options.text.empty() && !options.valid.empty())
    throw std::invalid_argument("--valid needs --text: the built-in stories have their own");
  const CompareDefaults defaults = compare_defaults(options);
  const auto fill = [](Index& value, Index otherwise) { value = value > 0 ? value : otherwise; };
  fill(options.depth, defaults.depth);
  fill(options.width, defaults.width);
  fill(options.context, defaults.context);
  fill(options.batch, defaults.batch);
  fill(options.tokens, defaults.tokens);
  const bool usual = options.layers.empty();  // of which a schedule may make two one model
  if (usual) options.layers = compare_recipes(options.depth);
  if (options.speed_contexts.empty()) options.speed_contexts = defaults.speed_contexts;
  if (options.speed_windows.empty()) options.speed_windows = {options.context};

  ComparePlan plan;
  plan.speed_seconds = defaults.speed_seconds;
  plan.contenders =
      contenders_of(options.layers, {options.schedule, options.positions, options.width}, usual);
  detail::check_once("--learning-rates", options.rates);
  detail::check_once("--seeds", options.seeds);
  detail::check_once("--speed-contexts", options.speed_contexts);
  detail::check_once("--speed-windows", options.speed_windows);
  std::sort(options.speed_contexts.begin(), options.speed_contexts.end());
  std::sort(options.speed_windows.begin(), options.speed_windows.end());
  const double step = static_cast<double>(options.batch) * static_cast<double>(options.context);
  if (static_cast<double>(options.tokens) < step) {
    throw std::invalid_argument(
        format("--tokens must be at least those of a step, %.0f, got %td", step, options.tokens));
  }
  plan.steps = static_cast<Index>(std::llround(static_cast<double>(options.tokens) / step));
  plan.texts = read_compare_texts({options.text, options.valid, options.tokenizer, defaults.story_bytes},
                                  options.context);
  plan.parameters = make_equal(plan.contenders, plan.texts.vocabulary, options.context, options.parameters);
  for (const Contender& contender : plan.contenders)
    check_training_fits(contender.config, {.batch = options.batch});
  return plan;
}

}  // namespace hsm::examples
