// SPDX-License-Identifier: MIT
//
// A stack of shift mixers as a drawing: the layers from the input below to the last token above, the paths
// that end in the last token, and under each token how many of them begin there. Attention layers are bands.
//
// Large stacks are cut: the nearest kMostTokens offsets, the uppermost kMostLayers layers. What is cut is
// said in the drawing, and the counts are those of the whole stack. A narrow drawing, for a phone, has short labels
// and no notes.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <hsm/schedule/coverage.hpp>

#include "examples/support/svg.hpp"

namespace hsm::examples {

/// A layer of the drawing.
struct PictureLayer {
  std::string name;   ///< the mixer
  std::string shift;  ///< its shifts for people
  CoverageLayer back;
};

/// What is written above the drawing; nothing where it is empty.
struct PictureTitle {
  std::string title, subtitle;
};

/// How a stack is drawn.
struct PictureOptions {
  static constexpr Index kEvery = -1;

  double width = 980;   ///< pixels of the whole; below 600 labels are short
  Index from = kEvery;  ///< the offset whose paths stand out; kEvery: none more than others
};

/// Draws one stack; `file` is the SVG.
class StackPicture {
 public:
  static constexpr Index kMostTokens = 128;
  static constexpr std::size_t kMostLayers = 32;

  StackPicture(PictureTitle title, std::vector<PictureLayer> layers, const Coverage& coverage,
               PictureOptions options = {})
      : title_(std::move(title)),
        coverage_(&coverage),
        from_(options.from),
        narrow_(options.width < 600),
        width_(options.width),
        cut_(layers.size() > kMostLayers ? layers.size() - kMostLayers : 0),
        layers_(std::make_move_iterator(layers.begin() + static_cast<std::ptrdiff_t>(cut_)),
                std::make_move_iterator(layers.end())),
        tokens_(std::min(coverage.window(), kMostTokens)),
        pitch_(paper() / static_cast<double>(tokens_)),
        row_(std::clamp(340 / static_cast<double>(layers_.size() + 1), narrow_ ? 34.0 : 24.0, 60.0)) {
    for (const PictureLayer& layer : layers_)
      shifts_.insert(shifts_.end(), layer.back.shifts.begin(), layer.back.shifts.end());
    std::sort(shifts_.begin(), shifts_.end());
    shifts_.erase(std::unique(shifts_.begin(), shifts_.end()), shifts_.end());
  }

  std::string file() const {
    const std::size_t lines = narrow_ ? 0 : notes().size();
    Svg svg(width_, chart() + kChart + (lines == 0 ? 44 : 62 + 18 * static_cast<double>(lines)));
    if (has_title()) {
      svg.text(20, 30, shortened(title_.title, 90), {.size = 17, .color = "#0f172a", .bold = true});
      svg.text(20, 51, shortened(title_.subtitle, 130), {.size = 13, .color = "#475569"});
    }
    draw_layers(svg);
    draw_chart(svg);
    if (narrow_) return svg.file();
    double y = chart() + kChart + 56;
    for (const std::string& note : notes()) {
      svg.text(20, y, note, {.color = "#64748b"});
      y += 18;
    }
    return svg.file();
  }

  /// Whether labels are short, and the notes are left to others.
  bool narrow() const { return narrow_; }
  /// What the drawing itself cannot show, a sentence each.
  std::vector<std::string> notes() const;
  /// How many offsets are drawn.
  Index tokens() const { return tokens_; }
  /// Where the tokens begin, in pixels from the left.
  double left() const { return narrow_ ? 72 : 190; }
  /// Pixels from one token to the next.
  double pitch() const { return pitch_; }

 private:
  static constexpr double kChart = 84;
  using Tokens = std::vector<bool>;  // [tokens_], by offset

  double paper() const { return width_ - left() - (narrow_ ? 8 : 30); }
  bool has_title() const { return !title_.title.empty(); }
  double top() const { return has_title() ? 92 : 34; }
  double x(Index offset) const { return left() + (static_cast<double>(tokens_ - 1 - offset) + 0.5) * pitch_; }
  /// Level 0 is the input of the lowest layer drawn.
  double y(std::size_t level) const { return top() + static_cast<double>(layers_.size() - level) * row_; }
  double chart() const { return y(0) + 56; }
  double dot() const { return std::clamp(0.42 * pitch_, 2.4, 10.0); }

  /// The same distance has the same colour in every layer.
  const char* color(Index shift) const {
    static constexpr const char* kColors[] = {"#1d4ed8", "#0891b2", "#059669", "#65a30d", "#d97706",
                                              "#dc2626", "#c026d3", "#7c3aed", "#475569", "#92400e"};
    const auto rank = std::lower_bound(shifts_.begin(), shifts_.end(), shift) - shifts_.begin();
    return kColors[static_cast<std::size_t>(rank) % std::size(kColors)];
  }

  static std::string shortened(const std::string& text, std::size_t most) {
    if (text.size() <= most) return text;
    std::string start = text.substr(0, most - 3);
    start += "...";
    return start;
  }

  template <class F>
  void for_each_edge(const CoverageLayer& back, const F& f) const;
  std::vector<Tokens> used_tokens() const;
  std::vector<Tokens> lit_tokens(const std::vector<Tokens>& used) const;
  void draw_labels(Svg& svg) const;
  void draw_layers(Svg& svg) const;
  void draw_edges(Svg& svg, std::size_t level, const Tokens& ends, const Tokens& lit) const;
  void draw_chart(Svg& svg) const;

  PictureTitle title_;
  const Coverage* coverage_;
  Index from_;
  bool narrow_;
  double width_;
  std::size_t cut_;  // layers below those drawn
  std::vector<PictureLayer> layers_;
  Index tokens_;
  double pitch_, row_;
  std::vector<Index> shifts_;  // of all layers, each once, rising
};

// f(s, start, end) for each edge of a layer, the end of an edge being an offset of the level above; s = 0 for the
// straight ones.
template <class F>
void StackPicture::for_each_edge(const CoverageLayer& back, const F& f) const {
  for (Index o = 0; o < tokens_; ++o) f(Index{0}, o, o);
  std::vector<Index> shifts = back.shifts;
  std::sort(shifts.begin(), shifts.end());
  shifts.erase(std::unique(shifts.begin(), shifts.end()), shifts.end());
  for (const Index s : shifts) {
    for (Index o = 0; o < tokens_; ++o) {
      for (Index k = 1; k < back.taps && k <= (tokens_ - 1 - o) / s; ++k) f(s, o + k * s, o);
    }
  }
}

// By level, the tokens on a path into the last one.
inline std::vector<StackPicture::Tokens> StackPicture::used_tokens() const {
  const std::size_t L = layers_.size();
  std::vector<Tokens> used(L + 1, Tokens(static_cast<std::size_t>(tokens_), false));
  used[L][0] = true;
  for (std::size_t l = L; l-- > 0;) {
    for_each_edge(layers_[l].back, [&](Index, Index start, Index end) {
      if (used[l + 1][static_cast<std::size_t>(end)]) used[l][static_cast<std::size_t>(start)] = true;
    });
  }
  return used;
}

// Of these, by level, those on a path that begins at from_.
inline std::vector<StackPicture::Tokens> StackPicture::lit_tokens(const std::vector<Tokens>& used) const {
  if (from_ == PictureOptions::kEvery) return used;
  std::vector<Tokens> lit(used.size(), Tokens(static_cast<std::size_t>(tokens_), false));
  if (from_ < tokens_) lit[0][static_cast<std::size_t>(from_)] = used[0][static_cast<std::size_t>(from_)];
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    for_each_edge(layers_[l].back, [&](Index, Index start, Index end) {
      const auto to = static_cast<std::size_t>(end);
      if (lit[l][static_cast<std::size_t>(start)] && used[l + 1][to]) lit[l + 1][to] = true;
    });
  }
  return lit;
}

inline void StackPicture::draw_labels(Svg& svg) const {
  const std::size_t L = layers_.size();
  const double first = narrow_ ? 4 : 20;
  for (std::size_t l = 0; l < L; ++l) {
    const double middle = (y(l) + y(l + 1)) / 2;
    const bool attention = layers_[l].back.shifts.empty();
    if (attention) svg.rectangle(left(), y(l + 1) + 0.22 * row_, paper(), 0.56 * row_, "#fef3c7", 6);
    const char* const paint = attention ? "#b45309" : color(layers_[l].back.shifts.front());
    if (narrow_) {
      svg.text(first, middle - 2, shortened(layers_[l].name, 11), {.size = 11, .bold = true});
      if (!attention)
        svg.text(first, middle + 12, "s = " + shortened(layers_[l].shift, 8), {.size = 11, .color = paint});
      continue;
    }
    svg.text(first, middle + 4, "layer " + std::to_string(l + cut_), {.size = 12, .bold = true});
    const std::string what = attention ? layers_[l].name : layers_[l].name + ", s = " + layers_[l].shift;
    svg.text(84, middle + 4, shortened(what, 17), {.color = paint});
  }
  svg.text(first, y(0) + (row_ < 40 ? 12 : 4),
           cut_ > 0 ? "output of layer " + std::to_string(cut_ - 1) : "input", {.color = "#64748b"});
  svg.text(x(0) + 0.5 * pitch_, y(L) - 14, "the last token", {.anchor = Anchor::kEnd, .bold = true});
}

inline void StackPicture::draw_layers(Svg& svg) const {
  draw_labels(svg);
  const std::vector<Tokens> used = used_tokens(), lit = lit_tokens(used);
  Strokes idle, dots;
  for (std::size_t l = layers_.size(); l-- > 0;) draw_edges(svg, l, used[l + 1], lit[l]);
  for (std::size_t level = layers_.size() + 1; level-- > 0;) {
    for (Index o = 0; o < tokens_; ++o)
      (lit[level][static_cast<std::size_t>(o)] ? dots : idle).dot(x(o), y(level));
  }
  svg.path(idle, 0.6 * dot(), "#cbd5e1");
  svg.path(dots, dot(), "#0f172a");
}

// The edges from level `level` into the tokens `ends` of the level above; those from the tokens `lit` have colours.
inline void StackPicture::draw_edges(Svg& svg, std::size_t level, const Tokens& ends,
                                     const Tokens& lit) const {
  const double below = y(level), above = y(level + 1), width = std::clamp(0.12 * pitch_, 0.7, 2.2);
  Strokes faint;
  std::vector<std::pair<Index, Strokes>> bright;  // by shift, rising
  for_each_edge(layers_[level].back, [&](Index s, Index start, Index end) {
    if (!ends[static_cast<std::size_t>(end)]) return;
    if (bright.empty() || bright.back().first != s) bright.emplace_back(s, Strokes{});
    Strokes& strokes = lit[static_cast<std::size_t>(start)] ? bright.back().second : faint;
    strokes.line(x(start), below, x(end), above);
  });
  svg.path(faint, width, "#e2e8f0");
  for (const auto& [s, strokes] : bright) svg.path(strokes, width, s == 0 ? "#94a3b8" : color(s));
}

inline void StackPicture::draw_chart(Svg& svg) const {
  const auto counts = coverage_->counts().first(static_cast<std::size_t>(tokens_));
  const auto most = static_cast<double>(*std::max_element(counts.begin(), counts.end()));
  const bool logarithmic = most > 64;
  const double bottom = chart() + kChart;
  const auto height = [&](double count) {
    const double share =
        logarithmic ? std::log2(1 + count) / std::log2(1 + most) : count / std::max(most, 1.25);
    return count > 0 ? std::max(1.5, share * kChart) : 0;
  };
  const double first = narrow_ ? 4 : 20;
  svg.text(first, chart() - 10, "paths per offset", {.bold = true});
  svg.text(first + 122, chart() - 10, logarithmic ? "to the last token, log scale" : "to the last token",
           {.color = "#64748b"});
  for (Index o = 0; o < tokens_; ++o) {
    const double corner = x(o) - 0.4 * pitch_;
    const std::uint64_t count = counts[static_cast<std::size_t>(o)];
    if (count == 0) {
      svg.rectangle(corner, chart(), 0.8 * pitch_, kChart, coverage_->hybrid() ? "#fde68a" : "#fecaca");
    } else {
      const double tall = height(static_cast<double>(count));
      svg.rectangle(corner, bottom - tall, 0.8 * pitch_, tall, o == from_ ? "#0891b2" : "#334155");
    }
  }
  Strokes axis;
  axis.line(left(), bottom + 0.5, left() + paper(), bottom + 0.5);
  svg.path(axis, 1, "#94a3b8");
  const std::string top = most >= 1e15 ? format("%.3g", most) : format("%.0f", most);
  svg.text(left() - 6, bottom - height(most) + 9, top, {.size = 11, .anchor = Anchor::kEnd});
  Index step = 1;
  while (tokens_ / step > (narrow_ ? 8 : 16)) step *= 2;
  for (Index o = 0; o < tokens_; o += step)
    svg.text(x(o), bottom + 16, std::to_string(o), {.size = 11, .anchor = Anchor::kMiddle});
  svg.text(left() + paper() / 2, bottom + 34, "tokens back from the last one",
           {.color = "#64748b", .anchor = Anchor::kMiddle});
}

inline std::vector<std::string> StackPicture::notes() const {
  std::vector<std::string> notes;
  if (coverage_->hybrid()) {
    notes.push_back(
        "Yellow: attention reads every earlier token; offsets where no path of shifts begins rest on it "
        "alone.");
  } else if (coverage_->first_hole() < tokens_) {
    notes.push_back("Red: no path begins there; the last token does not see these offsets.");
  }
  if (tokens_ <= coverage_->reach()) {
    notes.push_back(
        format("Drawn are the nearest %td offsets of a reach of %td; paths from farther back are cut.",
               tokens_, coverage_->reach()));
  }
  if (cut_ > 0) {
    notes.push_back(
        format("Drawn are the uppermost %zu layers; %zu more lie below. The counts are those of all.",
               layers_.size(), cut_));
  }
  return notes;
}

}  // namespace hsm::examples
