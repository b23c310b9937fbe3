// SPDX-License-Identifier: MIT
//
// hsm_lm with pieces of words as tokens: learned, trained on, generated from and evaluated, one model file for all.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <hsm/io/text_tokenizer.hpp>
#include <numbers>
#include <string>
#include <vector>

#include "examples/hsm_lm_runner.hpp"
#include "examples/support/stories.hpp"
#include "support/models.hpp"

namespace hsm::test::hsm_lm_tokenize_test {
namespace {

using Net = LanguageModel<float>;

class HsmLmTokenize : public HsmLm {
 protected:
  HsmLmTokenize() { write_raw(work_ / "stories", examples::make_stories({.bytes = 30'000}).text); }

  void SetUp() override {
    if (!SentencePieceTokenizer::kAvailable) GTEST_SKIP() << "built without SentencePiece";
  }

  void tokenize(const std::string& vocabulary = "400") const {
    const Outcome outcome = run({"tokenize", "--text", "stories", "--vocab", vocabulary, "--out", "pieces"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }

  static Arguments on_pieces(const Arguments& more = {}) {
    Arguments all{"train",   "--text",    "stories",   "--tokenizer", "pieces",  "--out", "model",
                  "--width", "16",        "--context", "16",          "--batch", "4",     "--steps",
                  "10",      "--threads", "2",         "--layers",    "3*ab"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  void train_on_pieces(const Arguments& more = {}) const {
    tokenize();
    const Outcome outcome = run(on_pieces(more));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }

  /// The number before `what` in `text`.
  static double number_before(const std::string& text, const std::string& what) {
    const std::size_t end = text.find(what);
    if (end == std::string::npos || end == 0) return std::nan("");
    const std::size_t begin = text.find_last_of(" \n", end - 1);
    return std::stod(text.substr(begin + 1, end - begin - 1));
  }
};

TEST_F(HsmLm, SaysWhereSentencePieceIsNeededAndNotThere) {
  if (SentencePieceTokenizer::kAvailable) GTEST_SKIP() << "this build has SentencePiece";
  expect_refused(run({"tokenize", "--text", "text", "--out", "pieces"}), {"SentencePiece", "built without"});
  write_raw(work_ / "pieces", "some bytes");
  expect_refused(run(training({"--tokenizer", "pieces", "--steps", "1"})),
                 {"pieces: ", "SentencePiece", "built without"});
  EXPECT_EQ(work_.entries(), 2);
}

TEST_F(HsmLmTokenize, LearnsTheSamePiecesEachTimeAndSaysWhatTheyGive) {
  const Outcome first = run({"tokenize", "--text", "stories", "--vocab", "400", "--out", "pieces"});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.err, "");
  EXPECT_TRUE(first.out.starts_with("pieces: saved, 400 tokens; ")) << first.out;
  const std::string model = read_raw(work_ / "pieces"), text = read_raw(work_ / "stories");
  const SentencePieceTokenizer tokenizer(model);
  EXPECT_EQ(tokenizer.vocabulary(), 400);
  const auto tokens = tokenizer.encode(text).size();
  EXPECT_TRUE(
      mentions(first.out, {std::to_string(text.size()) + " bytes", std::to_string(tokens) + " tokens"}));
  const double per_token = static_cast<double>(text.size()) / static_cast<double>(tokens);
  EXPECT_GT(per_token, 2);
  EXPECT_NEAR(number_before(first.out, " bytes per token"), per_token, 6e-4);
  tokenize();
  EXPECT_TRUE(read_raw(work_ / "pieces") == model) << "the files differ";
}

TEST_F(HsmLmTokenize, RefusesWhatItCannotLearnAndLeavesFilesAlone) {
  write_raw(work_ / "pieces", "what was there");
  const Arguments ask{"tokenize", "--text", "stories", "--out", "pieces", "--vocab"};
  for (const auto& [vocabulary, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"256", {"--vocab", "257 to 2^20", "'256'"}},
           {"2000000", {"--vocab", "'2000000'"}},
           {"1000000", {"stories: ", "vocabulary must be at most", "got 1000000"}}}) {
    Arguments all = ask;
    all.push_back(vocabulary);
    expect_refused(run(all), words);
  }
  write_raw(work_ / "empty", "");
  expect_refused(run({"tokenize", "--text", "empty", "--out", "pieces"}), {"empty: ", "words", "0 bytes"});
  expect_refused(run({"tokenize", "--text", "missing", "--out", "pieces"}), {"missing: "});
  expect_refused(run({"tokenize", "--text", "stories", "--out", "stories"}),
                 {"--out would overwrite stories"});
  EXPECT_EQ(read_raw(work_ / "pieces"), "what was there");
  EXPECT_EQ(work_.entries(), 4);
}

TEST_F(HsmLmTokenize, TrainsOnPiecesAndPutsThemIntoTheModelFile) {
  tokenize();
  const Outcome outcome = run(on_pieces({"--validation-tokens", "100"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "model: saved\n");
  const SafetensorsFile file = SafetensorsFile::load(work_ / "model");
  EXPECT_EQ(read_model<Net>(file).config().vocabulary, 400);
  const TextTokenizer tokenizer = read_tokenizer(file);
  EXPECT_TRUE(tokenizer.model() == read_raw(work_ / "pieces"));
  // Bits per byte of the 100 tokens that were predicted.
  const std::string text = read_raw(work_ / "stories");
  const auto valid = tokenizer.encode(text.substr(text.size() - text.size() / 20));
  double bytes = 0;
  for (std::size_t i = 1; i <= 100; ++i) bytes += static_cast<double>(tokenizer.piece(valid[i]).size());
  const double nats = number_before(outcome.err, " nats per token"),
               bits = number_before(outcome.err, " bits per byte");
  EXPECT_NEAR(bits, nats * 100 / bytes / std::numbers::ln2, 1e-4);
  EXPECT_TRUE(mentions(outcome.err, {std::to_string(valid.size()) + " tokens of ", " bytes to validate"}));
  std::filesystem::remove(work_ / "pieces");
  const Outcome info = run({"info", "--model", "model"});
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_TRUE(mentions(info.out, {"vocabulary 400"}));
}

TEST_F(HsmLmTokenize, EvaluatesPerByteWhateverTheTokens) {
  train_on_pieces();
  const Outcome outcome = run({"evaluate", "--model", "model", "--text", "text"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const TextTokenizer tokenizer = load_tokenizer(work_ / "model");
  const auto ids = tokenizer.encode(read_raw(work_ / "text"));
  const double tokens = static_cast<double>(ids.size() - 1);
  const double bytes = 3000 - static_cast<double>(tokenizer.piece(ids[0]).size());
  EXPECT_TRUE(mentions(outcome.out,
                       {"tokens read before", std::to_string(ids.size() - 1) + " predicted", "1-8", "9-16"}));
  double nats = 0, bits = 0;
  ASSERT_EQ(std::sscanf(outcome.out.c_str(), "loss %lf nats per token bits per byte %lf", &nats, &bits), 2)
      << outcome.out;
  EXPECT_NEAR(bits, nats * tokens / bytes / std::numbers::ln2, 1e-4 * tokens / bytes + 1e-4);
  // The parts, weighted by what they hold, are the whole.
  double loss = 0, count = 0;
  const std::size_t table = outcome.out.find("tokens read before");
  for (std::size_t line = outcome.out.find('\n', table) + 1; line < outcome.out.size();
       line = outcome.out.find('\n', line) + 1) {
    double part = 0, part_bits = 0, part_tokens = 0;
    ASSERT_EQ(std::sscanf(outcome.out.c_str() + line, "%*s %lf %lf %lf", &part, &part_bits, &part_tokens), 3);
    loss += part * part_tokens;
    count += part_tokens;
    EXPECT_LT(part_bits, part / std::numbers::ln2);
  }
  EXPECT_EQ(count, tokens);
  EXPECT_NEAR(loss / count, nats, 1e-3);
  const Outcome carried = run({"evaluate", "--model", "model", "--text", "text", "--carry"});
  EXPECT_EQ(carried.code, 0) << carried.err;
  EXPECT_TRUE(mentions(carried.out, {"nats per token", "or more"}));
  write_raw(work_ / "short", "a");
  expect_refused(run({"evaluate", "--model", "model", "--text", "short"}), {"short: ", "2 tokens", "got 1"});
}

TEST_F(HsmLmTokenize, GeneratesTokensFromAPromptOfAnyBytes) {
  train_on_pieces();
  const TextTokenizer tokenizer = load_tokenizer(work_ / "model");
  const std::string prompt = "once \xE2\x96\x81 caf\xC3\xA9  \xFF\n";
  write_raw(work_ / "prompt", prompt);
  const Outcome outcome = run({"generate", "--model", "model", "--prompt-file", "prompt", "--tokens", "30",
                               "--seed", "4", "--top-k", "400"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with(prompt));
  EXPECT_TRUE(mentions(outcome.err, {"prefill " + std::to_string(tokenizer.encode(prompt).size()) + " tokens",
                                     "decode 30 tokens"}));
  EXPECT_GT(outcome.out.size(), prompt.size() + 31);  // some tokens are words
  expect_refused(run({"generate", "--model", "model", "--prompt", "a", "--top-k", "401"}),
                 {"--top-k", "400", "got 401"});
}

TEST_F(HsmLmTokenize, GoesOnWithASessionAsIfItHadNeverStopped) {
  train_on_pieces();
  const Arguments ask{"generate", "--model", "model", "--threads", "1", "--temperature", "5"};
  const auto with = [&](const Arguments& more) {
    Arguments all = ask;
    all.insert(all.end(), more.begin(), more.end());
    const Outcome outcome = run(all);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out.substr(0, outcome.out.size() - 1);
  };
  const std::string whole = with({"--prompt", "Mira", "--seed", "3", "--tokens", "40"});
  std::string parts =
      with({"--prompt", "Mira", "--seed", "3", "--tokens", "15", "--save-session", "session"});
  for (int i = 0; i < 5; ++i)
    parts += with({"--session", "session", "--tokens", "5", "--save-session", "session"});
  EXPECT_EQ(parts, whole);
  // With other pieces the numbers in the session would mean another text.
  const SafetensorsFile session = SafetensorsFile::load(work_ / "session");
  SafetensorsWriter writer;
  for (const auto& [key, value] : session.metadata())
    writer.set_metadata(key, key == "note.tokenizer" ? "fnv1a-64:0000000000000000" : value);
  for (const TensorInfo& info : session.tensors())
    writer.add(info.name, info.dtype, info.shape, session.bytes(info));
  writer.write(work_ / "session");
  Arguments all = ask;
  all.insert(all.end(), {"--session", "session"});
  expect_refused(run(all), {"session: ", "tokenizer", "fnv1a-64:0000000000000000"});
}

TEST_F(HsmLmTokenize, RefusesFilesThatAreNoTokenizers) {
  write_raw(work_ / "pieces", "nonsense");
  expect_refused(run(on_pieces()), {"pieces: ", "SentencePiece"});
  expect_refused(run(training({"--steps", "1", "--tokenizer", "missing"})), {"missing: "});
  tokenize();
  expect_refused(run(on_pieces({"--out", "pieces"})), {"--out"});
  write_raw(work_ / "few", "the cat sat on the mat.");
  Arguments few = on_pieces({"--valid", "stories"});
  few[2] = "few";
  expect_refused(run(few), {"few: ", "more than 16 tokens", "got "});
}

}  // namespace
}  // namespace hsm::test::hsm_lm_tokenize_test
