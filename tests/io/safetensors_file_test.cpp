// SPDX-License-Identifier: MIT
#include "hsm/io/safetensors_file.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "hsm/core/random.hpp"
#include "io_test_support.hpp"

namespace hsm::safetensors_file_test {
namespace {

using Shape = std::vector<std::int64_t>;

// A file put together by hand: length, header, data.
std::string file_text(const std::string& header, const std::string& data) {
  std::string text;
  for (std::size_t i = 0; i < 8; ++i)
    text += static_cast<char>(static_cast<unsigned char>(header.size() >> (8 * i)));
  return text + header + data;
}

template <class Element>
std::string raw(const std::vector<Element>& values) {
  std::string text(values.size() * sizeof(Element), '\0');
  std::memcpy(text.data(), values.data(), text.size());
  return text;
}

// One tensor "w" of `count` elements.
std::string one_tensor(const std::string& dtype, std::size_t count, const std::string& data) {
  return file_text(R"({"w":{"dtype":")" + dtype + R"(","shape":[)" + std::to_string(count) +
                       R"(],"data_offsets":[0,)" + std::to_string(data.size()) + "]}}",
                   data);
}

// Two tensors and metadata, in less than 200 bytes.
std::string small_file() {
  return file_text(R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                   R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}} )",
                   raw<float>({1, 2, 3, 4}) + raw<std::uint16_t>({0x3F80, 0x4000, 0x4040}));
}

SafetensorsFile parse(const std::string& text) {
  return SafetensorsFile::parse(test::to_bytes(text), "some/path");
}

template <class Scalar>
std::vector<Scalar> read_one(const SafetensorsFile& file, const std::string& name, std::int64_t count) {
  std::vector<Scalar> out(static_cast<std::size_t>(count));
  file.read(name, {count}, std::span<Scalar>(out));
  return out;
}

TEST(SafetensorsFile, AFileMadeByHandIsReadFromMemoryAndFromDisk) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "small", small_file());
  for (const SafetensorsFile& file : {parse(small_file()), SafetensorsFile::load(directory / "small")}) {
    ASSERT_EQ(file.tensors().size(), 2u);
    EXPECT_EQ(file.metadata().at("k"), "v");
    ASSERT_NE(file.find("b"), nullptr);
    EXPECT_EQ(file.find("b")->dtype, DType::bf16);
    EXPECT_EQ(file.find("c"), nullptr);
    std::vector<float> a(4);
    file.read("a", {2, 2}, std::span<float>(a));
    EXPECT_EQ(a, (std::vector<float>{1, 2, 3, 4}));
    EXPECT_EQ(read_one<double>(file, "b", 3), (std::vector<double>{1, 2, 3}));
    ASSERT_EQ(file.bytes(file.at("b")).size(), 6u);
    EXPECT_EQ(file.bytes(file.at("b"))[1], std::byte{0x3F});
  }
  EXPECT_EQ(parse(small_file()).source(), "some/path");
  EXPECT_EQ(SafetensorsFile::load(directory / "small").source(), (directory / "small").string());
}

TEST(SafetensorsFile, EveryFloatingTypeIsReadAsFloatAndDouble) {
  const std::string f64 = one_tensor("F64", 3, raw<double>({0.1, -2.5, 1e-300}));
  EXPECT_EQ(read_one<double>(parse(f64), "w", 3), (std::vector<double>{0.1, -2.5, 1e-300}));
  EXPECT_EQ(read_one<float>(parse(f64), "w", 3), (std::vector<float>{0.1f, -2.5f, 0.0f}));
  const std::string f32 = one_tensor("F32", 2, raw<float>({0.1f, 3.0e38f}));
  EXPECT_EQ(read_one<float>(parse(f32), "w", 2), (std::vector<float>{0.1f, 3.0e38f}));
  EXPECT_EQ(read_one<double>(parse(f32), "w", 2), (std::vector<double>{double{0.1f}, double{3.0e38f}}));
  const std::string f16 = one_tensor("F16", 3, raw<std::uint16_t>({0x3C00, 0xC100, 0x0001}));
  EXPECT_EQ(read_one<float>(parse(f16), "w", 3), (std::vector<float>{1.0f, -2.5f, 0x1.0p-24f}));
  EXPECT_EQ(read_one<double>(parse(f16), "w", 3), (std::vector<double>{1.0, -2.5, 0x1.0p-24}));
  const std::string bf16 = one_tensor("BF16", 2, raw<std::uint16_t>({0xC020, 0x0001}));
  EXPECT_EQ(read_one<float>(parse(bf16), "w", 2), (std::vector<float>{-2.5f, 0x1.0p-133f}));
  EXPECT_EQ(read_one<double>(parse(bf16), "w", 2), (std::vector<double>{-2.5, 0x1.0p-133}));
}

TEST(SafetensorsFile, InfinityAndNanAreReadAsTheyAre) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::string text =
      one_tensor("F64", 3, raw<double>({kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()}));
  const std::vector<float> got = read_one<float>(parse(text), "w", 3);
  EXPECT_EQ(got[0], std::numeric_limits<float>::infinity());
  EXPECT_EQ(got[1], -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(got[2]));
}

TEST(SafetensorsFile, AValueOutsideTheRangeOfFloatIsRefusedAndNothingIsWritten) {
  const SafetensorsFile file = parse(one_tensor("F64", 2, raw<double>({1.0, -1e39})));
  std::vector<float> out(2, 7.0f);
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { file.read("w", {2}, std::span<float>(out)); });
  EXPECT_TRUE(test::mentions(message, {"some/path", "'w'", "range of float", "element 1"}));
  EXPECT_EQ(out, (std::vector<float>{7.0f, 7.0f}));
  EXPECT_EQ(read_one<double>(file, "w", 2), (std::vector<double>{1.0, -1e39}));
}

TEST(SafetensorsFile, OtherTypesAreRefusedWithTheirName) {
  for (const std::string dtype : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"}) {
    const SafetensorsFile file = parse(one_tensor(dtype, 2, "ab"));
    const std::string message =
        test::message_of_exactly<std::runtime_error>([&] { read_one<float>(file, "w", 2); });
    EXPECT_TRUE(test::mentions(message, {"some/path", "'w'", "F64, F32, F16 or BF16", "got " + dtype}));
  }
  EXPECT_THROW(read_one<float>(parse(one_tensor("I32", 1, "abcd")), "w", 1), std::runtime_error);
}

TEST(SafetensorsFile, AMissingTensorAndAnotherShapeAreRefused) {
  const SafetensorsFile file = parse(small_file());
  std::vector<float> out(4, 7.0f);
  const auto read = [&](const std::string& name, const Shape& shape) {
    return test::message_of_exactly<std::runtime_error>(
        [&] { file.read(name, shape, std::span<float>(out)); });
  };
  EXPECT_TRUE(test::mentions(read("c", {4}), {"some/path", "'c'", "missing"}));
  EXPECT_TRUE(test::mentions(read("__metadata__", {4}), {"missing"}));
  EXPECT_TRUE(test::mentions(read("a", {4}), {"some/path", "'a'", "must be [4]", "got [2,2]"}));
  EXPECT_TRUE(test::mentions(read("a", {}), {"must be []", "got [2,2]"}));
  EXPECT_TRUE(test::mentions(read("a", {2, 2, 1}), {"must be [2,2,1]"}));
  EXPECT_EQ(out, std::vector<float>(4, 7.0f));
}

TEST(SafetensorsFile, AnOutputOfAnotherSizeIsRefused) {
  const SafetensorsFile file = parse(small_file());
  for (const std::size_t size : {0u, 3u, 5u}) {
    std::vector<float> out(size);
    const std::string message = test::message_of_exactly<std::invalid_argument>([&] {
      file.read("a", {2, 2}, std::span<float>(out));
    });
    EXPECT_TRUE(test::mentions(
        message, {"SafetensorsFile::read", "4 elements", "'a'", "got " + std::to_string(size)}));
  }
}

TEST(SafetensorsFile, BytesOfATensorOfAnotherFileAreRefused) {
  const SafetensorsFile file = parse(small_file());
  TensorInfo foreign = file.at("b");
  foreign.end = 23;
  EXPECT_THROW(file.bytes(foreign), std::out_of_range);
  foreign.begin = 24;
  EXPECT_THROW(file.bytes(foreign), std::out_of_range);
}

TEST(SafetensorsFile, EmptyTensorsAndEmptyFilesAreRead) {
  EXPECT_TRUE(parse(file_text("{}", "")).tensors().empty());
  const SafetensorsFile file = parse(one_tensor("F32", 0, ""));
  EXPECT_TRUE(read_one<float>(file, "w", 0).empty());
  EXPECT_TRUE(file.bytes(file.at("w")).empty());
}

TEST(SafetensorsFile, ALengthThatCannotBeIsRefused) {
  const auto refused = [](const std::string& text) {
    return test::message_of_exactly<std::runtime_error>([&] { parse(text); });
  };
  EXPECT_TRUE(test::mentions(refused(""), {"some/path", "at least 8 bytes", "got 0"}));
  EXPECT_TRUE(test::mentions(refused("1234567"), {"at least 8 bytes", "got 7"}));
  EXPECT_TRUE(test::mentions(refused(std::string("\x03\0\0\0\0\0\0\0{}", 10)),
                             {"fit into the file", "2 bytes left", "length 3"}));
  EXPECT_TRUE(test::mentions(refused(std::string("\x01\xE1\xF5\x05\0\0\0\0{}", 10)),
                             {"at most 100000000", "100000001"}));
  EXPECT_TRUE(
      test::mentions(refused(std::string(8, '\xFF') + "{}"), {"at most 100000000", "18446744073709551615"}));
  EXPECT_TRUE(test::mentions(refused(std::string(8, '\0')), {"header must be a JSON object"}));
}

TEST(SafetensorsFile, WhatCannotBeLoadedIsNamed) {
  const test::TemporaryDirectory directory;
  const auto refused = [&](const std::filesystem::path& path) {
    return test::message_of_exactly<std::runtime_error>([&] { SafetensorsFile::load(path); });
  };
  EXPECT_TRUE(test::mentions(refused(directory / "absent"), {"absent", "No such file"}));
  EXPECT_TRUE(test::mentions(refused(directory.path()), {directory.path().string(), "directory"}));
  EXPECT_TRUE(test::mentions(refused("/dev/zero"), {"/dev/zero", "regular file"}));
}

TEST(SafetensorsFile, AHugeFileThatIsNotOneIsRefusedBeforeItIsRead) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "huge", small_file());
  std::filesystem::resize_file(directory / "huge", std::uintmax_t{1} << 40);  // sparse
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { SafetensorsFile::load(directory / "huge"); });
  EXPECT_TRUE(test::mentions(message, {"huge", "trailing bytes"}));
}

TEST(SafetensorsFile, AFileCutAtAnyLengthIsRefused) {
  const test::TemporaryDirectory directory;
  const std::string whole = small_file();
  ASSERT_EQ(parse(whole).tensors().size(), 2u);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::string cut = whole.substr(0, length);
    EXPECT_TRUE(
        test::mentions(test::message_of_exactly<std::runtime_error>([&] { parse(cut); }), {"some/path: "}))
        << length;
    test::write_raw(directory / "cut", cut);
    const std::string message =
        test::message_of_exactly<std::runtime_error>([&] { SafetensorsFile::load(directory / "cut"); });
    EXPECT_TRUE(test::mentions(message, {(directory / "cut").string() + ": "})) << length;
  }
}

// Changes a few bytes: overwrites, flips, inserts, removes, repeats, or puts in a piece that means something
// to the format.
std::string mutate(std::string text, Random& random) {
  static const std::vector<std::string> kPieces = {"[",
                                                   "]",
                                                   "{",
                                                   "}",
                                                   "\"",
                                                   ",",
                                                   ":",
                                                   "-",
                                                   "-1",
                                                   "9223372036854775807",
                                                   "18446744073709551616",
                                                   "0",
                                                   "1",
                                                   "\"a\":",
                                                   "null",
                                                   "1e9",
                                                   "\\u0000",
                                                   "\\ud800",
                                                   "\xFF",
                                                   " ",
                                                   "F64",
                                                   "\"dtype\":\"F32\",",
                                                   "4294967296,4294967296"};
  const auto place = [&] { return static_cast<std::size_t>(random.below(text.size() + 1)); };
  const std::uint64_t changes = 1 + random.below(4);
  for (std::uint64_t change = 0; change < changes; ++change) {
    const std::size_t at = place();
    const std::uint64_t kind = random.below(7);
    if (kind <= 1 && at < text.size()) {
      text[at] = static_cast<char>(static_cast<unsigned char>(random.below(256)));
    } else if (kind == 2 && at < text.size()) {
      text[at] = static_cast<char>(static_cast<unsigned char>(text[at]) ^ (1u << random.below(8)));
    } else if (kind == 3) {
      text.erase(at, static_cast<std::size_t>(random.below(8)));
    } else if (kind == 4) {
      const std::size_t from = place();
      text.insert(at, text.substr(from, static_cast<std::size_t>(random.below(40))));
    } else if (kind == 5 && at < 8 && text.size() >= 8) {
      text[at] = static_cast<char>(random.below(3));
    } else {
      const std::string& piece = kPieces[static_cast<std::size_t>(random.below(kPieces.size()))];
      text.replace(at, random.below(2) == 0 ? 0 : piece.size(), piece);
    }
  }
  // Without the right length most changes would be refused for that alone.
  if (random.below(4) != 0 && text.size() >= 8) {
    const std::size_t end = text.rfind('}');
    const std::size_t length = end != std::string::npos && end >= 8 ? end - 7 : 0;
    for (std::size_t i = 0; i < 8; ++i)
      text[i] = static_cast<char>(static_cast<unsigned char>(length >> (8 * i)));
  }
  return text;
}

TEST(SafetensorsFile, ADamagedFileIsRefusedOrConsistentButNeverWorse) {
  const std::string whole = small_file();
  Random random(2024);
  int refused = 0;
  int accepted = 0;
  for (int round = 0; round < 100000; ++round) {
    const std::string text = mutate(whole, random);
    try {
      const SafetensorsFile file = parse(text);
      ++accepted;
      std::size_t total = 0;
      for (const TensorInfo& info : file.tensors()) {
        total += file.bytes(info).size();
        ASSERT_EQ(file.find(info.name), &info) << "round " << round;
        const std::size_t count = file.bytes(info).size() / dtype_size(info.dtype);
        std::vector<float> values(count);
        try {
          file.read(info.name, info.shape, std::span<float>(values));
        } catch (const std::runtime_error&) {  // a type that is not read as float
        }
      }
      ASSERT_LE(total + 10, text.size()) << "round " << round;
    } catch (const std::runtime_error& error) {
      ++refused;
      ASSERT_EQ(std::string(error.what()).rfind("some/path: ", 0), 0u)
          << "round " << round << ": " << error.what();
    } catch (const std::exception& error) {
      FAIL() << "round " << round << ": another exception: " << error.what();
    }
  }
  // Both must have been met often, or the changes are too wild or too tame to test anything.
  EXPECT_GT(refused, 10000);
  EXPECT_GT(accepted, 500);
}

}  // namespace
}  // namespace hsm::safetensors_file_test
