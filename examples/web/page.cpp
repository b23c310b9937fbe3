// SPDX-License-Identifier: MIT
//
// The page's side of the library, as one WebAssembly file. Two functions, JSON in and out:
//
//   hsm_load(bytes, size, name)   takes a model file
//   hsm_call(request)             {"call": "explore" | "begin" | "write" | "rewind" | "fork" | "weights", ...}
//
// The answer lives until the next call; where a call cannot be done it is {"error": "a sentence"}.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "examples/hsm_lm/model.hpp"
#include "examples/web/explorer.hpp"
#include "examples/web/mixing_weights.hpp"
#include "examples/web/request.hpp"
#include "examples/web/story.hpp"

template class hsm::LanguageModel<float>;

namespace hsm::examples {
namespace {

/// What the page holds between calls.
struct Page {
  Workspace workspace;
  std::unique_ptr<TextModel> text;  // the story and its sessions point to it
  std::optional<Story> story;
};

Page& page() {
  static Page page;
  return page;
}

const TextModel& loaded() {
  if (!page().text) throw std::runtime_error("a model must be loaded first, got none yet");
  return *page().text;
}

Story& story() {
  if (!page().story) throw std::runtime_error("a text must be begun first, got none yet");
  return *page().story;
}

Json load(std::vector<std::byte> bytes, std::string name) {
  const SafetensorsFile file = SafetensorsFile::parse(std::move(bytes), std::move(name));
  TextTokenizer tokenizer = read_tokenizer(file);
  auto text =
      std::make_unique<TextModel>(TextModel{detail::read_described_model(file), std::move(tokenizer)});
  const StackReport report(text->model.config());
  Json answer = {
      {"info", stack_json(report, bytes_text(static_cast<double>(parameter_bytes(text->model))) +
                                      ", matrices in " + std::string(storage_name(text->model.storage())))}};
  page().story.reset();
  page().text = std::move(text);
  return answer;
}

/// What a branch is like, and its tokens from number `first` on.
Json branch_json(std::size_t branch, std::size_t first) {
  const auto& ids = story().ids(branch);
  const auto attention = story().attention_bytes(branch);
  return {{"branch", branch},
          {"length", ids.size()},
          {"ids", std::span(ids).subspan(first)},
          {"state_bytes", detail::json_number(story().state_bytes(branch))},
          {"attention_bytes", detail::json_number(attention)},
          {"held_bytes", story().held_bytes(branch)}};
}

std::size_t branch_of(const Json& request) { return static_cast<std::size_t>(size_in(request, "branch")); }

std::uint64_t seed_of(const Json& request) {
  constexpr std::uint64_t kExact = std::uint64_t{1} << 53;  // what a number of the page can be
  return whole_number(request, "seed", 1, kExact);
}

Json begin(const Json& request) {
  const TextModel& text = loaded();
  Story fresh(text.model, page().workspace, text.tokenizer.encode(request.at("prompt").get<std::string>()),
              seed_of(request));
  page().story.emplace(std::move(fresh));
  return branch_json(0, 0);
}

Json write(const Json& request) {
  const std::size_t branch = branch_of(request);
  const SamplerOptions options{.temperature = request.value("temperature", 0.8)};
  const auto written = story().write(branch, size_in(request, "tokens", 1), options);
  return branch_json(branch, story().ids(branch).size() - written.size());
}

Json rewind(const Json& request) {
  const std::size_t branch = branch_of(request);
  story().rewind(branch, size_in(request, "length"));
  return branch_json(branch, 0);
}

Json fork(const Json& request) {
  const std::size_t branch = story().fork(branch_of(request), size_in(request, "length"), seed_of(request));
  return branch_json(branch, 0);
}

Json weights(const Json& request) {
  constexpr std::size_t kMost = 160;
  const TextModel& text = loaded();
  const Model& model = text.model;
  const std::vector<std::int32_t> ids = text.tokenizer.encode(request.at("text").get<std::string>());
  if (ids.empty() || ids.size() > kMost) {
    throw std::invalid_argument("the sentence must have 1 to " + std::to_string(kMost) + " tokens, got " +
                                std::to_string(ids.size()));
  }
  Model::Saved saved;
  model.hidden(ids, 1, static_cast<Index>(ids.size()), saved, page().workspace);
  const auto rounded = [](float value) { return std::round(1e4 * static_cast<double>(value)) / 1e4; };
  const std::vector<LayerSummary> summaries = layers_of(model.config());
  Json layers = Json::array();
  for (std::size_t l = 0; l < summaries.size(); ++l) {
    const LayerWeights layer = mixing_weights(model.block(static_cast<Index>(l)).mixer,
                                              saved.blocks[l].mixer_input, page().workspace);
    Json heads = Json::array();
    for (const HeadWeights& head : layer.heads) {
      Json rows = Json::array();
      for (const std::vector<float>& row : head.rows) {
        Json values = Json::array();
        for (const float value : row) values.push_back(rounded(value));
        rows.push_back(std::move(values));
      }
      heads.push_back({{"distances", head.distances}, {"rows", std::move(rows)}});
    }
    layers.push_back({{"mixer", summaries[l].name},
                      {"meaning", layer.meaning},
                      {"error", layer.error},
                      {"heads", std::move(heads)}});
  }
  return {{"ids", ids}, {"layers", std::move(layers)}};
}

Json call(const Json& request) {
  const auto name = request.at("call").get<std::string>();
  if (name == "explore") return explore(request);
  if (name == "begin") return begin(request);
  if (name == "write") return write(request);
  if (name == "rewind") return rewind(request);
  if (name == "fork") return fork(request);
  if (name == "weights") return weights(request);
  throw std::invalid_argument("call must be explore, begin, write, rewind, fork or weights, got '" + name +
                              "'");
}

/// The answer of f as text.
template <class F>
const char* answer(const F& f) {
  static std::string text;
  try {
    text = f().dump();
  } catch (const std::exception& error) {
    text = Json{{"error", without_name(error.what())}}.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  return text.c_str();
}

}  // namespace
}  // namespace hsm::examples

extern "C" {

const char* hsm_load(const std::byte* bytes, std::size_t size, const char* name) {
  return hsm::examples::answer([&] { return hsm::examples::load({bytes, bytes + size}, name); });
}

const char* hsm_call(const char* request) {
  return hsm::examples::answer([&] { return hsm::examples::call(hsm::examples::Json::parse(request)); });
}
}
