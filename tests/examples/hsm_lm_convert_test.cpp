// SPDX-License-Identifier: MIT
//
// hsm_lm convert: models in fewer bytes, as their users see them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "examples/hsm_lm_runner.hpp"

namespace hsm::test::hsm_lm_convert_test {
namespace {

/// The number behind "bits per byte" in what evaluate prints; it prints four digits.
double bits_per_byte(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const std::string label = "bits per byte  ";
  const std::size_t place = outcome.out.find(label);
  EXPECT_NE(place, std::string::npos) << outcome.out;
  return place == std::string::npos ? 1e9 : std::atof(outcome.out.c_str() + place + label.size());
}

Arguments convert(const std::string& from, const std::string& storage, const std::string& to) {
  return {"convert", "--model", from, "--storage", storage, "--out", to};
}

TEST_F(HsmLm, ConvertsAModelThatStaysWhatItWas) {
  Arguments arguments = training({"--steps", "150"});
  std::replace(arguments.begin(), arguments.end(), std::string("3*ab"), std::string("ab,gated,attention"));
  std::replace(arguments.begin(), arguments.end(), std::string("16"), std::string("40"));
  ASSERT_EQ(run(arguments).code, 0);
  std::string held;  // what the model has not seen: the same words in another order
  for (int i = 0; held.size() < 2000; ++i)
    held += i % 4 == 0 ? "a dog ran! " : i % 3 == 0 ? "so it was, " : "the cat sat. ";
  write_raw(work_ / "held", held);
  const auto evaluated = [&](const std::string& model) {
    return bits_per_byte(run({"evaluate", "--model", model, "--text", "held", "--threads", "2"}));
  };
  const double exact = evaluated("model");
  for (const std::string storage : {"bf16", "int8"}) {
    SCOPED_TRACE(storage);
    const Outcome converted = run(convert("model", storage, storage));
    ASSERT_EQ(converted.code, 0) << converted.err;
    EXPECT_TRUE(mentions(converted.out, {storage + ": saved as " + storage, "of weights instead of"}));
    // Half a digit of what is printed is rounded off on both sides.
    EXPECT_NEAR(evaluated(storage), exact, (storage == "bf16" ? 0.001 : 0.01) + 0.0001);
    const Outcome info = run({"info", "--model", storage});
    EXPECT_TRUE(mentions(info.out, {"matrices in " + storage}));
    EXPECT_LT(std::filesystem::file_size(work_ / storage), std::filesystem::file_size(work_ / "model") *
                                                               (storage == "bf16" ? 2 : 3) /
                                                               (storage == "bf16" ? 3 : 5));
  }
  EXPECT_TRUE(mentions(run({"info", "--model", "model"}).out, {"matrices in float"}));

  // bf16 back to floats: the same numbers, so the same text.
  ASSERT_EQ(run(convert("bf16", "float", "again")).code, 0);
  EXPECT_EQ(std::filesystem::file_size(work_ / "again"), std::filesystem::file_size(work_ / "model"));
  EXPECT_NEAR(evaluated("again"), evaluated("bf16"), 0.0002);
  ASSERT_EQ(run(convert("again", "bf16", "twice")).code, 0);
  EXPECT_TRUE(read_raw(work_ / "twice") == read_raw(work_ / "bf16"));

  // A text goes on with the weights that it began with, and with no others.
  const Arguments begin{"generate", "--model", "int8",           "--prompt", "the c",     "--tokens", "20",
                        "--seed",   "3",       "--save-session", "session",  "--threads", "2"};
  ASSERT_EQ(run(begin).code, 0);
  Arguments on{"generate", "--model", "int8", "--session", "session", "--tokens", "5", "--threads", "2"};
  EXPECT_EQ(run(on).code, 0);
  on[2] = "model";
  expect_refused(run(on), {"session", "fingerprint"});

  // Training takes floats.
  expect_refused(run(training({"--steps", "5", "--resume", "bf16"})), {"bf16"});
}

TEST_F(HsmLm, ConvertsForWhomeverHasLeft) {
  train_small({"--steps", "1"});
  const std::string script = "cd '" + work_.path().string() + "' && { sleep 0.2; " + HSM_LM +
                             " convert --model model --storage int8 --out out; echo $? > code; } | true";
  EXPECT_EQ(std::system(script.c_str()), 0);
  EXPECT_EQ(read_raw(work_ / "code"), "0\n");
  EXPECT_TRUE(std::filesystem::exists(work_ / "out"));
}

TEST_F(HsmLm, RefusesConversionsThatCannotBe) {
  train_small({"--steps", "1"});
  expect_refused(run(convert("model", "int4", "out")), {"--storage", "int4"});
  expect_refused(run(convert("model", "int8", "model")), {"--out would overwrite model"});
  expect_refused(run(convert("missing", "int8", "out")), {"missing"});
  expect_refused(run(convert("text", "int8", "out")), {"text"});
  expect_refused(run({"convert", "--model", "model", "--out", "out"}), {"--storage"});
  EXPECT_FALSE(std::filesystem::exists(work_ / "out"));
  std::filesystem::create_symlink("loop", work_ / "loop");
  expect_refused(run(convert("model", "int8", "loop")), {"loop: ", "Too many levels of symbolic links"});
  EXPECT_TRUE(std::filesystem::is_symlink(work_ / "loop"));
}

}  // namespace
}  // namespace hsm::test::hsm_lm_convert_test
