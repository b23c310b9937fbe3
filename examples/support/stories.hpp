// SPDX-License-Identifier: MIT
//
// Little English stories, written by a grammar: the training text that the examples carry with them.
//
//   Mira had a red kite. Tom found a small drum. "Who has the drum?" asked the baker. It was Tom.
//
// Each story (one line of 200 to 500 ASCII bytes) introduces two or three people, and as many things or
// places or both, says which belongs to whom, and later needs the right one. Those spots are listed as
// `Recall`s: the text before them settles the word, its first byte tells the candidates of the story apart,
// and the nearest earlier mention is 20 to 120 bytes away, so a short context does not help. Two people,
// things or places that share a story in the validation split never share one in the training split
// (`is_held_out`), while single words are the same in both. Cost: O(bytes). The same options give the same
// bytes everywhere.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/random.hpp>

namespace hsm::examples {

/// What a recalled word names.
enum class RecallKind { person, thing, place };

/// How the text settles the word: `echo` repeats a word that the same little scene has named ("Good morning,
/// ..." is returned to who said it); `lookup` needs what an earlier sentence tied together (who has
/// the drum?).
enum class RecallLogic { echo, lookup };

/// A spot where a word introduced earlier in the same story must come.
struct Recall {
  std::size_t offset = 0;                   ///< byte offset in the text of the word's first byte
  std::size_t length = 0;                   ///< bytes of the word
  int candidates = 0;                       ///< words of this kind in the story; chance is 1 / candidates
  RecallKind kind = RecallKind::person;     ///< what the word names
  RecallLogic logic = RecallLogic::lookup;  ///< how it follows from the text
};

/// Which side of the split a text is on.
enum class Split { train, validation };

/// What to write.
struct StoryOptions {
  std::size_t bytes = 1'000'000;  ///< upper bound of the text's size, met to within kLongestStory
  std::uint64_t seed = 1;         ///< any value
  Split split = Split::train;
};

/// A text of whole stories, one a line, and its recalls in ascending order of offset.
struct StorySet {
  std::string text;
  std::vector<Recall> recalls;
};

inline constexpr std::size_t kShortestStory = 200;  ///< bytes, with the newline
inline constexpr std::size_t kLongestStory = 500;   ///< bytes, with the newline

/// Bounds of the distance in bytes from the start of the last mention to the start of the recalled word.
inline constexpr std::size_t kNearestRecall = 20, kFarthestRecall = 120;

namespace detail {

using Words = std::span<const std::string_view>;

inline constexpr std::string_view kPeople[] = {
    "Ada",    "Amos",   "Bella",  "Boris", "Clara",  "Conrad", "Dora",  "Daniel", "Edith", "Emil",
    "Flora",  "Felix",  "Greta",  "Gus",   "Hanna",  "Hugo",   "Ida",   "Ivan",   "Jana",  "Jonas",
    "Karin",  "Kaspar", "Lena",   "Lukas", "Mira",   "Milo",   "Nora",  "Nils",   "Olga",  "Oscar",
    "Paula",  "Peter",  "Quinn",  "Rosa",  "Rupert", "Sara",   "Simon", "Tilda",  "Tom",   "Ursula",
    "Ulrich", "Vera",   "Viktor", "Wanda", "Walter", "Yvonne", "Yuri",  "Zora",   "Zeno"};
inline constexpr std::string_view kThings[] = {
    "apple",  "anchor", "basket", "bell",   "candle", "coin",    "drum",     "dagger", "egg",
    "fiddle", "flute",  "goblet", "hat",    "hammer", "jug",     "jewel",    "kite",   "key",
    "lamp",   "ladder", "mirror", "map",    "needle", "net",     "orange",   "pipe",   "purse",
    "quilt",  "rope",   "ring",   "saddle", "spoon",  "trumpet", "umbrella", "violin", "whistle"};
inline constexpr std::string_view kPlaces[] = {
    "attic",   "barn", "bakery",  "cellar",  "castle", "dairy",  "forest",  "garden",  "harbour",
    "hayloft", "inn",  "kitchen", "library", "mill",   "meadow", "nursery", "orchard", "pantry",
    "quarry",  "ruin", "stable",  "school",  "tower",  "valley", "wagon",   "yard"};
inline constexpr std::string_view kAdjectives[] = {"red",   "blue",   "green",  "brown",  "white",  "black",
                                                   "small", "little", "tiny",   "heavy",  "shiny",  "new",
                                                   "fine",  "pretty", "wooden", "silver", "golden", "plain"};
inline constexpr std::string_view kRoles[] = {"baker", "miller", "farmer", "tailor", "shepherd", "smith",
                                              "cook",  "king",   "mayor",  "sailor", "teacher",  "old woman"};

// Sentences. $ writes a word, @ writes a word that the text before has settled (a recall). The letter after
// it:
//   p t l   the person, thing, place (location) of the first party
//   P T     the person, thing of the second party
//   c       all people of the story
//   a       an adjective
//   r       a role, the same one throughout the template
// A recall needs care: what precedes an @ must always be followed by a word of that kind.
inline constexpr std::string_view kOpeners[] = {
    "Once upon a time there lived $c.", "Long ago $c lived by the sea.", "One day $c met on the road.",
    "This is a story about $c.",        "$c were good friends.",         "The $r knew $c very well."};
inline constexpr std::string_view kOwning[] = {
    "$p had a $a $t.",  "$p owned a $a $t.",  "$p found a $a $t.",       "The $r gave $p a $a $t.",
    "$p made a $a $t.", "$p bought a $a $t.", "A $a $t belonged to $p.", "$p carried a $a $t."};
inline constexpr std::string_view kStaying[] = {"$p lived in the $l.",  "$p slept in the $l.",
                                                "$p worked in the $l.", "$p sat in the $l.",
                                                "In the $l lived $p.",  "$p stayed in the $l."};
inline constexpr std::string_view kHiding[] = {"$p hid a $a $t in the $l.", "$p left a $a $t in the $l.",
                                               "$p kept a $a $t in the $l.", "In the $l $p put a $a $t.",
                                               "$p brought a $a $t to the $l."};

// The first swaps who owns what; it is not for stories that also tie things to places.
inline constexpr std::string_view kOwningScenes[] = {
    R"(Then $p and $P traded, so that the $t went to @P and the $T went to @p.)",
    R"("Who has the $t?" asked the $r. It was @p.)",
    R"("Whose $t is this?" asked the $r. It belonged to @p.)",
    R"(The $r wanted to see the $t and went to visit @p.)",
    R"(Then $p wanted to play and took out the @t.)",
    R"(In the evening $p ran home and fetched the @t.)",
    R"(The $r met $p and asked to borrow the @t.)",
    R"(When $p fell asleep, a mouse ran over the @t.)"};
inline constexpr std::string_view kStayingScenes[] = {
    R"("Where is $p?" asked the $r. Nobody had looked in the @l.)",
    R"(At noon the $r knocked at the $l and out came @p.)",
    R"(A letter for $p came, and the $r took it to the @l.)",
    R"(The $r heard singing in the $l. Surely it was @p.)",
    R"(When the $l caught fire, the $r ran to save @p.)",
    R"(At night $p was tired and went back to the @l.)"};
inline constexpr std::string_view kHidingScenes[] = {R"("Where is the $t?" asked the $r. It was in the @l.)",
                                                     R"("What is in the $l?" asked the $r. It was the @t.)",
                                                     R"(Later the $t was needed, so the $r ran to the @l.)",
                                                     R"(The $r swept the $l and picked up the @t.)",
                                                     R"(A cat crept into the $l and slept beside the @t.)",
                                                     R"(After a week $p walked back to look in the @l.)"};
inline constexpr std::string_view kPersonEchoes[] = {
    R"("Good morning, $p," said $P. "Good morning, @P," said @p.)",
    R"("Good evening, $p," said $P. "Good evening, @P," said @p.)",
    R"("How do you do, $p?" asked $P. "How do you do, @P?" asked @p.)",
    R"($p asked $P for help. "I will gladly help," said @P, and @p was happy.)",
    R"($p told $P a tale about a bear. When it was over, @P thanked @p.)",
    R"($p waved to $P from far away. After a while @P waved back to @p.)",
    R"($p ran after $P up the hill. At the top @P stopped and waited for @p.)"};
inline constexpr std::string_view kThingEchoes[] = {
    R"("May I hold the $t?" asked $P. So $p gently handed over the @t.)",
    R"($P dreamed of the $t. In the dream a bird flew away with the @t.)"};
inline constexpr std::string_view kPlaceEchoes[] = {
    R"("Shall we meet in the $l?" asked $p. So at noon $P came to the @l.)",
    R"($P looked at the $l. A big owl sat on the roof of the @l.)"};

inline constexpr std::string_view kFillers[] = {
    "The sun was warm.",   "It rained all day.",     "The wind was cold.",   "Birds sang outside.",
    "Soon the moon rose.", "A dog barked far away.", "Snow began to fall.",  "Nobody said a word.",
    "The grass was wet.",  "Everyone was hungry.",   "Time went by quickly."};
inline constexpr std::string_view kEndings[] = {"And that was the end.", "Then everybody laughed.",
                                                "Nobody ever forgot it.", "And so the day ended.",
                                                "After that all was quiet."};

inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Where `word` last begins in `text` as a whole word; npos if it does not.
inline std::size_t last_mention(std::string_view text, std::string_view word) {
  std::size_t at = text.rfind(word);
  while (at != std::string_view::npos) {
    const std::size_t end = at + word.size();
    if ((at == 0 || !is_letter(text[at - 1])) && (end == text.size() || !is_letter(text[end]))) return at;
    at = at == 0 ? std::string_view::npos : text.rfind(word, at - 1);
  }
  return at;
}

}  // namespace detail

/// All words of a kind that stories can introduce.
inline std::span<const std::string_view> story_words(RecallKind kind) {
  if (kind == RecallKind::person) return detail::kPeople;
  return kind == RecallKind::thing ? detail::Words(detail::kThings) : detail::Words(detail::kPlaces);
}

/// Whether stories with both words belong to the validation split: about every fifth pair does. The rule is a
/// hash, FNV-1a (64 bits) over the smaller word, a '+' and the larger word; h held out iff Random(h).below(5)
/// == 0. Symmetric in its arguments.
inline bool is_held_out(std::string_view first, std::string_view second) {
  if (second < first) std::swap(first, second);
  std::uint64_t hash = 0xCBF29CE484222325ull;
  const auto add = [&hash](std::string_view bytes) {
    for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  };
  add(first);
  add("+");
  add(second);
  return Random(hash).below(5) == 0;
}

namespace detail {

/// Writes one story at a time; `draft` gives false where a bound of length or distance is missed.
class StoryWriter {
 public:
  StoryWriter(std::uint64_t seed, Split split) : random_(seed), split_(split) {}

  bool draft() {
    text_.clear();
    recalls_.clear();
    used_.clear();
    last_target_ = kNobody;
    const std::uint64_t form = random_.below(3);  // 0 person-thing, 1 person-place, 2 all three tied
    const std::size_t parties = form < 2 && random_.below(2) == 0 ? 3 : 2;
    people_ = draw_cast(kPeople, parties);
    things_ = form == 1 ? std::vector<std::string_view>{} : draw_cast(kThings, parties);
    places_ = form == 0 ? std::vector<std::string_view>{} : draw_cast(kPlaces, parties);

    bool good = random_.below(2) == 0 || write(any(kOpeners), {}, RecallLogic::lookup);
    maybe_write(kFillers, 5);
    const Words ties = form == 0 ? Words(kOwning) : form == 1 ? Words(kStaying) : Words(kHiding);
    for (std::size_t i = 0; i < parties; ++i) good = good && write(any(ties), {i, i}, RecallLogic::lookup);
    for (std::uint64_t scenes = 2 + random_.below(3); scenes > 0; --scenes) {
      good = good && write_scene(form);
      maybe_write(kFillers, 5);
    }
    maybe_write(kEndings, 2);
    text_.back() = '\n';
    return good && text_.size() >= kShortestStory && text_.size() <= kLongestStory;
  }

  /// The last draft, and its recalls counted from its first byte.
  const std::string& text() const { return text_; }
  const std::vector<Recall>& recalls() const { return recalls_; }

 private:
  struct Parties {
    std::size_t first = 0;
    std::size_t second = 0;
  };

  std::string_view any(Words words) { return words[static_cast<std::size_t>(random_.below(words.size()))]; }

  /// `count` words with different first bytes, every pair of which is on this side of the split.
  std::vector<std::string_view> draw_cast(Words words, std::size_t count) {
    std::vector<std::string_view> cast;
    while (cast.size() < count) {
      cast.clear();  // starts over on a clash: adding to a half-drawn cast could find no third word
      for (std::size_t i = 0; i < count; ++i) {
        const std::string_view word = any(words);
        bool fits = true;
        for (const std::string_view other : cast) {
          fits = fits && word[0] != other[0] && is_held_out(word, other) == (split_ == Split::validation);
        }
        if (!fits) break;
        cast.push_back(word);
      }
    }
    return cast;
  }

  bool write_scene(std::uint64_t form) {
    Parties who;
    who.first = static_cast<std::size_t>(random_.below(people_.size()));
    // Changing the subject more often than not keeps "the one mentioned last" from being a good guess.
    if (who.first == last_target_) who.first = static_cast<std::size_t>(random_.below(people_.size()));
    last_target_ = who.first;
    who.second =
        (who.first + 1 + static_cast<std::size_t>(random_.below(people_.size() - 1))) % people_.size();
    RecallLogic logic = RecallLogic::lookup;
    Words scenes = kOwningScenes;
    if (form == 1) scenes = kStayingScenes;
    if (form == 2) scenes = random_.below(3) == 0 ? scenes.subspan(1) : Words(kHidingScenes);
    if (random_.below(4) == 0) {
      logic = RecallLogic::echo;
      scenes = kPersonEchoes;
      const std::uint64_t kind = random_.below(4);
      if (kind == 0 && form != 1) scenes = kThingEchoes;
      if (kind == 1 && form != 0) scenes = kPlaceEchoes;
    }
    const std::string_view pattern = any(scenes);
    const bool good = first_use(pattern) && write(pattern, who, logic);
    if (pattern == kOwningScenes[0]) std::swap(things_[who.first], things_[who.second]);
    return good;
  }

  /// Whether the story has not used this template yet; marks it as used.
  bool first_use(std::string_view pattern) {
    const bool fresh = std::find(used_.begin(), used_.end(), pattern) == used_.end();
    used_.push_back(pattern);
    return fresh;
  }

  /// One sentence of `words` in one of `odds` cases.
  void maybe_write(Words words, std::uint64_t odds) {
    if (random_.below(odds) != 0) return;
    const std::string_view sentence = any(words);
    if (first_use(sentence)) (text_ += sentence) += ' ';
  }

  /// Appends the filled template and a space; false if a recalled word was last mentioned out of bounds.
  bool write(std::string_view pattern, Parties who, RecallLogic logic) {
    const std::string_view role = any(kRoles);
    bool good = true;
    for (std::size_t at = 0; at < pattern.size(); ++at) {
      if (pattern[at] != '$' && pattern[at] != '@') {
        text_ += pattern[at];
        continue;
      }
      const bool recalled = pattern[at] == '@';
      switch (pattern[++at]) {
        case 'p':
          good = word(people_, who.first, RecallKind::person, recalled, logic) && good;
          break;
        case 'P':
          good = word(people_, who.second, RecallKind::person, recalled, logic) && good;
          break;
        case 't':
          good = word(things_, who.first, RecallKind::thing, recalled, logic) && good;
          break;
        case 'T':
          good = word(things_, who.second, RecallKind::thing, recalled, logic) && good;
          break;
        case 'l':
          good = word(places_, who.first, RecallKind::place, recalled, logic) && good;
          break;
        case 'a':
          text_ += any(kAdjectives);
          break;
        case 'r':
          text_ += role;
          break;
        case 'c':
          for (std::size_t i = 0; i < people_.size(); ++i) {
            if (i > 0) text_ += i + 1 == people_.size() ? " and " : ", ";
            text_ += people_[i];
          }
          break;
        default:
          throw std::logic_error("make_stories: a template has an unknown slot");
      }
    }
    text_ += ' ';
    return good;
  }

  bool word(const std::vector<std::string_view>& cast, std::size_t index, RecallKind kind, bool recalled,
            RecallLogic logic) {
    const std::string_view name = cast.at(index);
    bool good = true;
    if (recalled) {
      const std::size_t last = last_mention(text_, name);
      good = last != std::string::npos && text_.size() - last >= kNearestRecall &&
             text_.size() - last <= kFarthestRecall;
      recalls_.push_back({text_.size(), name.size(), static_cast<int>(cast.size()), kind, logic});
    }
    text_ += name;
    return good;
  }

  static constexpr std::size_t kNobody = static_cast<std::size_t>(-1);

  Random random_;
  Split split_;
  std::string text_;
  std::vector<Recall> recalls_;
  std::vector<std::string_view> used_;                      // templates of this story
  std::size_t last_target_ = kNobody;                       // the first party of the scene before
  std::vector<std::string_view> people_, things_, places_;  // party i is (people_[i], things_[i], places_[i])
};

}  // namespace detail

/// Writes whole stories up to `options.bytes`. A longer text of the same seed and split begins with the
/// shorter one. Training texts of 256 KiB and more contain every word that a validation text can. Throws
/// std::invalid_argument if not even one story is sure to fit.
inline StorySet make_stories(const StoryOptions& options) {
  if (options.bytes < kLongestStory) {
    throw std::invalid_argument("make_stories: bytes must be at least " + std::to_string(kLongestStory) +
                                ", got " + std::to_string(options.bytes));
  }
  StorySet set;
  detail::StoryWriter writer(options.seed, options.split);
  for (;;) {
    if (!writer.draft()) continue;
    if (writer.text().size() > options.bytes - set.text.size()) return set;
    for (Recall recall : writer.recalls()) {
      recall.offset += set.text.size();
      set.recalls.push_back(recall);
    }
    set.text += writer.text();
  }
}

}  // namespace hsm::examples
