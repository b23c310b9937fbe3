// SPDX-License-Identifier: MIT
//
// hsm_lm demo: trains a small hybrid on stories that it writes itself, or on a file, and shows
//
//   1. bits per byte on held-out text, beside a byte 5-gram model of the same training text
//   2. how often the right word is recalled from earlier in a story, beside that model and chance
//   3. a continuation, streamed
//   4. the time of one forward pass of some mixers and of attention, as the text grows

#include <cstdio>
#include <memory>
#include <numbers>
#include <string>
#include <string_view>

#include <hsm/core/parameters.hpp>
#include <hsm/model/sampler.hpp>
#include <hsm/model/session.hpp>
#include <hsm/training/trainer.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/demo_scores.hpp"
#include "examples/hsm_lm/demo_timing.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/text_output.hpp"
#include "examples/hsm_lm/training_memory.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {
namespace {

struct DemoOptions {
  ModelOptions model;
  ThreadOptions threads;
  TrainingConfig training;
  std::string text;
};

void print_text(const DemoText& text, const DemoOptions& options) {
  const auto seed = static_cast<unsigned long long>(options.training.seed);
  if (options.text.empty()) {
    std::printf(
        "text: stories by the built-in grammar, seed %llu; names that meet in a validation story\n"
        "      never meet in a training story\n",
        seed);
  } else {
    std::printf("text: %s, seed %llu; the end of it is held out\n", shown(options.text).c_str(), seed);
  }
  std::printf("      %zu bytes to train on, %zu to validate\n", text.training.size(), text.validation.size());
}

void print_model(const Model& model) {
  const LanguageModelConfig& config = model.config();
  std::string shifts;
  for (Index l = 0; l < model.layer_count(); ++l)
    shifts += (shifts.empty() ? "" : ",") + std::to_string(model.schedule().shift(l));
  std::printf("model: %s\n       shifts %s; width %td, feed-forward %td, context %td, %td parameters\n",
              config.layers.c_str(), shifts.c_str(), config.width, config.feed_forward, config.context,
              count_parameters(model));
}

/// Progress goes to stderr, the outcome to stdout.
void train_model(Model& model, const DemoText& text, const DemoOptions& options, Workspace& workspace) {
  const auto ids = ByteTokenizer::encode(text.training);
  ProgressLine line;
  const auto show = [&](const TrainingProgress& p) {
    if (line.due()) {
      line.update(format("training: step %td (%.0f %%)  %.3f bits per byte  %.0f bytes/s  %s left", p.step,
                         100 * p.fraction, p.smoothed_loss / std::numbers::ln2, p.tokens_per_second,
                         duration_text(p.seconds_left).c_str()));
    }
    return true;
  };
  TrainingProgress end;
  try {
    end = train(model, std::span<const std::int32_t>(ids), {}, options.training, workspace, show);
  } catch (const TrainingDiverged& error) {
    line.clear();
    throw std::runtime_error("the training diverged after step " + std::to_string(error.good_steps()) +
                             "; a smaller --learning-rate may help");
  }
  line.clear();
  std::printf("trained: %s of %td x %td bytes in %s, %.0f bytes/s\n\n", counted(end.step, "step").c_str(),
              options.training.batch, model.config().context, duration_text(end.seconds).c_str(),
              end.tokens_per_second);
  std::fflush(stdout);
}

void print_recall(const char* name, const RecallScore& model, const RecallScore& ngram) {
  const auto percent = [](double right, const RecallScore& score) {
    return 100 * RecallScore::share(right, score.places);
  };
  std::printf("  %-6s %6td places   model, of all bytes   %5.1f %%\n", name, model.places,
              percent(static_cast<double>(model.right_of_all), model));
  std::printf("                         model, of candidates %5.1f %%\n",
              percent(static_cast<double>(model.right_of_candidates), model));
  std::printf("                         5-gram               %5.1f %%\n",
              percent(static_cast<double>(ngram.right_of_candidates), ngram));
  std::printf("                         chance               %5.1f %%\n", percent(model.chance, model));
}

void print_scores(const Model& model, const DemoText& text, Workspace& workspace) {
  const ByteNgram ngram(text.training, 5);
  std::printf("held-out text, bits per byte:   model %.3f   byte 5-gram %.3f\n\n",
              model_bits_per_byte(model, text.validation, workspace), ngram.bits_per_byte(text.validation));
  std::fflush(stdout);
  if (text.recalls.empty()) return;
  const auto places = recall_places(text.validation, text.recalls);
  const RecallScores by_model = model_recall(model, text.validation, places, workspace);
  const RecallScores by_ngram = ngram_recall(ngram, text.validation, places);
  std::printf("recall: the first byte of a name, thing or place that the story has introduced\n");
  print_recall("echo", by_model[0], by_ngram[0]);
  print_recall("lookup", by_model[1], by_ngram[1]);
  std::printf(
      "  (echo repeats a word of the same scene, lookup needs what an earlier sentence tied together;\n"
      "  candidates are the words of that kind in the story)\n\n");
  std::fflush(stdout);
}

/// The beginning of the held-out text: two sentences of a story, or some 60 bytes, up to a whole character.
std::string prompt_of(const DemoText& text) {
  const std::string_view held_out = text.validation;
  std::size_t end = std::min<std::size_t>(60, held_out.size());
  while (end < held_out.size() && end > 56 && (held_out[end] & '\xC0') == '\x80') --end;
  if (!text.recalls.empty()) {
    end = held_out.find(". ");
    end = held_out.find(". ", end + 2) + 1;
  }
  return std::string(held_out.substr(0, end));
}

void print_continuation(const Model& model, const DemoText& text, const DemoOptions& options,
                        Workspace& workspace) {
  constexpr Index kLongest = 400;
  const std::string prompt = prompt_of(text);
  std::printf("the model goes on from a held-out beginning, which is set off by | (temperature 0.5):\n\n");
  GenerationSession session(model, workspace, {.on_full = OnFull::kRestart});
  session.prefill(ByteTokenizer::encode((text.recalls.empty() ? "" : "\n") + prompt));
  Sampler sampler({.temperature = 0.5});
  Random random(options.training.seed);
  TextOutput output("", false);
  output.push(prompt + "|");
  for (Index i = 0; i < kLongest; ++i) {
    const std::int32_t id = sampler(session.logits(), random);
    if (id == '\n' && !text.recalls.empty()) break;  // the end of the story
    const char byte = static_cast<char>(id);
    output.push(std::string_view(&byte, 1));
    session.next(id);
  }
  output.finish();
  std::printf("\n");
}

void print_times(int threads, Workspace& workspace) {
  const TimingConfig config{
      .layers = {"ab", "gated", "gated-pair", "softmax-local", std::string(kAttentionName)}};
  std::printf(
      "one forward pass, ms (ns per token): %td channels, shift %td, float, %s,\n"
      "median of %d alternating runs\n\n  %6s",
      config.channels, config.shift, counted(threads, "thread").c_str(), config.runs, "tokens");
  for (const std::string& layer : config.layers) std::printf("  %17s", layer.c_str());
  std::printf("\n");
  for (Index T = 256; T <= 8192; T *= 2) {
    std::printf("  %6td", T);
    for (const double seconds : forward_seconds(config, T, workspace)) {
      std::printf("  %8.3f (%6.0f)", seconds * 1e3, seconds * 1e9 / static_cast<double>(T));
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

void run_demo(const DemoOptions& options) {
  const DemoText text = options.text.empty() ? story_text(options.training.seed)
                                             : file_text(options.text, options.model.context);
  const LanguageModelConfig config = options.model.config();
  check_training_fits(config, options.training);
  Random random(options.training.seed);
  Model model(config, random);
  Runtime runtime(options.threads);
  print_text(text, options);
  print_model(model);
  std::fflush(stdout);
  train_model(model, text, options, runtime.workspace);
  print_scores(model, text, runtime.workspace);
  print_continuation(model, text, options, runtime.workspace);
  print_times(options.threads.threads, runtime.workspace);
}

/// What was measured best within the default minutes on two cores.
void set_defaults(DemoOptions& options) {
  options.model.layers = "3*ab:heads=8,attention:heads=6,ab:heads=8,attention:heads=6,ab:heads=8";
  options.model.width = 96;
  options.model.feed_forward = 256;
  options.model.context = 256;
  options.training.batch = 4;
  options.training.minutes = 3.5;
  options.training.learning_rate = 6e-3;
  options.training.warmup = 0.04;
  options.training.final_rate = 0.05;
}

}  // namespace

void add_demo(CLI::App& app) {
  constexpr Index kMost = Index{1} << 20;
  auto options = std::make_shared<DemoOptions>();
  set_defaults(*options);
  ModelOptions& model = options->model;
  TrainingConfig& training = options->training;
  CLI::App* command = app.add_subcommand("demo", "Train on built-in stories and show what the model learned");
  constexpr Bounds<Index> kSizes{1, kMost};
  add_file(*command, "--text", options->text, "learn from this file instead of the stories");
  add_number(*command, "--minutes", training.minutes, Bounds<double>{1e-3, 1e6}, "time to train");
  command->add_option("--layers", model.layers, "the mixers, such as 7*ab or ab,ab,attention:heads=4,ab")
      ->capture_default_str();
  add_number(*command, "--width", model.width, kSizes,
             "channels of a token, a multiple of the heads in --layers");
  add_number(*command, "--feed-forward", model.feed_forward, kSizes, "width of the feed-forward networks");
  add_number(*command, "--context", model.context, Bounds<Index>{2, kMost}, "bytes of a training window");
  add_number(*command, "--batch", training.batch, kSizes, "windows per step");
  add_number(*command, "--learning-rate", training.learning_rate, Bounds<double>{1e-12, 1e3},
             "highest learning rate");
  add_number(*command, "--seed", training.seed, kSeeds, "of the stories, the first weights and the windows");
  options->threads.add_to(*command);
  command->callback([options] { run_demo(*options); });
}

}  // namespace hsm::examples
