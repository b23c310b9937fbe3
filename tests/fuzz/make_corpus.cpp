// SPDX-License-Identifier: MIT
//
// Writes the files of the corpus that hold numbers: safetensors, models, checkpoints, sessions and
// tokenizers, below the directory that is given. Run by `tests/fuzz/run.sh --corpus`, after a change of a file format or of the
// fuzz model.
#include <fstream>
#include <iostream>
#include <iterator>

#include "fuzz/checkpoint_fuzz.hpp"
#include "fuzz/session_fuzz.hpp"
#include "io/sentencepiece_proto.hpp"

namespace hsm::test {
namespace {

std::filesystem::path directory;  // NOLINT: of this program alone

std::string read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

void put(const std::string& name, const std::string& bytes) {
  std::ofstream stream(directory / name, std::ios::binary);
  if (!stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush())
    throw std::runtime_error("cannot write " + (directory / name).string());
}

/// A file with this header and this many bytes of data.
std::string raw_file(const std::string& header, std::size_t data) {
  std::string length(8, '\0');
  const std::uint64_t n = header.size();
  std::memcpy(length.data(), &n, 8);
  return length + header + std::string(data, '\x3c');
}

void make_safetensors() {
  const std::vector<float> numbers{1, -2, 0.5f, std::numeric_limits<float>::quiet_NaN(), 0, 1e30f};
  const std::vector<double> wide{1, 1e300};
  const std::vector<std::int64_t> counts{7};
  SafetensorsWriter writer;
  writer.set_metadata("format", "test");
  writer.set_metadata("\u00e9\n", "\"quoted\"");
  writer.add("d", {2, 1}, std::span<const double>(wide));
  writer.add("n", {1}, std::span<const std::int64_t>(counts));
  writer.add("f", {2, 3}, std::span<const float>(numbers));
  writer.add("none", {0, 5}, std::span<const float>());
  writer.add("half", DType::f16, {2, 2}, std::as_bytes(std::span(wide)).first(8));
  writer.add("brain", DType::bf16, {}, std::as_bytes(std::span(wide)).first(2));
  writer.write(directory / "safetensors/every_kind");
  put("safetensors/empty", raw_file("{}", 0));
  put("safetensors/huge_length", std::string(7, '\xff') + "\x7f{}");
  put("safetensors/huge_shape",
      raw_file(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", 8));
  put("safetensors/overlap", raw_file(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                                      R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                                      6));
  put("safetensors/nested", raw_file("{\"a\":" + std::string(200, '[') + "}", 0));
}

void make_models() {
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const std::string name = positions == Positions::kNone ? "model/none" : "model/learned";
    save_model(directory / name, fuzz_model(positions));
  }
  Random random(1);
  LanguageModelConfig config = fuzz_config(Positions::kNone);
  config.layers = "ab,2*gated,gated-pair:heads=2";
  config.schedule = "list=1,2,3,1";
  FuzzModel other(config, random);
  set_exact(other);
  save_model(directory / "model/gated", other);
  // A width that two tensors of bytes seem to bear out, in a model whose mixer would take 196 MB.
  config = {
      .vocabulary = 1, .width = 3500, .feed_forward = 1, .layers = "softmax-local", .schedule = "dyadic"};
  const std::vector<std::uint8_t> bytes(3500);
  SafetensorsWriter writer;
  writer.set_metadata("format", std::string(kModelFormat));
  writer.set_metadata("version", std::string(kModelVersion));
  writer.set_metadata("config", config_to_json(config));
  writer.add("embedding.weight", {1, 3500}, std::span<const std::uint8_t>(bytes));
  writer.add("layers.0.feed_forward.up.weight", {1, 3500}, std::span<const std::uint8_t>(bytes));
  writer.write(directory / "model/lying_width");
}

void make_sessions() {
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const FuzzModel model = fuzz_model(positions);
    Workspace workspace;
    GenerationSession session(model, workspace, {.streams = 3, .on_full = OnFull::kRestart, .spare = 1});
    session.prefill(std::vector<std::int32_t>{1, 2, 3, 4, 0, 1, 2}, std::vector<Index>{0, 5, 7},
                    std::vector<Index>{0, 2});
    session.rewind(0, 1);
    save_session(directory / "one", session, {{"seed", "12"}});
    put(positions == Positions::kNone ? "session/none" : "session/learned",
        std::string(1, positions == Positions::kNone ? '\0' : '\1') + read(directory / "one"));
  }
  const auto put_state = [](const std::string& name, char reader, const auto& layer) {
    auto state = layer.make_state({.streams = 2});
    for (int t = 0; t < 2; ++t) fuzz_step(layer, state);
    save_state(directory / "one", layer, state);
    put("session/" + name, reader + read(directory / "one"));
  };
  put_state("pair", '\2', fuzz_pair());
  put_state("local", '\3', fuzz_local());
  put_state("attention", '\4', fuzz_attention());
  put_state("window", '\5', fuzz_attention(2));
  put_state("blocks", '\6', fuzz_attention(0, 1, 1));
  std::filesystem::remove(directory / "one");
}

/// The run of a small model that stands after `steps` steps.
FuzzCheckpoint make_run(Positions positions, const TrainingConfig& config, Index steps) {
  LanguageModelConfig small = fuzz_config(positions);  // a checkpoint holds it four times
  small.layers = "ab:heads=2";
  Random random(1);
  FuzzModel model(small, random);
  set_exact(model);
  const FuzzTexts texts = fuzz_texts(model.config().vocabulary, model.config().context);
  TrainingState<FuzzModel> state(model, config, TextMark(texts.training), TextMark(texts.validation));
  state.progress.step = steps;
  state.progress.steps = config.minutes > 0 ? 0 : config.steps;
  state.optimizer.set_steps(steps);
  state.good_steps = steps;
  if (config.keeps_best()) {
    state.best = model;
    state.progress.best_loss = 1.5;
    state.progress.best_step = 1;
  }
  set_exact(state);  // second moments too, of which none may be below 0
  AdamW<FuzzModel>::visit(
      [](std::string_view name, auto& tensor) {
        if (name.starts_with("second")) tensor = tensor.cwiseAbs();
      },
      state.optimizer);
  return {std::move(model), std::move(state)};
}

void make_checkpoints() {
  constexpr Index kMostIndex = std::numeric_limits<Index>::max();
  const auto put_run = [](const std::string& name, const FuzzCheckpoint& run) {
    save_checkpoint(directory / "checkpoint" / name, run.model, run.state);
  };
  put_run("fresh", make_run(Positions::kNone, {.batch = 2, .steps = 4}, 0));
  put_run("best", make_run(Positions::kLearned,
                           {.batch = 1, .steps = 5, .validate_every = 1, .dropout = 0.25, .patience = 2}, 3));
  FuzzCheckpoint clock = make_run(Positions::kNone, {.batch = 3, .minutes = 1}, 7);
  clock.state.validation_due = true;
  put_run("clock", clock);
  FuzzCheckpoint last = make_run(Positions::kNone, {.batch = 3, .minutes = 1}, kMostIndex);
  put_run("last_step", last);
  FuzzCheckpoint past = make_run(Positions::kNone, {.batch = 2, .steps = 4}, 5);
  put_run("past_the_end", past);
}

void make_tokenizers() {
  put("tokenizer/bytes", sentencepiece_model({}));
  const std::string pieces = sentencepiece_model({"th", "the", "\xE2\x96\x81t", "\xC3\xA9", "ca", "cat"});
  put("tokenizer/pieces", pieces);
  put("tokenizer/cut", pieces.substr(0, pieces.size() - 9));
  put("tokenizer/control", sentencepiece_model({"th"}) + piece_field("<s>", 3));
  put("tokenizer/no_piece", varint(1 << 3 | 2) + varint(~std::uint64_t{0}) + "x");
}

}  // namespace
}  // namespace hsm::test

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: make_corpus DIRECTORY\n";
    return 2;
  }
  hsm::test::directory = arguments[1];
  hsm::test::make_safetensors();
  hsm::test::make_models();
  hsm::test::make_checkpoints();
  hsm::test::make_sessions();
  hsm::test::make_tokenizers();
}
