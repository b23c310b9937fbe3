// SPDX-License-Identifier: MIT
#include "hsm/io/safetensors_writer.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "hsm/io/safetensors.hpp"
#include "io_test_support.hpp"

namespace hsm::safetensors_writer_test {
namespace {

using Shape = std::vector<std::int64_t>;

const std::vector<float> kSix = {0.1f, -2.0f, 3.5f, 1e-40f, -0.0f, 3e38f};
const std::vector<double> kTwo = {0.1, -1e300};

// A small reader of the format, strict about what the writer promises and sharing nothing with the library's
// reader: fixed key order, no blanks between tokens, no escapes but \" and \\.
struct PlainReader {
  struct Tensor {
    std::string name;
    std::string dtype;
    Shape shape;
    std::string bytes;
  };

  explicit PlainReader(const std::string& file) {
    std::uint64_t length = 0;
    for (int i = 7; i >= 0; --i)
      length = length * 256 + static_cast<unsigned char>(file.at(static_cast<std::size_t>(i)));
    text = file.substr(8, static_cast<std::size_t>(length));
    if (text.size() != length || length % 8 != 0) throw std::runtime_error("bad header length");
    const std::string data = file.substr(8 + text.size());
    std::size_t data_end = 0;
    take('{');
    while (text.at(at) != '}') {
      if (text.at(at) == ',') ++at;
      const std::string name = string();
      take(':');
      take('{');
      if (name == "__metadata__") {
        while (text.at(at) != '}') {
          if (text.at(at) == ',') ++at;
          const std::string key = string();
          take(':');
          metadata[key] = string();
        }
      } else {
        Tensor tensor{.name = name, .dtype = {}, .shape = {}, .bytes = {}};
        expect_key("dtype");
        tensor.dtype = string();
        take(',');
        expect_key("shape");
        tensor.shape = list();
        take(',');
        expect_key("data_offsets");
        const Shape offsets = list();
        const auto begin = static_cast<std::size_t>(offsets.at(0));
        const auto end = static_cast<std::size_t>(offsets.at(1));
        if (offsets.size() != 2 || begin != data_end || end < begin || end > data.size())
          throw std::runtime_error("bad offsets");
        tensor.bytes = data.substr(begin, end - begin);
        data_end = end;
        tensors.push_back(tensor);
      }
      take('}');
    }
    take('}');
    while (at < text.size()) take(' ');
    if (data_end != data.size()) throw std::runtime_error("trailing bytes");
  }

  void take(char c) {
    if (text.at(at) != c)
      throw std::runtime_error("expected " + std::string(1, c) + " at " + std::to_string(at));
    ++at;
  }

  std::string string() {
    std::string result;
    take('"');
    while (text.at(at) != '"') {
      if (text.at(at) == '\\') ++at;
      result += text.at(at++);
    }
    take('"');
    return result;
  }

  void expect_key(const std::string& key) {
    if (string() != key) throw std::runtime_error("expected the key " + key);
    take(':');
  }

  Shape list() {
    Shape values;
    take('[');
    while (text.at(at) != ']') {
      if (text.at(at) == ',') ++at;
      std::int64_t value = 0;
      const std::size_t first = at;
      while (text.at(at) >= '0' && text.at(at) <= '9') value = value * 10 + (text.at(at++) - '0');
      if (at == first) throw std::runtime_error("expected a number");
      values.push_back(value);
    }
    take(']');
    return values;
  }

  std::string text;
  std::size_t at = 0;
  std::map<std::string, std::string> metadata;
  std::vector<Tensor> tensors;
};

template <class Element>
std::string raw(const std::vector<Element>& values) {
  std::string text(values.size() * sizeof(Element), '\0');
  std::memcpy(text.data(), values.data(), text.size());
  return text;
}

SafetensorsWriter example() {
  SafetensorsWriter writer;
  writer.set_metadata("zeta", "last");
  writer.set_metadata("format", "first try");
  writer.set_metadata("format", "a \"quoted\" \\ \xC3\xA9");
  writer.add("z.weight", {2, 3}, std::span<const float>(kSix));
  writer.add("a \"b\"", {2}, std::span<const double>(kTwo));
  writer.add("empty", {4, 0}, std::span<const float>());
  writer.add("number", {}, std::span<const float>(kSix).first(1));
  return writer;
}

TEST(SafetensorsWriter, AFileIsWhatTheFormatSays) {
  const test::TemporaryDirectory directory;
  example().write(directory / "out");
  const PlainReader file(test::read_raw(directory / "out"));
  EXPECT_EQ(file.metadata,
            (std::map<std::string, std::string>{{"format", "a \"quoted\" \\ \xC3\xA9"}, {"zeta", "last"}}));
  ASSERT_EQ(file.tensors.size(), 4u);
  EXPECT_EQ(file.tensors[0].name, "z.weight");
  EXPECT_EQ(file.tensors[0].dtype, "F32");
  EXPECT_EQ(file.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(file.tensors[0].bytes, raw(kSix));
  EXPECT_EQ(file.tensors[1].name, "a \"b\"");
  EXPECT_EQ(file.tensors[1].dtype, "F64");
  EXPECT_EQ(file.tensors[1].bytes, raw(kTwo));
  EXPECT_EQ(file.tensors[2].shape, (Shape{4, 0}));
  EXPECT_EQ(file.tensors[2].bytes, "");
  EXPECT_EQ(file.tensors[3].shape, Shape{});
  EXPECT_EQ(file.tensors[3].bytes, raw<float>({0.1f}));
}

TEST(SafetensorsWriter, WhatWasWrittenIsReadBackBitByBit) {
  const test::TemporaryDirectory directory;
  example().write(directory / "out");
  const SafetensorsFile file = SafetensorsFile::load(directory / "out");
  EXPECT_EQ(file.metadata().at("format"), "a \"quoted\" \\ \xC3\xA9");
  ASSERT_EQ(file.tensors().size(), 4u);
  std::vector<float> six(6);
  file.read("z.weight", {2, 3}, std::span<float>(six));
  EXPECT_EQ(raw(six), raw(kSix));
  std::vector<double> two(2);
  file.read("a \"b\"", {2}, std::span<double>(two));
  EXPECT_EQ(raw(two), raw(kTwo));
  std::vector<double> number(1);
  file.read("number", {}, std::span<double>(number));
  EXPECT_EQ(number[0], double{0.1f});
}

TEST(SafetensorsWriter, IntegersKeepTheirType) {
  const test::TemporaryDirectory directory;
  const std::vector<std::int64_t> counts = {-5, 1LL << 40};
  const std::vector<std::uint8_t> small = {1, 255, 3};
  SafetensorsWriter writer;
  writer.add("counts", {2}, std::span<const std::int64_t>(counts));
  writer.add("small", {3}, std::span<const std::uint8_t>(small));
  writer.add("half", DType::f16, {1}, std::as_bytes(std::span<const std::uint8_t>(small)).first(2));
  writer.write(directory / "out");
  const PlainReader file(test::read_raw(directory / "out"));
  EXPECT_EQ(file.tensors.at(0).dtype, "I64");
  EXPECT_EQ(file.tensors.at(0).bytes, raw(counts));
  EXPECT_EQ(file.tensors.at(1).dtype, "U8");
  EXPECT_EQ(file.tensors.at(2).dtype, "F16");
  EXPECT_EQ(SafetensorsFile::load(directory / "out").at("half").begin, 19u);
}

TEST(SafetensorsWriter, TheSameContentGivesTheSameBytes) {
  const test::TemporaryDirectory directory;
  SafetensorsWriter first;
  first.set_metadata("a", "1");
  first.set_metadata("b", "2");
  first.add("w", {6}, std::span<const float>(kSix));
  SafetensorsWriter second;
  second.set_metadata("b", "2");
  second.set_metadata("a", "1");
  second.add("w", {6}, std::span<const float>(kSix));
  first.write(directory / "first");
  second.write(directory / "second");
  second.write(directory / "again");
  EXPECT_EQ(test::read_raw(directory / "first"), test::read_raw(directory / "second"));
  EXPECT_EQ(test::read_raw(directory / "again"), test::read_raw(directory / "second"));
}

TEST(SafetensorsWriter, AnEmptyFileIsLegal) {
  const test::TemporaryDirectory directory;
  SafetensorsWriter().write(directory / "out");
  EXPECT_EQ(test::read_raw(directory / "out"), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  EXPECT_TRUE(SafetensorsFile::load(directory / "out").tensors().empty());
}

TEST(SafetensorsWriter, AWrongTensorIsRefusedAndLeavesTheWriterAsItWas) {
  const test::TemporaryDirectory directory;
  SafetensorsWriter writer = example();
  const auto refused = [&](const std::string& name, const Shape& shape) {
    return test::message_of_exactly<std::invalid_argument>(
        [&] { writer.add(name, shape, std::span<const float>(kSix)); });
  };
  EXPECT_TRUE(test::mentions(refused("x", {2, 2}),
                             {"SafetensorsWriter::add", "'x'", "F32 [2,2]", "16 bytes", "got 24"}));
  EXPECT_TRUE(test::mentions(refused("x", {}), {"F32 []", "4 bytes", "got 24"}));
  EXPECT_TRUE(test::mentions(refused("x", {-2, -3}), {"'x'", "[-2,-3]"}));
  EXPECT_TRUE(test::mentions(refused("x", {1LL << 62, 4, 6}), {"2^63", "4611686018427387904"}));
  EXPECT_TRUE(test::mentions(refused("x", Shape(65, 1)), {"64 dimensions", "65"}));
  EXPECT_TRUE(test::mentions(refused("z.weight", {6}), {"'z.weight'", "twice"}));
  EXPECT_TRUE(test::mentions(refused("__metadata__", {6}), {"reserved"}));
  EXPECT_TRUE(test::mentions(refused("\xFF", {6}), {"valid UTF-8"}));
  EXPECT_TRUE(test::mentions(
      test::message_of_exactly<std::invalid_argument>([&] { writer.set_metadata("k", "\xC0\x80"); }),
      {"set_metadata", "valid UTF-8"}));
  EXPECT_TRUE(test::mentions(
      test::message_of_exactly<std::invalid_argument>([&] { writer.set_metadata("\x80", "v"); }),
      {"set_metadata", "valid UTF-8"}));
  writer.write(directory / "after");
  example().write(directory / "plain");
  EXPECT_EQ(test::read_raw(directory / "after"), test::read_raw(directory / "plain"));
}

TEST(SafetensorsWriter, AFailedWriteLeavesNothingBehind) {
  const test::TemporaryDirectory directory;
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { example().write(directory / "absent/out"); });
  EXPECT_TRUE(test::mentions(message, {"absent/out", "No such file"}));
  EXPECT_TRUE(
      test::mentions(test::message_of_exactly<std::runtime_error>([&] { example().write(directory.path()); }),
                     {"directory"}));
  EXPECT_EQ(directory.entries(), 0);
}

TEST(SafetensorsWriter, AHeaderThatCouldNotBeReadIsNotWritten) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  SafetensorsWriter writer;
  writer.set_metadata("big", std::string(100'000'000, 'x'));
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { writer.write(directory / "out"); });
  EXPECT_TRUE(test::mentions(message, {"out", "at most 100000000"}));
  EXPECT_EQ(test::read_raw(directory / "out"), "old");
}

}  // namespace
}  // namespace hsm::safetensors_writer_test
