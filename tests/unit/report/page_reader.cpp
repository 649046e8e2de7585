#include "tests/unit/report/page_reader.h"

#include <fmt/format.h>

#include <cctype>
#include <set>
#include <stdexcept>
#include <vector>

namespace hearth::test {

namespace {

// A tag from its '<' to its '>'.
struct Tag {
  std::string name;
  bool is_end = false;
  bool is_closed = false;  // "/>"
  size_t end = 0;          // behind it
  std::string mistake;
};

Tag ReadTag(const std::string& html, size_t at) {
  Tag tag;
  size_t i = at + 1;
  if (html[i] == '/') {
    tag.is_end = true;
    ++i;
  }
  while (i < html.size() && (std::isalnum(static_cast<unsigned char>(html[i])) != 0)) {
    tag.name += html[i++];
  }
  if (tag.name.empty()) tag.mistake = "a stray '<'";
  char quote = 0;
  for (; i < html.size(); ++i) {
    const char c = html[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
      if (c == '<') tag.mistake = "'<' in an attribute";
    } else if (c == '"') {
      if (html[i - 1] != '=') tag.mistake = "a quote that opens nothing";
      quote = c;
    } else if (c == '\'' || c == '<') {
      tag.mistake = fmt::format("{} in a tag", c);
    } else if (c == '>') {
      tag.is_closed = html[i - 1] == '/';
      tag.end = i + 1;
      return tag;
    }
  }
  tag.mistake = "a tag that does not end";
  tag.end = html.size();
  return tag;
}

std::string Around(const std::string& html, size_t at) {
  return fmt::format("at {}: {}", at, html.substr(at, 80));
}

}  // namespace

std::string FindMarkupMistake(const std::string& html) {
  const std::set<std::string> empty = {"meta", "link", "input", "br"};
  const std::string doctype = "<!DOCTYPE html>\n";
  if (html.compare(0, doctype.size(), doctype) != 0) return "no document type";
  std::vector<std::string> open;
  for (size_t at = doctype.size(); at < html.size();) {
    if (html[at] != '<') {
      if (open.empty() && html[at] != '\n') return "text outside: " + Around(html, at);
      if (html[at] == '>') return "a stray '>' " + Around(html, at);
      if (html[at] == '&') {
        const size_t end = html.find(';', at);
        if (end == std::string::npos || end - at > 7) return "a stray '&' " + Around(html, at);
      }
      ++at;
      continue;
    }
    const Tag tag = ReadTag(html, at);
    if (!tag.mistake.empty()) return tag.mistake + " " + Around(html, at);
    if (tag.is_end) {
      if (open.empty() || open.back() != tag.name) return "closes nothing " + Around(html, at);
      open.pop_back();
    } else if (!tag.is_closed && empty.count(tag.name) == 0) {
      open.push_back(tag.name);
    }
    at = tag.end;
    if (tag.is_end || (tag.name != "script" && tag.name != "style")) continue;
    at = html.find("</" + tag.name + ">", at);
    if (at == std::string::npos) return tag.name + " does not end";
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

nlohmann::json ChartData(const std::string& html) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const size_t at = html.find(begin);
  if (at == std::string::npos) throw std::runtime_error("no data");
  const size_t from = at + begin.size();
  return nlohmann::json::parse(html.substr(from, html.find("</script>", from) - from));
}

std::string Markup(const std::string& html) {
  std::string markup;
  for (size_t at = 0; at < html.size();) {
    const size_t script = html.find("<script", at);
    const size_t style = html.find("<style", at);
    const size_t next = std::min({script, style, html.size()});
    markup += html.substr(at, next - at);
    if (next == html.size()) break;
    const std::string end = next == script ? "</script>" : "</style>";
    at = html.find(end, next);
    at = at == std::string::npos ? html.size() : at + end.size();
  }
  return markup;
}

std::string VisibleText(const std::string& html) {
  const std::string markup = Markup(html);
  std::string text;
  bool is_tag = false;
  for (const char c : markup) {
    if (c == '<') {
      is_tag = true;
      text += ' ';
    } else if (c == '>') {
      is_tag = false;
    } else if (!is_tag) {
      text += c;
    }
  }
  return text;
}

}  // namespace hearth::test
