// Tables of the page.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

struct HtmlCell {
  std::string html;             // escaped
  std::optional<double> value;  // what the column is sorted by; a cell with one is set as a number
};

// Text from anywhere, escaped, with at most `most_bytes` shown.
HtmlCell TextCell(std::string_view text, int64_t most_bytes = 120);
HtmlCell CodeCell(std::string_view text, int64_t most_bytes = 400);
// Five digits; empty for none.
HtmlCell NumberCell(const std::optional<double>& value);
HtmlCell BytesCell(const std::optional<int64_t>& bytes);
// "12,345"
HtmlCell CountCell(int64_t count);

struct HtmlTable {
  std::vector<std::string> headings;  // plain text
  std::vector<std::vector<HtmlCell>> rows;
  std::string classes;                      // of the table
  bool is_sortable = false;                 // by a click on a heading
  std::vector<std::string> row_attributes;  // of each row, or none
};

// Columns without any content are left out.
std::string ToHtml(const HtmlTable& table);

}  // namespace hearth
