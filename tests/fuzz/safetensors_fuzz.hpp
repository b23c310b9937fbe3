// SPDX-License-Identifier: MIT
//
// Safetensors files: the bytes of a whole file. Reading from memory and from a file agree; what is not refused
// with std::runtime_error lies inside the input, and saves to a file that loads equal.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/io/safetensors_file.hpp>
#include <hsm/io/safetensors_writer.hpp>

#include "fuzz/property.hpp"
#include "fuzz/scratch.hpp"

namespace hsm::test {

/// Throws unless both files have the same metadata, and the same tensors in the same order.
inline void require_same_file(const SafetensorsFile& a, const SafetensorsFile& b) {
  require(a.metadata() == b.metadata(), "the metadata must be the same");
  require(a.tensors().size() == b.tensors().size(), "the number of tensors must be the same");
  for (std::size_t i = 0; i < a.tensors().size(); ++i) {
    const TensorInfo &x = a.tensors()[i], &y = b.tensors()[i];
    require(
        x.name == y.name && x.dtype == y.dtype && x.shape == y.shape && x.begin == y.begin && x.end == y.end,
        "the tensors must be the same");
    const auto from = a.bytes(x), to = b.bytes(y);
    require(std::equal(from.begin(), from.end(), to.begin(), to.end()), "the bytes must be the same");
  }
}

/// The tensors of a file that was saved, loaded and saved again must be the same, whatever their order.
inline void require_same_tensors(const SafetensorsFile& input, const SafetensorsFile& saved) {
  require(input.tensors().size() == saved.tensors().size(), "as many tensors must be saved as were loaded");
  for (const TensorInfo& info : input.tensors()) {
    const TensorInfo& other = saved.at(info.name);
    const auto from = input.bytes(info), to = saved.bytes(other);
    require(info.dtype == other.dtype && info.shape == other.shape &&
                std::equal(from.begin(), from.end(), to.begin(), to.end()),
            "tensor " + info.name + " must be saved as it was loaded");
  }
}

/// Writes what `file` holds, in its order.
inline void save_again(const SafetensorsFile& file, const std::filesystem::path& path) {
  SafetensorsWriter writer;
  for (const auto& [key, value] : file.metadata()) writer.set_metadata(key, value);
  for (const TensorInfo& info : file.tensors())
    writer.add(info.name, info.dtype, info.shape, file.bytes(info));
  writer.write(path);
}

/// Reads a tensor as numbers: finite ones stay finite, and a refusal leaves the output as it was.
template <class Scalar>
void require_reading(const SafetensorsFile& file, const TensorInfo& info) {
  const std::size_t count = file.bytes(info).size() / dtype_size(info.dtype);
  const Scalar untouched = std::numeric_limits<Scalar>::lowest() / 3;
  std::vector<Scalar> out(count, untouched);
  const bool number = info.dtype == DType::f16 || info.dtype == DType::bf16 || info.dtype == DType::f32 ||
                      info.dtype == DType::f64;
  const bool read = accepts<std::runtime_error>(
      file.source() + ": ", [&] { file.read(info.name, info.shape, std::span<Scalar>(out)); });
  require(number || !read, "a tensor of no floating-point type must be refused");
  require(read || std::all_of(out.begin(), out.end(), [&](Scalar x) { return x == untouched; }),
          "a refusal must leave the output as it was");
  require(read || !number || (info.dtype == DType::f64 && sizeof(Scalar) == 4),
          "only numbers past the range of float may be refused");
  if (read && info.dtype == dtype_of<Scalar>()) {
    for (std::size_t i = 0; i < count; ++i) {
      Scalar stored;
      std::memcpy(&stored, file.bytes(info).data() + i * sizeof(Scalar), sizeof(Scalar));
      require(out[i] == stored || (std::isnan(out[i]) && std::isnan(stored)),
              "a number must be read as it is stored");
    }
  }
  auto wrong = info.shape;
  wrong.push_back(1);
  require(!accepts<std::runtime_error>(file.source() + ": ",
                                       [&] { file.read(info.name, wrong, std::span<Scalar>(out)); }),
          "another shape must be refused");
}

/// Returns whether `input` is a safetensors file.
inline bool fuzz_safetensors(Input input) {
  const auto path = scratch_file("input"), copy = scratch_file("copy");
  write_input(path, input);
  const std::string begin = path.string() + ": ";
  std::vector<SafetensorsFile> parsed, loaded;
  const bool from_memory = accepts<std::runtime_error>(
      begin, [&] { parsed.push_back(SafetensorsFile::parse(bytes_of(input), path.string())); });
  const bool from_file =
      accepts<std::runtime_error>(begin, [&] { loaded.push_back(SafetensorsFile::load(path)); });
  require(from_memory == from_file, "a file must be read as its bytes are");
  if (!from_memory) return false;
  require_same_file(parsed[0], loaded[0]);

  std::uint64_t bytes = 0;
  for (const TensorInfo& info : parsed[0].tensors()) {
    require(parsed[0].find(info.name) == &info, "a tensor must be found by its name");
    bytes += parsed[0].bytes(info).size();
    require_reading<float>(parsed[0], info);
    require_reading<double>(parsed[0], info);
  }
  std::uint64_t header = 0;
  std::memcpy(&header, input.data(), sizeof(header));
  require(sizeof(header) + header + bytes == input.size(), "header and tensors must fill the file");

  save_again(parsed[0], copy);
  const SafetensorsFile again = SafetensorsFile::load(copy);
  require_same_file(parsed[0], again);
  return true;
}

}  // namespace hsm::test
