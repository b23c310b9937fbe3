// SPDX-License-Identifier: MIT
//
// Writes the files of the corpus that hold numbers: corpus/safetensors, corpus/model and corpus/session below
// the directory that is given. Run by `tests/fuzz/run.sh --corpus`, after a change of a file format or of the
// fuzz model.
#include <fstream>
#include <iostream>
#include <iterator>

#include "fuzz/session_fuzz.hpp"

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
  std::filesystem::remove(directory / "one");
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
  hsm::test::make_sessions();
}
