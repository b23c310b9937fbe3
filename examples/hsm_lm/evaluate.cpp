// SPDX-License-Identifier: MIT
//
// hsm_lm evaluate.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/training/evaluation.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/state_memory.hpp"
#include "examples/hsm_lm/texts.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {
namespace {

struct EvaluateOptions {
  std::string model, text;
  bool carry = false;
  ThreadOptions threads;
};

/// The bytes of the tokens of each entry of by_position: token i of the text is predicted from those before it.
std::vector<double> bytes_by_position(const TextTokenizer& tokenizer, std::span<const std::int32_t> text,
                                      std::size_t positions, bool carry) {
  std::vector<double> bytes(positions);
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    const std::size_t position = carry ? std::min(i, positions - 1) : i % positions;
    bytes[position] += static_cast<double>(tokenizer.piece(text[i + 1]).size());
  }
  return bytes;
}

/// Losses in nats per token and, by the bytes that the predicted tokens stand for, in bits per byte.
void print(const Evaluation& evaluation, const TextTokenizer& tokenizer, std::span<const std::int32_t> text,
           bool carry) {
  const std::vector<double> bytes = bytes_by_position(tokenizer, text, evaluation.by_position.size(), carry);
  const double all = std::accumulate(bytes.begin(), bytes.end(), 0.0);
  const auto bits = [](const Evaluation& of, double in) {
    return of.bits() * static_cast<double>(of.total.count) / in;
  };
  const double perplexity = evaluation.perplexity();
  const std::string unit = unit_of(tokenizer);
  std::printf("loss           %.4f nats per %s\nbits per byte  %.4f\nperplexity     %s\n", evaluation.nats(),
              unit.c_str(), bits(evaluation, all),
              std::isfinite(perplexity) ? format("%.3f", perplexity).c_str() : "above 1e308");
  if (!tokenizer.is_bytes())
    std::printf("tokens         %td predicted, of %s: %.3f bytes per token\n", evaluation.total.count,
                counted(all, "byte").c_str(), all / static_cast<double>(evaluation.total.count));
  std::printf("\n%17s    loss  bits per byte  %8s\n", (unit + "s read before").c_str(), (unit + "s").c_str());
  const auto end = static_cast<Index>(evaluation.by_position.size());
  for (Index first = 1, last = std::min<Index>(8, end); first <= end;
       first = last + 1, last = std::min(2 * last, end)) {
    Evaluation part;
    part.total = evaluation.between(first, last);
    const double in = std::accumulate(bytes.begin() + (first - 1), bytes.begin() + last, 0.0);
    const std::string range =
        carry && last == end ? format("%td or more", first) : format("%td-%td", first, last);
    std::printf("%17s  %6.4f  %13.4f  %8td\n", range.c_str(), part.nats(), bits(part, in), part.total.count);
  }
}

void run_evaluate(const EvaluateOptions& options) {
  const auto [model, tokenizer] = load_text_model(options.model);
  if (options.carry && model.config().positions != Positions::kNone)
    throw std::invalid_argument("--carry needs a model without positions, and those of " + options.model +
                                " are learned");
  const std::vector<std::int32_t> text = tokenizer.encode(read_text(options.text));
  if (text.size() < 2) {
    throw std::invalid_argument(options.text + ": must have at least 2 " + unit_of(tokenizer) +
                                "s, one to read and one to predict, got " + std::to_string(text.size()));
  }
  if (options.carry) check_state_fits(model.config(), static_cast<double>(text.size()));
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
  print(evaluation, tokenizer, text, options.carry);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto options = std::make_shared<EvaluateOptions>();
  CLI::App* command = app.add_subcommand("evaluate", "Measure how well a model predicts a text");
  add_file(*command, "--model", options->model, "model file")->required();
  add_file(*command, "--text", options->text, "file to predict")->required();
  command->add_flag(
      "--carry", options->carry,
      "read the text as one sequence, each token predicted from all before it, instead of windows "
      "of the model's context that know nothing of each other; for models without learned positions");
  options->threads.add_to(*command);
  command->callback([options] { run_evaluate(*options); });
}

}  // namespace hsm::examples
