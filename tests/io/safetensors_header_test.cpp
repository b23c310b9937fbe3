// SPDX-License-Identifier: MIT
#include "hsm/io/safetensors_header.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "io_test_support.hpp"

namespace hsm::safetensors_header_test {
namespace {

using Words = std::vector<std::string>;

detail::SafetensorsHeader parse(const std::string& text, std::uint64_t data_bytes) {
  return detail::parse_safetensors_header(text, data_bytes, "some/path");
}

void expect_refused(const std::string& text, std::uint64_t data_bytes, Words words) {
  words.push_back("some/path: ");
  const std::string message = test::message_of_exactly<std::runtime_error>([&] { parse(text, data_bytes); });
  EXPECT_TRUE(test::mentions(message, words)) << text.substr(0, 200);
}

// A header with one tensor whose description is given.
std::string one(const std::string& description) { return R"({"w":{)" + description + "}}"; }

const std::string kGood = R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24])";

TEST(SafetensorsHeader, AGoodHeaderIsReadInTheOrderOfTheData) {
  const detail::SafetensorsHeader header =
      parse(R"({"b":{"data_offsets":[24,26],"dtype":"BF16","shape":[]},"__metadata__":{"k":"v","":"\u00e9"},)"
            R"("none":{"dtype":"I64","shape":[4,0],"data_offsets":[24,24]},)"
            R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}   )",
            26);
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[0].dtype, DType::f32);
  EXPECT_EQ(header.tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(header.tensors[0].begin, 0u);
  EXPECT_EQ(header.tensors[0].end, 24u);
  EXPECT_EQ(header.tensors[1].name, "none");
  EXPECT_EQ(header.tensors[1].begin, 24u);
  EXPECT_EQ(header.tensors[1].end, 24u);
  EXPECT_EQ(header.tensors[2].name, "b");
  EXPECT_TRUE(header.tensors[2].shape.empty());
  ASSERT_EQ(header.metadata.size(), 2u);
  EXPECT_EQ(header.metadata.at("k"), "v");
  EXPECT_EQ(header.metadata.at(""), "\xC3\xA9");
  ASSERT_EQ(header.index.size(), 3u);
  EXPECT_EQ(header.index.at("b"), 2u);
}

TEST(SafetensorsHeader, AHeaderWithoutTensorsIsLegal) {
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
  EXPECT_TRUE(parse(R"({"__metadata__":{}})", 0).metadata.empty());
}

TEST(SafetensorsHeader, WhatIsNotAnObjectIsRefused) {
  for (const char* text : {"", " {}", "[]", "null", "1", "\"x\"", "\xEF\xBB\xBF{}"}) {
    expect_refused(text, 0, {"header must be a JSON object", "'{'"});
  }
}

TEST(SafetensorsHeader, WhatIsNotJsonIsRefusedWithItsPosition) {
  expect_refused("{", 0, {"JSON", "byte 2"});
  expect_refused("{}}", 0, {"JSON", "byte 3"});
  expect_refused("{} {}", 0, {"JSON"});
  expect_refused("{\"w\"}", 0, {"JSON"});
  expect_refused("{/**/}", 0, {"JSON"});
  expect_refused("{'w':1}", 0, {"JSON"});
  expect_refused(one(kGood) + "x", 24, {"JSON"});
  expect_refused("{\"w\":{" + kGood + ",}}", 24, {"JSON"});
  expect_refused(one(R"("dtype":"F32","shape":[02,3],"data_offsets":[0,24])"), 24, {"JSON"});
  expect_refused(one(R"("dtype":"F32","shape":[1e999],"data_offsets":[0,24])"), 24, {"JSON"});
}

TEST(SafetensorsHeader, AZeroByteDoesNotEndTheHeader) {
  expect_refused(std::string("{}\0{", 4), 0, {"zero byte", "byte 2"});
  expect_refused(std::string("{}\0", 3), 0, {"zero byte"});
}

TEST(SafetensorsHeader, TextThatIsNotUtf8IsRefused) {
  expect_refused("{\"\xFF\":{" + kGood + "}}", 24, {"UTF-8"});
  expect_refused("{\"\xC0\x80\":{" + kGood + "}}", 24, {"UTF-8"});
  expect_refused("{\"__metadata__\":{\"k\":\"\xED\xA0\x80\"}}", 0, {"UTF-8"});
  expect_refused(R"({"__metadata__":{"k":"\ud800"}})", 0, {"JSON"});
}

TEST(SafetensorsHeader, AKeyThatStandsTwiceIsRefusedAtEveryLevel) {
  expect_refused("{\"w\":{" + kGood + "},\"w\":{" + kGood + "}}", 24, {"'w'", "twice"});
  expect_refused("{\"w\":{" + kGood + "},\"\\u0077\":{" + kGood + "}}", 24, {"'w'", "twice"});
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, {"'__metadata__'", "twice"});
  expect_refused(R"({"__metadata__":{"k":"1","k":"2"}})", 0, {"'k'", "twice"});
  expect_refused(one(kGood + R"(,"dtype":"F32")"), 24, {"'w'", "'dtype'", "twice"});
  expect_refused(one(kGood + R"(,"shape":[2,3])"), 24, {"'w'", "'shape'", "twice"});
  expect_refused(one(kGood + R"(,"data_offsets":[0,24])"), 24, {"'w'", "'data_offsets'", "twice"});
}

TEST(SafetensorsHeader, AnUnknownKeyIsRefused) {
  expect_refused(one(kGood + R"(,"strides":[3,1])"), 24, {"'w'", "unknown key", "'strides'"});
}

TEST(SafetensorsHeader, AMissingKeyIsRefused) {
  expect_refused(one(R"("shape":[2,3],"data_offsets":[0,24])"), 24, {"'w'", "dtype is missing"});
  expect_refused(one(R"("dtype":"F32","data_offsets":[0,24])"), 24, {"'w'", "shape is missing"});
  expect_refused(one(R"("dtype":"F32","shape":[2,3])"), 24, {"'w'", "data_offsets is missing"});
  expect_refused(R"({"w":{}})", 0, {"'w'", "missing"});
}

TEST(SafetensorsHeader, AnUnknownTypeIsRefused) {
  for (const char* name : {"F33", "f32", "", "F32 "}) {
    expect_refused(one("\"dtype\":\"" + std::string(name) + "\",\"shape\":[],\"data_offsets\":[0,4]"), 4,
                   {"'w'", "dtype", "'" + std::string(name) + "'"});
  }
}

TEST(SafetensorsHeader, AValueOfTheWrongKindIsRefused) {
  expect_refused(R"({"w":3})", 0, {"'w'", "must be an object", "the number 3"});
  expect_refused(R"({"w":"x"})", 0, {"'w'", "must be an object", "the string 'x'"});
  expect_refused(R"({"w":null})", 0, {"'w'", "must be an object", "null"});
  expect_refused(R"({"w":[]})", 0, {"'w'", "must be an object", "a list"});
  expect_refused(R"({"__metadata__":null})", 0, {"'__metadata__'", "must be an object", "null"});
  expect_refused(R"({"__metadata__":"x"})", 0, {"'__metadata__'", "must be an object"});
  expect_refused(one(R"("dtype":3)"), 0, {"'w'", "dtype must be a string", "3"});
  expect_refused(one(R"("dtype":["F32"])"), 0, {"'w'", "dtype must be a string", "a list"});
  expect_refused(one(R"("shape":3)"), 0, {"'w'", "lists", "3"});
  expect_refused(one(R"("shape":"3")"), 0, {"'w'", "lists", "'3'"});
  expect_refused(one(R"("data_offsets":{"begin":0})"), 0, {"'w'", "lists", "an object"});
}

TEST(SafetensorsHeader, MetadataThatIsNotAStringIsRefused) {
  for (const char* value : {"1", "-1", "1.5", "null", "true", "[]", "{}"}) {
    expect_refused(R"({"__metadata__":{"epoch":)" + std::string(value) + "}}", 0,
                   {"metadata", "'epoch'", "must be a string"});
  }
}

TEST(SafetensorsHeader, ADimensionThatIsNoCountIsRefused) {
  for (const char* value :
       {"-1", "-0", "1.0", "1e3", "9223372036854775808", "18446744073709551615", "18446744073709551616",
        "99999999999999999999999999", "true", "null", "\"2\"", "[2]", "{}"}) {
    expect_refused(one(R"("dtype":"F32","shape":[)" + std::string(value) + R"(],"data_offsets":[0,4])"), 4,
                   {"'w'", "shape must hold whole numbers from 0 to 2^63-1"});
  }
}

TEST(SafetensorsHeader, AShapeWhoseSizeOverflowsIsRefused) {
  expect_refused(one(R"("dtype":"U8","shape":[4611686018427387904,3],"data_offsets":[0,0])"), 0,
                 {"'w'", "below 2^63"});
  // Each of these products is a small number modulo 2^64.
  expect_refused(one(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0,
                 {"'w'", "below 2^63"});
  expect_refused(one(R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])"), 0,
                 {"'w'", "below 2^63"});
  expect_refused(one(R"("dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4])"), 4,
                 {"'w'", "below 2^63"});
  expect_refused(one(R"("dtype":"U8","shape":[9223372036854775807,2],"data_offsets":[0,4])"), 4,
                 {"'w'", "below 2^63"});
}

TEST(SafetensorsHeader, AShapeWithTooManyDimensionsIsRefused) {
  std::string ones = "1";
  for (int i = 1; i < 64; ++i) ones += ",1";
  EXPECT_EQ(parse(one(R"("dtype":"U8","shape":[)" + ones + R"(],"data_offsets":[0,1])"), 1)
                .tensors.at(0)
                .shape.size(),
            64u);
  expect_refused(one(R"("dtype":"U8","shape":[)" + ones + R"(,1],"data_offsets":[0,1])"), 1,
                 {"'w'", "64 dimensions"});
}

TEST(SafetensorsHeader, OffsetsThatAreNotTwoCountsAreRefused) {
  for (const char* offsets : {"", "0", "0,24,24"}) {
    expect_refused(one(R"("dtype":"F32","shape":[2,3],"data_offsets":[)" + std::string(offsets) + "]"), 24,
                   {"'w'", "data_offsets must be two numbers"});
  }
  for (const char* offsets : {"-24,0", "0,24.0", "0,\"24\"", "0,18446744073709551640"}) {
    expect_refused(one(R"("dtype":"F32","shape":[2,3],"data_offsets":[)" + std::string(offsets) + "]"), 24,
                   {"'w'", "data_offsets must hold whole numbers"});
  }
}

TEST(SafetensorsHeader, OffsetsThatDoNotFitAreRefused) {
  expect_refused(one(R"("dtype":"F32","shape":[2,3],"data_offsets":[24,0])"), 24,
                 {"'w'", "must not decrease", "24 to 0"});
  expect_refused(one(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,23])"), 23,
                 {"'w'", "F32 [2,3]", "24 bytes", "0 to 23"});
  expect_refused(one(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,25])"), 25,
                 {"'w'", "F32 [2,3]", "24 bytes"});
  expect_refused(one(R"("dtype":"F32","shape":[],"data_offsets":[0,0])"), 0, {"'w'", "F32 []", "4 bytes"});
  expect_refused(one(kGood), 23, {"'w'", "lie in the 23 bytes", "0 to 24"});
  expect_refused(one(kGood), 0, {"'w'", "lie in the 0 bytes"});
  expect_refused(one(R"("dtype":"U8","shape":[4],"data_offsets":[9223372036854775803,9223372036854775807])"),
                 4, {"'w'", "lie in the 4 bytes"});
}

TEST(SafetensorsHeader, HolesOverlapsAndTrailingBytesAreRefused) {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[)" + a +
           R"(]},"b":{"dtype":"U8","shape":[4],"data_offsets":[)" + b + "]}}";
  };
  EXPECT_EQ(parse(two("0,4", "4,8"), 8).tensors.size(), 2u);
  EXPECT_EQ(parse(two("4,8", "0,4"), 8).tensors.front().name, "b");
  expect_refused(two("0,4", "5,9"), 9, {"'b'", "hole"});
  expect_refused(two("1,5", "5,9"), 9, {"'a'", "hole"});
  expect_refused(two("0,4", "3,7"), 7, {"'b'", "overlap"});
  expect_refused(two("0,4", "0,4"), 4, {"'b'", "overlap"});
  expect_refused(two("0,4", "4,8"), 10, {"2 trailing bytes"});
  expect_refused("{}", 1, {"at byte 0, got 1 trailing byte"});
}

TEST(SafetensorsHeader, DeepNestingIsRefusedAtOnce) {
  const std::string lists(1000000, '[');
  expect_refused("{\"w\":" + lists, 0, {"'w'", "must be an object", "a list"});
  expect_refused("{\"w\":{\"shape\":" + lists, 0, {"'w'", "shape must hold whole numbers", "a list"});
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"w\":";
  expect_refused(objects, 0, {"'w'"});
}

TEST(SafetensorsHeader, AHostileNameIsShortenedAndEscapedInTheMessage) {
  const std::string name = "\\u001b[2J" + std::string(100000, 'x');
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { parse("{\"" + name + "\":1}", 0); });
  EXPECT_TRUE(test::mentions(message, {"\\x1b[2J", "..."}));
  EXPECT_LT(message.size(), 300u);
  const std::string broken = test::message_of_exactly<std::runtime_error>(
      [&] { parse("{\"" + std::string(100000, 'x') + "\xFF", 0); });
  EXPECT_LT(broken.size(), 300u);
}

}  // namespace
}  // namespace hsm::safetensors_header_test
