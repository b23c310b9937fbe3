// SPDX-License-Identifier: MIT
//
// A short pass of every fuzz target without a fuzzer: its corpus, and some thousand mutations of it from a
// fixed seed. tests/fuzz/run.sh runs the same targets for long.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "fuzz/checkpoint_fuzz.hpp"
#include "fuzz/model_fuzz.hpp"
#include "fuzz/mutate.hpp"
#include "fuzz/recipe_fuzz.hpp"
#include "fuzz/safetensors_fuzz.hpp"
#include "fuzz/schedule_fuzz.hpp"
#include "fuzz/session_fuzz.hpp"
#include "fuzz/text_fuzz.hpp"
#include "fuzz/tokenizer_fuzz.hpp"
#include "paths.hpp"
#include "support/models.hpp"

namespace hsm::test::fuzz_test {
namespace {

using Target = bool (*)(Input);

/// The files of a corpus by name.
std::map<std::string, Bytes> corpus(const std::string& name) {
  std::map<std::string, Bytes> inputs;
  const std::filesystem::path directory = std::filesystem::path(HSM_SOURCE_DIR) / "tests/fuzz/corpus" / name;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::ifstream stream(entry.path(), std::ios::binary);
    inputs[entry.path().filename().string()] = Bytes(std::istreambuf_iterator<char>(stream), {});
  }
  return inputs;
}

/// Runs a target; a broken property or any exception that comes out is a failure.
bool run(Target target, const Bytes& input, const std::string& what) {
  try {
    return target(input);
  } catch (const BrokenProperty& broken) {
    ADD_FAILURE() << what << ": " << broken.what;
  } catch (const std::exception& error) {
    ADD_FAILURE() << what << ": an exception came out: " << error.what();
  }
  return false;
}

/// Where the safetensors file of an input begins, or none.
constexpr std::size_t kNone = ~std::size_t{0};

/// The corpus, of which exactly the files in `accepted` must be, then `rounds` mutations, of which some must
/// be.
void short_pass(const std::string& name, Target target, const std::vector<std::string>& accepted, int rounds,
                std::size_t file_at = kNone) {
  std::vector<std::string> got;
  std::vector<Bytes> inputs;
  for (const auto& [file, bytes] : corpus(name)) {
    if (run(target, bytes, name + "/" + file)) got.push_back(file);
    inputs.push_back(bytes);
  }
  EXPECT_EQ(got, accepted) << "of corpus/" << name;
  ASSERT_FALSE(inputs.empty());
  Random random(20260);
  int count = 0;
  for (int round = 0; round < rounds && !::testing::Test::HasFailure(); ++round) {
    const Bytes& from = inputs[random.below(inputs.size())];
    const Bytes& other = inputs[random.below(inputs.size())];
    const Bytes input = file_at == kNone || round % 8 == 0
                            ? mutated(from, other, random)
                            : mutated_safetensors(from, other, random, file_at);
    count += run(target, input, name + ", mutation " + std::to_string(round));
  }
  EXPECT_GT(count, rounds / 100) << "too few mutations were accepted to test what comes after reading";
  EXPECT_LT(count, rounds) << "no mutation was refused";
}

TEST(Fuzz, Recipes) {
  short_pass("recipe", fuzz_recipe, {"counted", "every", "hybrid", "most", "one", "options", "zeros"}, 5000);
}

TEST(Fuzz, Schedules) {
  short_pass("schedule", fuzz_schedule, {"cyclic", "dyadic", "geometric", "huge", "list", "none", "prefixes"},
             5000);
}

TEST(Fuzz, Text) { short_pass("text", fuzz_text, {"ascii", "two_to_four"}, 2000); }

TEST(Fuzz, Safetensors) { short_pass("safetensors", fuzz_safetensors, {"empty", "every_kind"}, 2000, 0); }

TEST(Fuzz, ModelFiles) { short_pass("model", fuzz_model_file, {"gated", "learned", "none"}, 1000, 0); }

TEST(Fuzz, Checkpoints) { short_pass("checkpoint", fuzz_checkpoint, {"best", "clock", "fresh"}, 1000, 0); }

TEST(Fuzz, Tokenizers) {
  short_pass("tokenizer", fuzz_tokenizer, {"bytes", "pieces"},
             SentencePieceTokenizer::kAvailable ? 300 : 1000);
}

TEST(Fuzz, SessionAndStateFiles) {
  short_pass("session", fuzz_session, {"attention", "blocks", "learned", "local", "none", "pair", "window"},
             2000, 1);
}

}  // namespace
}  // namespace hsm::test::fuzz_test
