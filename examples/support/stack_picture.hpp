// SPDX-License-Identifier: MIT
//
// A stack of shift mixers as a drawing: the layers from the input below to the last token above, the paths
// that end in the last token, and under each token how many of them begin there. Attention layers are bands.
//
// Large stacks are cut: the nearest kMostTokens offsets, the uppermost kMostLayers layers. What is cut is
// said in the drawing, and the counts are those of the whole stack.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
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

/// What is written above the drawing.
struct PictureTitle {
  std::string title, subtitle;
};

/// Draws one stack; `file` is the SVG.
class StackPicture {
 public:
  static constexpr Index kMostTokens = 128;
  static constexpr std::size_t kMostLayers = 32;

  StackPicture(PictureTitle title, std::vector<PictureLayer> layers, const Coverage& coverage)
      : title_(std::move(title)),
        coverage_(&coverage),
        cut_(layers.size() > kMostLayers ? layers.size() - kMostLayers : 0),
        layers_(std::make_move_iterator(layers.begin() + static_cast<std::ptrdiff_t>(cut_)),
                std::make_move_iterator(layers.end())),
        tokens_(std::min(coverage.window(), kMostTokens)),
        pitch_(kPaper / static_cast<double>(tokens_)),
        row_(std::clamp(340 / static_cast<double>(layers_.size() + 1), 24.0, 60.0)) {
    for (const PictureLayer& layer : layers_)
      shifts_.insert(shifts_.end(), layer.back.shifts.begin(), layer.back.shifts.end());
    std::sort(shifts_.begin(), shifts_.end());
    shifts_.erase(std::unique(shifts_.begin(), shifts_.end()), shifts_.end());
  }

  std::string file() const {
    Svg svg(kLeft + kPaper + kRight, chart() + kChart + 62 + 18 * static_cast<double>(notes().size()));
    svg.text(20, 30, shortened(title_.title, 90), {.size = 17, .color = "#0f172a", .bold = true});
    svg.text(20, 51, shortened(title_.subtitle, 130), {.size = 13, .color = "#475569"});
    draw_layers(svg);
    draw_chart(svg);
    double y = chart() + kChart + 56;
    for (const std::string& note : notes()) {
      svg.text(20, y, note, {.color = "#64748b"});
      y += 18;
    }
    return svg.file();
  }

 private:
  static constexpr double kLeft = 190, kPaper = 760, kRight = 30, kTop = 92, kChart = 84;

  double x(Index offset) const { return kLeft + (static_cast<double>(tokens_ - 1 - offset) + 0.5) * pitch_; }
  /// Level 0 is the input of the lowest layer drawn.
  double y(std::size_t level) const { return kTop + static_cast<double>(layers_.size() - level) * row_; }
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

  void draw_layers(Svg& svg) const;
  void draw_edges(Svg& svg, const CoverageLayer& back, std::size_t level, const std::vector<bool>& ends,
                  std::vector<bool>& starts) const;
  void draw_chart(Svg& svg) const;
  std::vector<std::string> notes() const;

  PictureTitle title_;
  const Coverage* coverage_;
  std::size_t cut_;  // layers below those drawn
  std::vector<PictureLayer> layers_;
  Index tokens_;
  double pitch_, row_;
  std::vector<Index> shifts_;  // of all layers, each once, rising
};

inline void StackPicture::draw_layers(Svg& svg) const {
  const std::size_t L = layers_.size();
  for (std::size_t l = 0; l < L; ++l) {
    const double middle = (y(l) + y(l + 1)) / 2;
    const bool attention = layers_[l].back.shifts.empty();
    if (attention) svg.rectangle(kLeft, y(l + 1) + 0.22 * row_, kPaper, 0.56 * row_, "#fef3c7", 6);
    svg.text(20, middle + 4, "layer " + std::to_string(l + cut_), {.size = 12, .bold = true});
    const std::string what = attention ? layers_[l].name : layers_[l].name + ", s = " + layers_[l].shift;
    svg.text(84, middle + 4, shortened(what, 17),
             {.color = attention ? "#b45309" : color(layers_[l].back.shifts.front())});
  }
  svg.text(20, y(0) + (row_ < 40 ? 12 : 4),
           cut_ > 0 ? "output of layer " + std::to_string(cut_ - 1) : "input", {.color = "#64748b"});
  svg.text(x(0) + 0.5 * pitch_, y(L) - 14, "the last token", {.anchor = Anchor::kEnd, .bold = true});

  Strokes idle, used;
  std::vector<bool> ends(static_cast<std::size_t>(tokens_), false);
  ends[0] = true;
  used.dot(x(0), y(L));
  for (Index o = 1; o < tokens_; ++o) idle.dot(x(o), y(L));
  for (std::size_t l = L; l-- > 0;) {
    std::vector<bool> starts(ends.size(), false);
    draw_edges(svg, layers_[l].back, l, ends, starts);
    for (Index o = 0; o < tokens_; ++o) (starts[static_cast<std::size_t>(o)] ? used : idle).dot(x(o), y(l));
    ends = std::move(starts);
  }
  svg.path(idle, 0.6 * dot(), "#cbd5e1");
  svg.path(used, dot(), "#0f172a");
}

// The edges from level `level` into the tokens `ends` of the level above; sets where they start.
inline void StackPicture::draw_edges(Svg& svg, const CoverageLayer& back, std::size_t level,
                                     const std::vector<bool>& ends, std::vector<bool>& starts) const {
  const double below = y(level), above = y(level + 1), width = std::clamp(0.12 * pitch_, 0.7, 2.2);
  Strokes straight;
  for (Index o = 0; o < tokens_; ++o) {
    if (!ends[static_cast<std::size_t>(o)]) continue;
    starts[static_cast<std::size_t>(o)] = true;
    straight.line(x(o), below, x(o), above);
  }
  svg.path(straight, width, "#94a3b8");
  std::vector<Index> shifts = back.shifts;
  std::sort(shifts.begin(), shifts.end());
  shifts.erase(std::unique(shifts.begin(), shifts.end()), shifts.end());
  for (const Index s : shifts) {
    Strokes slanted;
    for (Index o = 0; o < tokens_; ++o) {
      if (!ends[static_cast<std::size_t>(o)]) continue;
      for (Index k = 1; k < back.taps && k <= (tokens_ - 1 - o) / s; ++k) {
        starts[static_cast<std::size_t>(o + k * s)] = true;
        slanted.line(x(o + k * s), below, x(o), above);
      }
    }
    svg.path(slanted, width, color(s));
  }
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
  svg.text(20, chart() - 10, "paths per offset", {.bold = true});
  svg.text(142, chart() - 10, logarithmic ? "to the last token, log scale" : "to the last token",
           {.color = "#64748b"});
  for (Index o = 0; o < tokens_; ++o) {
    const double left = x(o) - 0.4 * pitch_;
    const std::uint64_t count = counts[static_cast<std::size_t>(o)];
    if (count == 0) {
      svg.rectangle(left, chart(), 0.8 * pitch_, kChart, coverage_->hybrid() ? "#fde68a" : "#fecaca");
    } else {
      const double top = height(static_cast<double>(count));
      svg.rectangle(left, bottom - top, 0.8 * pitch_, top, "#334155");
    }
  }
  Strokes axis;
  axis.line(kLeft, bottom + 0.5, kLeft + kPaper, bottom + 0.5);
  svg.path(axis, 1, "#94a3b8");
  const std::string top = most >= 1e15 ? format("%.3g", most) : format("%.0f", most);
  svg.text(kLeft - 6, bottom - height(most) + 9, top, {.size = 11, .anchor = Anchor::kEnd});
  Index step = 1;
  while (tokens_ / step > 16) step *= 2;
  for (Index o = 0; o < tokens_; o += step)
    svg.text(x(o), bottom + 16, std::to_string(o), {.size = 11, .anchor = Anchor::kMiddle});
  svg.text(kLeft + kPaper / 2, bottom + 34, "tokens back from the last one",
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
