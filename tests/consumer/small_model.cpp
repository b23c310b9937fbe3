// SPDX-License-Identifier: MIT
//
// A small language model in a program of its own, for compilers and machines where the test suite does not run
// (.ci/platforms): it is trained, saved and loaded, and its session is cut in two through a file.
#include <hsm/io/model_file.hpp>
#include <hsm/io/session_file.hpp>
#include <hsm/training/trainer.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using Model = hsm::LanguageModel<float>;
using Ids = std::vector<std::int32_t>;

bool report(bool ok, const char* what) {
  std::printf("%-4s %s\n", ok ? "ok" : "BAD", what);
  return ok;
}

/// The token of the highest logit.
std::int32_t best(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

int main() {
  hsm::Random random(3);
  const hsm::LanguageModelConfig config{.vocabulary = 8,
                                        .width = 16,
                                        .feed_forward = 32,
                                        .context = 16,
                                        .layers = "ab,channel,gated,softmax-local:heads=2,attention:heads=2"};
  Model model(config, random);
  Ids text;
  for (int i = 0; i < 2000; ++i) text.push_back((i * i / 3) % 8);  // a period of 24
  hsm::Workspace workspace;
  double first = 0;
  const hsm::TrainingProgress end =
      hsm::train(model, text, text, {.batch = 4, .steps = 60, .learning_rate = 1e-2}, workspace,
                 [&](const hsm::TrainingProgress& now) {
                   if (now.step == 1) first = now.loss;
                   return true;
                 });
  std::printf("     loss %.3f at first, %.3f after %d steps\n", first, *end.validation_loss,
              static_cast<int>(end.step));
  bool ok = report(*end.validation_loss < 0.8 * first, "a model learns");

  // Names of this run alone: others may run beside it.
  const auto directory = std::filesystem::temp_directory_path();
  const std::string own = std::to_string(std::random_device{}()) + std::to_string(std::random_device{}());
  const auto model_path = directory / ("hsm-small-model-" + own + ".safetensors");
  const auto session_path = directory / ("hsm-small-session-" + own + ".safetensors");
  // [shown]
  hsm::save_model(model_path, model);
  const auto loaded = hsm::load_model<Model>(model_path);
  // [/shown]
  bool same = true;
  Model::visit([&](std::string_view, const auto& a, const auto& b) { same &= a == b; }, model, loaded);
  ok &= report(same, "a saved model comes back to the bit");

  // 12 tokens and 12 more, against 12, a file, and 12 more.
  const std::span<const std::int32_t> prompt(text.data(), 12);
  hsm::GenerationSession<Model> whole(model, workspace);
  whole.prefill(prompt);
  // [shown]
  hsm::save_session(session_path, whole);
  hsm::GenerationSession<Model> cut(loaded, workspace, hsm::load_session(session_path, loaded).memory);
  // [/shown]
  same = true;
  for (int i = 0; i < 12; ++i) {
    const auto a = whole.logits(), b = cut.logits();
    same &= std::equal(a.begin(), a.end(), b.begin(), b.end());
    const std::int32_t token = best(a);
    whole.next(token);
    cut.next(token);
  }
  ok &= report(same, "a session goes on from its file with the same bits");
  std::error_code ignored;
  std::filesystem::remove(model_path, ignored);
  std::filesystem::remove(session_path, ignored);
  return ok ? 0 : 1;
}
