#include "runtime/report/html_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/report/html_text.h"
#include "runtime/telemetry/units.h"

namespace hearth {

HtmlCell TextCell(std::string_view text, int64_t most_bytes) {
  return {.html = EscapeHtml(Shortened(text, most_bytes))};
}

HtmlCell CodeCell(std::string_view text, int64_t most_bytes) {
  if (text.empty()) return {};
  return {.html = fmt::format("<code>{}</code>", EscapeHtml(Shortened(text, most_bytes)))};
}

HtmlCell NumberCell(const std::optional<double>& value) {
  return {.html = EscapeHtml(NumberText(value)), .value = value};
}

HtmlCell BytesCell(const std::optional<int64_t>& bytes) {
  if (!bytes) return {};
  return {.html = FormatBytes(*bytes), .value = static_cast<double>(*bytes)};
}

HtmlCell CountCell(int64_t count) {
  return {.html = GroupedInteger(count), .value = static_cast<double>(count)};
}

std::string ToHtml(const HtmlTable& table) {
  std::vector<bool> is_shown(table.headings.size(), false);
  std::vector<bool> is_number(table.headings.size(), false);
  for (const std::vector<HtmlCell>& row : table.rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      if (!row[i].html.empty()) is_shown[i] = true;
      if (row[i].value) is_number[i] = true;
    }
  }
  std::string html =
      fmt::format("<div class=\"scroll\"><table class=\"{}\"><thead><tr>", table.classes);
  for (size_t i = 0; i < table.headings.size(); ++i) {
    if (!is_shown[i]) continue;
    const std::string text = EscapeHtml(table.headings[i]);
    html += fmt::format("<th scope=\"col\"{}>{}</th>", is_number[i] ? " class=\"n\"" : "",
                        table.is_sortable && !text.empty()
                            ? fmt::format("<button type=\"button\">{}</button>", text)
                            : text);
  }
  html += "</tr></thead><tbody>\n";
  for (size_t k = 0; k < table.rows.size(); ++k) {
    const bool is_plain = k >= table.row_attributes.size() || table.row_attributes[k].empty();
    html += is_plain ? "<tr>" : fmt::format("<tr {}>", table.row_attributes[k]);
    for (size_t i = 0; i < table.rows[k].size(); ++i) {
      if (!is_shown[i]) continue;
      const HtmlCell& cell = table.rows[k][i];
      const std::string order = cell.value && table.is_sortable
                                    ? fmt::format(" data-v=\"{}\"", *cell.value)
                                    : std::string();
      html += fmt::format("<td{}{}>{}</td>", is_number[i] ? " class=\"n\"" : "", order, cell.html);
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

}  // namespace hearth
