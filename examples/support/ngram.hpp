// SPDX-License-Identifier: MIT
//
// A byte n-gram language model: the classical yardstick that a trained model of the examples must beat.
//
// Interpolated modified Kneser-Ney (Chen and Goodman 1999), orders k = 1 .. n; h is the last k-1 bytes and h'
// is h without its first:
//   p_k(w | h) = ( max(c(hw) - D(c(hw)), 0) + (D1 N1(h) + D2 N2(h) + D3 N3+(h)) p_{k-1}(w | h') ) / sum_w
//   c(hw),     p_0 = 1/256
// and p_k(w | h) = p_{k-1}(w | h') where h was never seen. c counts occurrences in order n; below it, the
// different bytes that come before hw (the beginning of the text is one more). N_i(h) are the bytes w with
// c(hw) = i. Cost for N bytes and U different n-grams: training O(N log N) time, O(N) memory; a probability
// O(n log U). Errors: std::invalid_argument for an order outside 1..8 or an empty text.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace hsm::examples {

/// A byte n-gram model. Immutable after construction, so one object serves many threads.
class ByteNgram {
 public:
  /// The discounts D1, D2, D3+ of an order, by count 1, 2, 3 and more.
  using Discounts = std::array<double, 3>;

  /// Counts the n-grams of `training_text`, n = `order`. Throws std::invalid_argument if the text is empty or
  /// the order not in 1..8.
  explicit ByteNgram(std::string_view training_text, int order = 5);

  /// p(next | context) > 0; reads at most the last order() - 1 bytes of the context. The 256 probabilities
  /// sum to 1.
  double probability(std::string_view context, unsigned char next) const;

  /// The probabilities of all 256 bytes.
  std::array<double, 256> distribution(std::string_view context) const;

  /// The byte of highest probability, the smallest one of equals.
  int most_probable(std::string_view context) const;

  /// Mean of -log2 p(text[i] | text[0..i-1]), in bits per byte. Throws std::invalid_argument if the text is
  /// empty.
  double bits_per_byte(std::string_view text) const;

  /// n, the longest context plus one.
  int order() const { return static_cast<int>(levels_.size()); }

  /// The discounts in use for grams of k bytes, k = 1 .. order(). Throws std::out_of_range.
  const Discounts& discounts(int k) const { return levels_.at(static_cast<std::size_t>(k - 1)).discounts; }

  /// Discounts from counts[i], how many grams have count i+1 (i < 4): Y = n1 / (n1 + 2 n2), D_i = i - (i+1) Y
  /// n_{i+1} / n_i. Where one of them does not exist or is not within (0, i), as in small or regular texts,
  /// all three are Y; 0.5 where that is not within (0, 1) either.
  static Discounts estimate_discounts(const std::array<std::uint64_t, 4>& counts);

 private:
  /// The grams of k bytes, grouped by context (the first k-1 bytes), both in ascending order.
  struct Level {
    Discounts discounts{};
    std::vector<std::uint64_t> contexts;  // [contexts] the bytes of the context, the last one lowest
    std::vector<std::size_t> begin;       // [contexts + 1] range of grams of a context
    std::vector<double> total;            // [contexts] sum of counts
    std::vector<double> rest;             // [contexts] D1 N1 + D2 N2 + D3 N3+
    std::vector<unsigned char> next;      // [grams] last byte
    std::vector<double> discounted;       // [grams] count minus discount
  };

  static std::uint64_t low_bytes(std::size_t count) {
    return count >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * count)) - 1;
  }

  /// Turns the sorted grams of k bytes, each as often as it counts, into a level; leaves each gram once in
  /// `grams`.
  static Level make_level(std::vector<std::uint64_t>& grams);

  /// The position of the context in the level's list, or kNotFound.
  static std::size_t find_context(const Level& level, std::uint64_t context);

  /// The last order-1 bytes of the context, packed, and how many there are.
  std::size_t pack(std::string_view context, std::uint64_t& packed) const;

  static constexpr std::size_t kNotFound = static_cast<std::size_t>(-1);

  std::vector<Level> levels_;  // levels_[k-1] holds the grams of k bytes
};

inline ByteNgram::ByteNgram(std::string_view training_text, int order) {
  if (order < 1 || order > 8)
    throw std::invalid_argument("ByteNgram: order must be 1..8, got " + std::to_string(order));
  if (training_text.empty()) throw std::invalid_argument("ByteNgram: the training text must not be empty");
  const auto n = static_cast<std::size_t>(order);
  levels_.resize(n);

  std::vector<std::uint64_t> grams;
  grams.reserve(training_text.size());
  std::uint64_t window = 0;
  for (std::size_t i = 0; i < training_text.size(); ++i) {
    window = (window << 8 | static_cast<unsigned char>(training_text[i])) & low_bytes(n);
    if (i + 1 >= n) grams.push_back(window);
  }
  for (std::size_t k = n; k > 0; --k) {
    std::sort(grams.begin(), grams.end());
    levels_[k - 1] = make_level(grams);
    if (k == 1) break;
    // A gram of k-1 bytes counts once for each different gram of k bytes that ends with it, and once for
    // beginning the text.
    for (std::uint64_t& gram : grams) gram &= low_bytes(k - 1);
    if (training_text.size() >= k - 1) {
      std::uint64_t first = 0;
      for (std::size_t i = 0; i < k - 1; ++i)
        first = first << 8 | static_cast<unsigned char>(training_text[i]);
      grams.push_back(first);
    }
  }
}

inline ByteNgram::Discounts ByteNgram::estimate_discounts(const std::array<std::uint64_t, 4>& counts) {
  const std::array<double, 4> n{static_cast<double>(counts[0]), static_cast<double>(counts[1]),
                                static_cast<double>(counts[2]), static_cast<double>(counts[3])};
  const double single = n[0] / (n[0] + 2 * n[1]);  // NaN for 0 / 0, which fails every comparison below
  Discounts discounts{};
  bool good = true;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto count = static_cast<double>(i + 1);
    discounts[i] = count - (count + 1) * single * n[i + 1] / n[i];
    good = good && discounts[i] > 0 && discounts[i] < count;
  }
  if (good) return discounts;
  const double fallback = single > 0 && single < 1 ? single : 0.5;
  return {fallback, fallback, fallback};
}

inline ByteNgram::Level ByteNgram::make_level(std::vector<std::uint64_t>& grams) {
  Level level;
  std::vector<std::uint64_t> counts;
  std::array<std::uint64_t, 4> counts_of_counts{};
  std::size_t kept = 0;
  for (std::size_t i = 0, end = 0; i < grams.size(); i = end) {
    while (end < grams.size() && grams[end] == grams[i]) ++end;
    counts.push_back(end - i);
    if (end - i <= 4) ++counts_of_counts[end - i - 1];
    grams[kept++] = grams[i];
  }
  grams.resize(kept);
  level.discounts = estimate_discounts(counts_of_counts);

  level.next.reserve(kept);
  level.discounted.reserve(kept);
  for (std::size_t i = 0; i < kept; ++i) {
    const std::uint64_t context = grams[i] >> 8;
    if (level.contexts.empty() || level.contexts.back() != context) {
      level.contexts.push_back(context);
      level.begin.push_back(i);
      level.total.push_back(0);
      level.rest.push_back(0);
    }
    const double discount =
        level.discounts[static_cast<std::size_t>(std::min<std::uint64_t>(counts[i], 3) - 1)];
    level.next.push_back(static_cast<unsigned char>(grams[i] & 0xFF));
    level.discounted.push_back(static_cast<double>(counts[i]) - discount);
    level.total.back() += static_cast<double>(counts[i]);
    level.rest.back() += discount;
  }
  level.begin.push_back(kept);
  return level;
}

inline std::size_t ByteNgram::find_context(const Level& level, std::uint64_t context) {
  const auto found = std::lower_bound(level.contexts.begin(), level.contexts.end(), context);
  if (found == level.contexts.end() || *found != context) return kNotFound;
  return static_cast<std::size_t>(found - level.contexts.begin());
}

inline std::size_t ByteNgram::pack(std::string_view context, std::uint64_t& packed) const {
  const std::size_t length = std::min(context.size(), levels_.size() - 1);
  packed = 0;
  for (const char c : context.substr(context.size() - length))
    packed = packed << 8 | static_cast<unsigned char>(c);
  return length;
}

inline double ByteNgram::probability(std::string_view context, unsigned char next) const {
  std::uint64_t packed = 0;
  const std::size_t length = pack(context, packed);
  double p = 1.0 / 256;
  for (std::size_t k = 0; k <= length; ++k) {  // k bytes of context
    const Level& level = levels_[k];
    const std::size_t at = find_context(level, packed & low_bytes(k));
    if (at == kNotFound) break;  // nor was a longer context: the ends of its grams would be here
    const auto first = level.next.begin() + static_cast<std::ptrdiff_t>(level.begin[at]);
    const auto last = level.next.begin() + static_cast<std::ptrdiff_t>(level.begin[at + 1]);
    const auto found = std::lower_bound(first, last, next);
    const bool seen = found != last && *found == next;
    const double own = seen ? level.discounted[static_cast<std::size_t>(found - level.next.begin())] : 0.0;
    p = (own + level.rest[at] * p) / level.total[at];
  }
  return p;
}

inline std::array<double, 256> ByteNgram::distribution(std::string_view context) const {
  std::uint64_t packed = 0;
  const std::size_t length = pack(context, packed);
  std::array<double, 256> p;
  p.fill(1.0 / 256);
  for (std::size_t k = 0; k <= length; ++k) {
    const Level& level = levels_[k];
    const std::size_t at = find_context(level, packed & low_bytes(k));
    if (at == kNotFound) break;
    for (double& value : p) value *= level.rest[at];
    for (std::size_t i = level.begin[at]; i < level.begin[at + 1]; ++i)
      p[level.next[i]] += level.discounted[i];
    for (double& value : p) value /= level.total[at];
  }
  return p;
}

inline int ByteNgram::most_probable(std::string_view context) const {
  const std::array<double, 256> p = distribution(context);
  return static_cast<int>(std::max_element(p.begin(), p.end()) - p.begin());
}

inline double ByteNgram::bits_per_byte(std::string_view text) const {
  if (text.empty()) throw std::invalid_argument("ByteNgram::bits_per_byte: the text must not be empty");
  double bits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    bits -= std::log2(probability(text.substr(0, i), static_cast<unsigned char>(text[i])));
  }
  return bits / static_cast<double>(text.size());
}

}  // namespace hsm::examples
