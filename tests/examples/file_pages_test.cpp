// SPDX-License-Identifier: MIT
//
// include/hsm/guide/files.md against files: what hsm_lm writes, and a state. Every tensor and key of a file stands in the
// tables of its format, in the type and shape that they tell, and everything that they tell of is in some file.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/hsm.hpp>
#include <hsm/io/model_config.hpp>
#include <hsm/io/safetensors.hpp>
#include <hsm/io/state_file.hpp>
#include <hsm/io/text_tokenizer.hpp>
#include <hsm/model/recipe.hpp>

#include "examples/hsm_lm_runner.hpp"
#include "examples/pages.hpp"
#include "examples/support/stories.hpp"

namespace hsm::test::file_pages_test {
namespace {

using Shape = std::vector<std::int64_t>;
using Text = std::string;

std::vector<Text> split(Text list) {
  std::erase(list, ' ');
  std::vector<Text> parts;
  std::istringstream stream(list);
  for (Text part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

/// A line of a table of tensors.
struct Row {
  Text name, of, type, shape;
  bool is_of(const Text& layer) const {
    const bool all_but = of.starts_with("all but ");
    const std::vector<Text> layers = split(all_but ? of.substr(8) : of);
    const bool named = std::find(layers.begin(), layers.end(), layer) != layers.end();
    return of.empty() || named != all_but;
  }
};

/// What the page says of a format.
struct Format {
  std::vector<Text> keys;
  std::vector<Row> rows;
};

/// By the name of each format.
std::map<Text, Format> formats() {
  std::map<Text, Format> all;
  Format* format = nullptr;
  Text table;
  std::istringstream lines(source_text("include/hsm/guide/files.md"));
  for (Text line; std::getline(lines, line);) {
    const std::size_t name = line.find("`hsm-");
    if (line.starts_with("## "))
      format = name == Text::npos ? nullptr : &all[line.substr(name + 1, line.size() - name - 2)];
    if (!line.starts_with("|")) table.clear();
    if (!line.starts_with("|") || !format) continue;
    std::vector<Text> cells = cells_of(line);
    if (table.empty()) table = cells[0];
    if (!cells[0].starts_with("`")) continue;
    const Text entry = cells[0].substr(1, cells[0].size() - 2);
    if (table == "key") format->keys.push_back(entry);
    if (table == "tensor") format->rows.push_back({entry, cells.at(1), cells.at(2), cells.at(3)});
  }
  return all;
}

/// Whether `text` is `pattern`, in which <one letter> is a number and other <...> the rest; both go to `got`.
bool matches(std::string_view pattern, std::string_view text, std::map<Text, Text>& got) {
  if (pattern.empty() || text.empty()) return pattern.empty() && text.empty();
  if (pattern[0] != '<') return pattern[0] == text[0] && matches(pattern.substr(1), text.substr(1), got);
  const std::size_t end = pattern.find('>');
  const std::size_t length =
      end == 2 ? std::min(text.find_first_not_of("0123456789"), text.size()) : text.size();
  got[Text(pattern.substr(1, end - 1))] = text.substr(0, length);
  return length > 0 && matches(pattern.substr(end + 1), text.substr(length), got);
}

/// Compares files with the page, and knows what it has met.
class PageOfFiles {
 public:
  /// The model that the files are of.
  void set_model(const LanguageModelConfig& config, Storage storage) {
    layers_ = Recipe::parse(config.layers).layers;
    storage_ = storage;
    sizes_ = {
        {"V", config.vocabulary}, {"C", config.width}, {"F", config.feed_forward}, {"T", config.context}};
  }

  void compare(const std::filesystem::path& path, const Text& format) {
    const auto meet_key = [&](const Text& key) {
      std::map<Text, Text> got;
      for (const Text& pattern : formats_[format].keys) {
        if (matches(pattern, key, got)) return void(met_.insert(format + " " + pattern));
      }
      ADD_FAILURE() << "the page has no key " << key << " of " << format;
    };
    const auto meet_tensor = [&](const Text& name, DType type, const Shape& shape) {
      EXPECT_EQ(check(format, name, type, shape, {}), "") << format;
    };
    // [shown]
    const auto file = hsm::SafetensorsFile::load(path);  // throws std::runtime_error, which says what came
    for (const auto& [key, value] : file.metadata()) meet_key(key);
    for (const hsm::TensorInfo& tensor : file.tensors()) meet_tensor(tensor.name, tensor.dtype, tensor.shape);
    // [/shown]
    EXPECT_EQ(file.metadata().find("format")->second, format);
  }

  /// What the page tells of and no file had.
  std::vector<Text> missing() const {
    std::vector<Text> all;
    for (const auto& [format, said] : formats_) {
      for (const Text& key : said.keys) all.push_back(format + " " + key);
      for (const Row& row : said.rows) {
        const bool several = !row.of.empty() && !row.of.starts_with("all but ");
        for (const Text& layer : several ? split(row.of) : std::vector<Text>{""})
          all.push_back(format + " " + row.name + " " + layer);
      }
    }
    std::erase_if(all, [&](const Text& entry) { return met_.contains(entry); });
    return all;
  }

 private:
  /// A dimension such as 2C, C/H or levels; none where it is no number of the model.
  std::optional<std::int64_t> value(const Text& dimension, const std::map<Text, std::int64_t>& own) const {
    const auto find = [&](const Text& name) -> std::optional<std::int64_t> {
      if (const auto found = own.find(name); found != own.end()) return found->second;
      if (const auto found = sizes_.find(name); found != sizes_.end()) return found->second;
      return std::nullopt;
    };
    if (dimension == "C/H" && find("H")) return *find("C") / *find("H");
    const std::size_t digits = std::min(dimension.find_first_not_of("0123456789"), dimension.size());
    const std::int64_t factor = digits == 0 ? 1 : std::stoll(dimension.substr(0, digits));
    if (digits == dimension.size()) return factor;
    const auto found = find(dimension.substr(digits));
    return found ? std::optional(factor * *found) : std::nullopt;
  }

  /// "" if the page has such a tensor; `layer` is that of the state it belongs to.
  Text check(const Text& format, const Text& name, DType type, const Shape& shape,
             std::optional<std::size_t> layer) {
    if (name.ends_with(".scales") && storage_ == Storage::kInt8)
      return "";  // seen with what they are the scales of
    Text wrong = "the page has no tensor " + name;
    for (const Row& row : formats_[format].rows) {
      std::map<Text, Text> got;
      if (!matches(row.name, name, got)) continue;
      const auto at = got.contains("l") ? std::optional<std::size_t>(std::stoul(got["l"])) : layer;
      const Text kind = at ? layers_.at(*at).name : "ab";
      if (!row.is_of(kind)) continue;
      const bool several = !row.of.empty() && !row.of.starts_with("all but ");
      const Text entry = format + " " + row.name + " " + (several ? kind : "");
      for (const auto& [placeholder, other] : {std::pair("tensor of a model", "hsm-language-model"),
                                               std::pair("tensor of a state", "hsm-state")}) {
        if (!got.contains(placeholder)) continue;
        const Text inner = check(other, got[placeholder], type, shape, at);
        if (inner.empty()) met_.insert(entry);
        wrong = inner;
      }
      if (row.type.empty()) {
        if (wrong.empty()) return wrong;
        continue;
      }
      std::map<Text, std::int64_t> own;
      if (at) {
        const OptionValues& options = layers_[*at].options;
        for (const auto& [symbol, option] :
             {std::pair("H", "heads"), std::pair("n", "ndim"), std::pair("levels", "levels")})
          if (const auto number = options.find(option)) own[symbol] = *number;
      }
      const std::vector<Text> dimensions = split(row.shape.substr(1, row.shape.size() - 2));
      bool fits = dimensions.size() == shape.size();
      for (std::size_t i = 0; fits && i < shape.size(); ++i)
        fits = value(dimensions[i], own).value_or(shape[i]) == shape[i];
      const DType narrow = storage_ == Storage::kBfloat16 ? DType::bf16
                           : storage_ == Storage::kInt8   ? DType::i8
                                                          : DType::f32;
      const DType expected = row.type == "matrix"  ? narrow
                             : row.type == "float" ? DType::f32
                                                   : find_dtype(row.type).value();
      if (fits && type == expected) {
        met_.insert(entry);
        return "";
      }
      wrong = name + " is " + Text(dtype_name(type)) + " " + hsm::detail::shape_text(shape) +
              ", on the page " + row.type + " " + row.shape;
    }
    return wrong;
  }

  std::map<Text, Format> formats_ = formats();
  std::set<Text> met_;
  std::vector<LayerRecipe> layers_;
  Storage storage_ = Storage::kFloat;
  std::map<Text, std::int64_t> sizes_;
};

class FilesPage : public HsmLm {
 protected:
  void run_tool(const Arguments& arguments) const {
    const Outcome outcome = run(arguments);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }

  /// A model file, and what is of that model.
  void compare_model(PageOfFiles& page, const Text& name) const {
    const auto file = SafetensorsFile::load(work_ / name);
    const auto storage = file.metadata().find("storage");
    page.set_model(
        hsm::detail::ModelConfigReader(file.metadata().find("config")->second, name).read(),
        storage == file.metadata().end() ? Storage::kFloat : find_storage(storage->second).value());
    page.compare(work_ / name, "hsm-language-model");
    for (const TensorInfo& tensor : file.tensors()) {
      if (!tensor.name.ends_with(".scales")) continue;
      const TensorInfo& matrix = file.at(tensor.name.substr(0, tensor.name.size() - 7));
      EXPECT_EQ(tensor.shape, (Shape{matrix.shape[0], (matrix.shape[1] + 31) / 32})) << tensor.name;
      EXPECT_EQ(tensor.dtype, DType::f32);
      EXPECT_EQ(matrix.dtype, DType::i8);
    }
  }
};

TEST_F(FilesPage, TellsOfEveryKeyAndTensorAndOfNoOther) {
  // Sizes that are all different: V 256, C 40, F 36, T 17, and of a layer 2, 4 or 5 heads, 3 memories, 3 levels.
  const Text layers =
      "ab:heads=2,channel,matrix,gated,gated-pair,fusion,softmax-local:heads=4,ema:ndim=3,attention:heads=5,"
      "linear-attention:heads=4,hkt:heads=4:levels=3";
  run_tool({"train",    "--text",      "text",         "--out",       "model",
            "--layers", layers,        "--width",      "40",          "--feed-forward",
            "36",       "--context",   "17",           "--positions", "learned",
            "--batch",  "2",           "--steps",      "2",           "--validate-every",
            "1",        "--keep-best", "--checkpoint", "run",         "--threads",
            "1"});
  run_tool(
      {"generate", "--model", "model", "--prompt", "the ca", "--tokens", "3", "--save-session", "session"});
  PageOfFiles page;
  compare_model(page, "model");
  page.compare(work_ / "session", "hsm-session");
  page.compare(work_ / "run", "hsm-checkpoint");
  const Mixer mixer(ScalarPair<float>(40), 2);
  save_state(work_ / "state", mixer, mixer.make_state());
  page.compare(work_ / "state", "hsm-state");
  for (const Text storage : {"bf16", "int8"}) {
    run_tool({"convert", "--model", "model", "--storage", storage, "--out", storage});
    compare_model(page, storage);
  }
  if (SentencePieceTokenizer::kAvailable) {
    write_raw(work_ / "stories", examples::make_stories({.bytes = 30'000}).text);
    run_tool({"tokenize", "--text", "stories", "--vocab", "400", "--out", "pieces"});
    run_tool({"train", "--text", "stories", "--tokenizer", "pieces", "--out", "of-pieces", "--layers", "ab",
              "--width", "16", "--context", "16", "--steps", "1", "--threads", "1"});
    compare_model(page, "of-pieces");
  }
  for (const Text& entry : page.missing()) {
    if (SentencePieceTokenizer::kAvailable || entry.find(" tokenizer") == Text::npos)
      ADD_FAILURE() << "the page tells of what no file has: " << entry;
  }
}

TEST(FilesPageWords, PatternsAreNumbersAndTheRest) {
  std::map<Text, Text> got;
  EXPECT_TRUE(matches("layers.<l>.mixer.a", "layers.12.mixer.a", got));
  EXPECT_EQ(got["l"], "12");
  EXPECT_FALSE(matches("layers.<l>.mixer.a", "layers.x.mixer.a", got));
  EXPECT_FALSE(matches("layers.<l>.mixer.a", "layers.1.mixer.ab", got));
  EXPECT_TRUE(matches("good.<tensor of a model>", "good.norm.bias", got));
  EXPECT_EQ(got["tensor of a model"], "norm.bias");
  EXPECT_TRUE((Row{"", "all but attention", "", ""}.is_of("hkt")));
  EXPECT_FALSE((Row{"", "all but attention", "", ""}.is_of("attention")));
  EXPECT_FALSE((Row{"", "attention, hkt", "", ""}.is_of("ab")));
}

}  // namespace
}  // namespace hsm::test::file_pages_test
