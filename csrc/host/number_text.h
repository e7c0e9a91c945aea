// Formats numbers as Python 2 and its numpy do.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

namespace rmpe {

inline void append_number(std::string& text, int64_t value) {
  char digits[24];
  text.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

// 12 significant digits; the result always has a point or an exponent, or is a word such as nan.
inline void append_number(std::string& text, double value) {
  if (std::isnan(value)) {  // to_chars shows its sign
    text += "nan";
    return;
  }
  char digits[32];
  const std::string_view number(
      digits, std::to_chars(digits, digits + sizeof digits, value, std::chars_format::general, 12).ptr);
  text += number;
  if (number.find_first_of(".en") == number.npos) text += ".0";
}

}  // namespace rmpe
