// SPDX-License-Identifier: MIT
//
// What the page shows of a stack: the JSON of `hsm_lm info --json`, costs at many contexts, and a drawing of its paths.
#pragma once

#include <string>
#include <vector>

#include "examples/hsm_lm/stack_json.hpp"
#include "examples/hsm_lm/stack_report.hpp"
#include "examples/web/request.hpp"

namespace hsm::examples {

/// The stack that the page asks for: the options of `hsm_lm info`, with its defaults.
inline LanguageModelConfig asked_stack(const Json& request) {
  LanguageModelConfig config{.vocabulary = size_in(request, "vocabulary", 256),
                             .width = size_in(request, "width", 128),
                             .feed_forward = size_in(request, "feed_forward"),
                             .context = size_in(request, "context", 128),
                             .positions = Positions::kNone,
                             .layers = request.at("layers").get<std::string>(),
                             .schedule = request.value("schedule", std::string("dyadic"))};
  if (!request.contains("feed_forward")) config.feed_forward = 4 * config.width;
  return stated(config);
}

/// A drawing `width` pixels wide, in which the paths of the offset `from`, unless it is -1, stand out.
inline Json picture_json(const StackReport& report, double width, Index from) {
  if (!report.covered.coverage) return nullptr;
  const StackPicture picture = report.picture({}, {.width = width, .from = from});
  return {{"svg", picture.file()},
          {"left", picture.left()},
          {"pitch", picture.pitch()},
          {"tokens", picture.tokens()},
          {"notes", picture.narrow() ? picture.notes() : std::vector<std::string>()}};
}

/// The answer to {"call": "explore"}.
inline Json explore(const Json& request) {
  const StackReport report(asked_stack(request));
  std::vector<double> contexts;
  for (double power = 10; power < 1e6; power *= 10)
    contexts.insert(contexts.end(), {power, 2 * power, 5 * power});
  contexts.push_back(1e6);
  return {{"info", stack_json(report)},
          {"curves",
           {{"stack", costs_json(report.cost, contexts)},
            {"attention", report.attention ? costs_json(report.attention->cost, contexts) : Json()}}},
          {"picture", picture_json(report, request.value("picture_width", 980.0),
                                   request.value("from", PictureOptions::kEvery))}};
}

}  // namespace hsm::examples
