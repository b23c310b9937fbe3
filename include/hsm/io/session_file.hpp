// SPDX-License-Identifier: MIT
//
// A generation session as one safetensors file: another process that holds the same model goes on with the
// same bits. In the metadata
//
//   format "hsm-session"   version "2"   fingerprint of the model: its config and its weights
//   spare, restarts        numbers       note.<key>  what the caller wants to find again
//
// and as tensors, of the model's scalar (F32 or F64) where no type is given:
//
//   counts I64 [streams]   ready U8 [streams]   logits [streams, V]   history.<stream> I32 [n]
//   layers.<l>.*           the state of each layer, see io/state_file.hpp
//
// A session that keeps the logits after several tokens is of version "3": ready is [streams kept], logits [streams kept, V]
// (model/session_memory.hpp). Version "1", whose states held all slots, is read too. Numbers that are not
// finite are neither written nor read. Saving replaces a file whole or not at all. Loading trusts nothing: every size is
// borne out by a tensor of the file before memory is taken, counts, flags and token ids are checked, and the session of
// another model is refused. Errors: std::runtime_error `file: what was expected, what came`.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/io/model_file.hpp>
#include <hsm/io/old_recipes.hpp>
#include <hsm/io/state_file.hpp>
#include <hsm/model/session.hpp>

namespace hsm::inline HSM_ABI {

/// The metadata `format` of a session file.
inline constexpr std::string_view kSessionFormat = "hsm-session";
/// The metadata `version` of a session that keeps the logits after the last token of a stream; files of another one are
/// refused, but for the next two.
inline constexpr std::string_view kSessionVersion = "2";
/// That of a session which keeps those after several tokens.
inline constexpr std::string_view kSpareSessionVersion = "3";
/// The version before, which is read too.
inline constexpr std::string_view kFirstSessionVersion = "1";

/// Texts that travel with a session, by key.
using SessionNotes = std::map<std::string, std::string>;

/// What a file of a session holds; GenerationSession(model, workspace, memory) goes on with it.
template <class Model>
struct SavedSession {
  typename GenerationSession<Model>::Memory memory;  ///< the streams
  SessionNotes notes;                                ///< what the program that saved it wanted to keep
};

/// The fingerprint of a language model: its config and its weights.
template <class Scalar, class List>
std::string fingerprint(const LanguageModel<Scalar, List>& model) {
  return fingerprint("language model " + config_to_json(model.config()), model);
}

namespace detail {

inline constexpr std::string_view kNotePrefix = "note.";

inline std::string layer_prefix(std::size_t l) { return "layers." + std::to_string(l) + "."; }

/// Whether this is the fingerprint of the model in a session of an earlier time: of the first version, when a config
/// stated only the options asked for, or of the second, before attention had rotary positions, a window or blocks.
template <class Scalar, class List>
bool is_old_fingerprint(const std::string& text, bool first_version,
                        const LanguageModel<Scalar, List>& model) {
  LanguageModelConfig config = model.config();
  const Recipe recipe = Recipe::parse(config.layers);
  std::vector<Recipe> recipes{without_attention_options(recipe, {"block", "top"}),
                              without_attention_options(recipe, {"window", "block", "top"}),
                              without_attention_options(recipe, {"rotary", "window", "block", "top"})};
  if (first_version) recipes = without_old_options(List{}, recipe, config.width);
  return std::any_of(recipes.begin(), recipes.end(), [&](const Recipe& stated) {
    config.layers = stated.text();
    return text == hsm::fingerprint("language model " + config_to_json(config), model);
  });
}

}  // namespace detail

/// Writes a session to `path`. Throws std::runtime_error if the file cannot be written, a stream is not whole or a value
/// is not finite, with an existing file untouched, std::invalid_argument for a note that is not UTF-8.
template <class Model>
void save_session(const std::filesystem::path& path, const GenerationSession<Model>& session,
                  const SessionNotes& notes = {}) {
  using Scalar = typename Model::Scalar;
  const auto& memory = session.memory();
  const Index n = session.streams();
  detail::check_saved_whole(detail::path_text(path), memory.state);
  Index spare = 0;
  SafetensorsWriter writer;
  detail::GatheredNumbers numbers;
  detail::Gathered<Scalar> values;
  const auto& counts = numbers.emplace_back(memory.state.counts.begin(), memory.state.counts.end());
  writer.add("counts", {n}, std::span<const std::int64_t>(counts));
  writer.add("ready", {memory.logits.cols()}, std::span<const std::uint8_t>(memory.ready));
  OwnedColumns<Scalar> there = memory.logits;  // what is left of texts that ended is not of the session
  for (std::size_t i = 0; i < memory.ready.size(); ++i) {
    if (memory.ready[i] == 0) there.col(static_cast<Index>(i)).setZero();
  }
  const std::span<const Scalar> logits(there.data(), static_cast<std::size_t>(there.size()));
  detail::check_saved_finite(detail::path_text(path), "logits", logits);
  writer.add("logits", {memory.logits.cols(), memory.logits.rows()}, logits);
  for (std::size_t s = 0; s < memory.history.size(); ++s) {
    writer.add("history." + std::to_string(s), {static_cast<std::int64_t>(memory.history[s].size())},
               std::span<const std::int32_t>(memory.history[s]));
  }
  for (std::size_t l = 0; l < memory.state.layers.size(); ++l) {
    std::visit(
        [&](const auto& state) {
          spare = (std::max)(spare, state.spare());
          detail::add_state(writer, detail::path_text(path), detail::layer_prefix(l), state, numbers, values);
        },
        memory.state.layers[l]);
  }
  writer.set_metadata("format", std::string(kSessionFormat));
  writer.set_metadata("version",
                      std::string(memory.kept_logits() == 1 ? kSessionVersion : kSpareSessionVersion));
  writer.set_metadata("fingerprint", fingerprint(session.model()));
  writer.set_metadata("spare", std::to_string(spare));
  writer.set_metadata("restarts", std::to_string(memory.restarts));
  for (const auto& [key, text] : notes) writer.set_metadata(std::string(detail::kNotePrefix) + key, text);
  writer.write(path);
}

/// The session in a file that is already in memory. Throws as load_session does.
template <class Model>
SavedSession<Model> read_session(const SafetensorsFile& from, const Model& model) {
  using Scalar = typename Model::Scalar;
  detail::FileChecks file(from);
  file.expect_metadata("format", kSessionFormat);
  const bool keeps_more = file.metadata("version") == kSpareSessionVersion;
  if (!keeps_more) file.expect_version(kSessionVersion, kFirstSessionVersion);
  if (const std::string own = fingerprint(model), &got = file.metadata("fingerprint");
      got != own && !detail::is_old_fingerprint(got, file.metadata("version") == kFirstSessionVersion, model))
    file.expect_fingerprint(own);
  SavedSession<Model> saved;
  auto& memory = saved.memory;
  const Index spare = file.number("spare"), V = model.config().vocabulary;
  memory.restarts = file.number("restarts");
  try {
    memory.state.counts = file.numbers("counts");
    const Index n = memory.state.streams();
    detail::check_at_least("session", "streams", n, 1);
    memory.ready = file.template list<std::uint8_t>("ready");
    const Index columns = keeps_more ? static_cast<Index>(memory.ready.size()) : n;
    file.template expect<Scalar>("logits", {columns, V});
    memory.logits.resize(V, columns);
    file.template read<Scalar>(
        "logits", {columns, V},
        std::span(memory.logits.data(), static_cast<std::size_t>(memory.logits.size())));
    file.check_finite("logits", std::span<const Scalar>(memory.logits.data(),
                                                        static_cast<std::size_t>(memory.logits.size())));
    for (Index s = 0; s < n; ++s)
      memory.history.push_back(file.template list<std::int32_t>("history." + std::to_string(s)));
    for (Index l = 0; l < model.layer_count(); ++l) {
      std::visit(
          [&](const auto& mixer) {
            memory.state.layers.emplace_back(detail::read_state_of(
                file, detail::layer_prefix(static_cast<std::size_t>(l)), mixer, n, {.spare = spare}));
          },
          model.block(l).mixer);
    }
    file.expect_no_more();
    memory.check("session", model);
  } catch (const std::invalid_argument& error) {
    file.fail("does not describe a session: " + std::string(error.what()));
  }
  for (const auto& [key, text] : from.metadata()) {
    if (key.starts_with(detail::kNotePrefix))
      saved.notes.emplace(key.substr(detail::kNotePrefix.size()), text);
  }
  return saved;
}

/// The session of `model` that save_session wrote. Throws std::runtime_error, naming file, what was expected
/// and what came.
template <class Model>
SavedSession<Model> load_session(const std::filesystem::path& path, const Model& model) {
  return read_session(SafetensorsFile::load(path), model);
}

}  // namespace hsm::inline HSM_ABI
