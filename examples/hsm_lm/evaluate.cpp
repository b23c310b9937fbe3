// SPDX-License-Identifier: MIT
//
// hsm_lm evaluate.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include <hsm/io/text_file.hpp>
#include <hsm/training/evaluation.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/support/progress.hpp"

namespace hsm::examples {
namespace {

struct EvaluateOptions {
  std::string model, text;
  bool carry = false;
  ThreadOptions threads;
};

void print(const Evaluation& evaluation, bool carry) {
  const double perplexity = evaluation.perplexity();
  std::printf("loss           %.4f nats per byte\nbits per byte  %.4f\nperplexity     %s\n\n",
              evaluation.nats(), evaluation.bits(),
              std::isfinite(perplexity) ? format("%.3f", perplexity).c_str() : "above 1e308");
  std::printf("bytes read before    loss  bits per byte     bytes\n");
  const auto end = static_cast<Index>(evaluation.by_position.size());
  for (Index first = 1, last = std::min<Index>(8, end); first <= end;
       first = last + 1, last = std::min(2 * last, end)) {
    Evaluation part;
    part.total = evaluation.between(first, last);
    const std::string range =
        carry && last == end ? format("%td or more", first) : format("%td-%td", first, last);
    std::printf("%17s  %6.4f  %13.4f  %8td\n", range.c_str(), part.nats(), part.bits(), part.total.count);
  }
}

void run_evaluate(const EvaluateOptions& options) {
  const Model model = load_byte_model(options.model);
  if (options.carry && model.config().positions != Positions::kNone)
    throw std::invalid_argument("--carry needs a model without positions, and those of " + options.model +
                                " are learned");
  const std::vector<std::int32_t> text = ByteTokenizer::encode(read_text_file(options.text));
  if (text.size() < 2) {
    throw std::invalid_argument(options.text +
                                ": must have at least 2 bytes, one to read and one to predict, got " +
                                std::to_string(text.size()));
  }
  Runtime runtime(options.threads);
  ProgressLine line;
  constexpr Index kTokensAtATime = 8192;
  const EvaluationConfig config{.batch = std::clamp<Index>(kTokensAtATime / model.config().context, 1, 64),
                                .carry = options.carry};
  const Evaluation evaluation = evaluate(
      model, std::span<const std::int32_t>(text), config, runtime.workspace, [&](Index done, Index all) {
        if (line.due()) {
          line.update(format("%td of %td windows (%.0f %%)", done, all,
                             100 * static_cast<double>(done) / static_cast<double>(all)));
        }
        return true;
      });
  line.clear();
  if (!std::isfinite(evaluation.nats())) {
    throw std::runtime_error(options.model + ": its loss on " + options.text +
                             " is not a number; its weights are too large to compute with");
  }
  print(evaluation, options.carry);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto options = std::make_shared<EvaluateOptions>();
  CLI::App* command = app.add_subcommand("evaluate", "Measure how well a model predicts a text");
  add_file(*command, "--model", options->model, "model file")->required();
  add_file(*command, "--text", options->text, "file to predict")->required();
  command->add_flag(
      "--carry", options->carry,
      "read the text as one sequence, each byte predicted from all before it, instead of windows "
      "of the model's context that know nothing of each other; for models without positions");
  options->threads.add_to(*command);
  command->callback([options] { run_evaluate(*options); });
}

}  // namespace hsm::examples
