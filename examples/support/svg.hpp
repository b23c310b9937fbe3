// SPDX-License-Identifier: MIT
//
// Drawings as SVG text: rectangles, lines of many pieces, dots and labels on a white ground. Coordinates are
// pixels, x to the right and y down; they are written with one decimal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "examples/support/text.hpp"

namespace hsm::examples {

/// Where a label stands from its point.
enum class Anchor { kStart, kMiddle, kEnd };

/// How a label looks.
struct TextStyle {
  int size = 12;
  const char* color = "#334155";
  Anchor anchor = Anchor::kStart;
  bool bold = false;
};

/// `text` as the content of an XML element: markup is escaped; control characters, and U+FFFE and
/// U+FFFF, become spaces, since XML forbids them.
inline std::string xml_text(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (const std::string_view next = text.substr(i, 3); next == "\xEF\xBF\xBE" || next == "\xEF\xBF\xBF") {
      result += ' ';
      i += 2;
    } else if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else if (c == '&') {
      result += "&amp;";
    } else if (c == '"') {
      result += "&quot;";
    } else {
      result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return result;
}

/// A line of many pieces: "M x y L x y ..." for `Svg::path`.
class Strokes {
 public:
  void line(double x1, double y1, double x2, double y2) {
    data_ += format("M%.1f %.1fL%.1f %.1f", x1, y1, x2, y2);
  }
  /// With round ends a stroke of no length is a dot.
  void dot(double x, double y) { data_ += format("M%.1f %.1fh0", x, y); }

  bool empty() const { return data_.empty(); }
  const std::string& data() const { return data_; }

 private:
  std::string data_;
};

/// Collects the elements of a drawing; later ones lie above earlier ones.
class Svg {
 public:
  Svg(double width, double height) : width_(width), height_(height) {}

  void rectangle(double x, double y, double width, double height, const char* color, double corner = 0) {
    body_ += format("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"", x, y, width,
                    height, color);
    body_ += corner > 0 ? format(" rx=\"%.1f\"/>\n", corner) : "/>\n";
  }

  /// Draws nothing for no strokes.
  void path(const Strokes& strokes, double width, const char* color) {
    if (strokes.empty()) return;
    body_ += format("<path fill=\"none\" stroke-linecap=\"round\" stroke=\"%s\" stroke-width=\"%.1f\" d=\"",
                    color, width) +
             strokes.data() + "\"/>\n";
  }

  void text(double x, double y, std::string_view text, const TextStyle& style = {}) {
    const char* anchor = style.anchor == Anchor::kStart    ? ""
                         : style.anchor == Anchor::kMiddle ? " text-anchor=\"middle\""
                                                           : " text-anchor=\"end\"";
    body_ += format("<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" fill=\"%s\"%s%s>", x, y, style.size,
                    style.color, anchor, style.bold ? " font-weight=\"bold\"" : "") +
             xml_text(text) + "</text>\n";
  }

  /// The whole file.
  std::string file() const {
    const std::string size = format("width=\"%.0f\" height=\"%.0f\"", width_, height_);
    return format("<svg xmlns=\"http://www.w3.org/2000/svg\" %s viewBox=\"0 0 %.0f %.0f\" ", size.c_str(),
                  width_, height_) +
           "font-family=\"Helvetica, Arial, sans-serif\">\n<rect " + size + " fill=\"#ffffff\"/>\n" + body_ +
           "</svg>\n";
  }

 private:
  double width_, height_;
  std::string body_;
};

}  // namespace hsm::examples
