#include "runtime/text/chat_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/text/white_space.h"

namespace hearth {

namespace {

struct FormatName {
  ChatFormat format;
  std::string_view name;
};
constexpr std::array<FormatName, 5> kFormats = {{{ChatFormat::kChatml, "chatml"},
                                                 {ChatFormat::kLlama3, "llama3"},
                                                 {ChatFormat::kLlama31, "llama3.1"},
                                                 {ChatFormat::kQwen25, "qwen2.5"},
                                                 {ChatFormat::kQwen3, "qwen3"}}};

constexpr std::string_view kQwenSystem =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
constexpr std::string_view kLlamaDates =
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
constexpr std::string_view kToolBegin = "\n<tool_response>\n";
constexpr std::string_view kToolEnd = "\n</tool_response>";

std::string_view RoleName(ChatRole role) {
  switch (role) {
    case ChatRole::kSystem:
      return "system";
    case ChatRole::kUser:
      return "user";
    case ChatRole::kAssistant:
      return "assistant";
    case ChatRole::kTool:
      return "tool";
  }
  return "";
}

// Joins neighbouring text.
class Segments {
 public:
  void Special(std::string_view token, bool counts = false) {
    list_.push_back(
        {.text = std::string(token), .is_special = true, .counts_from = counts ? 0 : token.size()});
  }
  void Text(std::string_view text, bool counts = false) {
    if (text.empty()) return;
    if (list_.empty() || list_.back().is_special) {
      list_.push_back({});
    }
    ChatSegment& last = list_.back();
    const bool counted = last.counts_from < last.text.size();
    CHECK(counts || !counted, "text behind the assistant's words in '{}'", last.text);
    if (!counted) last.counts_from = last.text.size() + (counts ? 0 : text.size());
    last.text += text;
  }
  std::vector<ChatSegment> Take() { return std::move(list_); }

 private:
  std::vector<ChatSegment> list_;
};

void ChatmlTurn(std::string_view role, std::string_view content, Segments& out) {
  const bool counts = role == RoleName(ChatRole::kAssistant);
  out.Special("<|im_start|>");
  out.Text(fmt::format("{}\n", role));
  out.Text(content, counts);
  out.Special("<|im_end|>", counts);
  out.Text("\n");
}

void LlamaTurn(std::string_view role, std::string_view content, Segments& out) {
  const bool counts = role == RoleName(ChatRole::kAssistant);
  out.Special("<|start_header_id|>");
  out.Text(role);
  out.Special("<|end_header_id|>");
  out.Text("\n\n");
  out.Text(TrimWhiteSpace(content), counts);
  out.Special("<|eot_id|>", counts);
}

// Answers of tools that follow each other share a turn of the user. Returns the index behind them.
size_t QwenTools(const Chat& chat, size_t index, Segments& out) {
  std::string content;
  for (; index < chat.size() && chat[index].role == ChatRole::kTool; ++index) {
    content += kToolBegin;
    content += chat[index].content;
    content += kToolEnd;
  }
  // The role's own line break is the first of kToolBegin.
  ChatmlTurn("user", std::string_view(content).substr(1), out);
  return index;
}

std::string_view TrimBreaks(std::string_view text) {
  const size_t begin = text.find_first_not_of('\n');
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of('\n') - begin + 1);
}

std::string_view TrimLeadingBreaks(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of('\n'), text.size()));
}

std::string_view TrimTrailingBreaks(std::string_view text) {
  return text.substr(0, text.find_last_not_of('\n') + 1);
}

// What Qwen3's template takes for the thoughts and the answer of an assistant's content.
struct ThoughtAndAnswer {
  std::string_view thought;
  std::string_view answer;
};

ThoughtAndAnswer SplitThought(std::string_view content) {
  constexpr std::string_view kBegin = "<think>";
  constexpr std::string_view kEnd = "</think>";
  const size_t first_end = content.find(kEnd);
  if (first_end == content.npos) return {.thought = {}, .answer = content};
  std::string_view thought = TrimTrailingBreaks(content.substr(0, first_end));
  if (const size_t begin = thought.rfind(kBegin); begin != thought.npos) {
    thought = thought.substr(begin + kBegin.size());
  }
  return {.thought = TrimBreaks(thought),
          .answer = TrimLeadingBreaks(content.substr(content.rfind(kEnd) + kEnd.size()))};
}

// The last message of the user that is not the answer of a tool; the last message without one.
size_t LastQuery(const Chat& chat) {
  for (size_t i = chat.size(); i-- > 0;) {
    const std::string_view content = chat[i].content;
    const bool is_tool =
        content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
    if (chat[i].role == ChatRole::kUser && !is_tool) return i;
  }
  return chat.size() - 1;
}

std::string Qwen3Answer(const Chat& chat, size_t index, size_t last_query) {
  const auto [thought, answer] = SplitThought(chat[index].content);
  const bool last = index + 1 == chat.size();
  if (index <= last_query || (!last && thought.empty())) return std::string(answer);
  return fmt::format("<think>\n{}\n</think>\n\n{}", thought, TrimLeadingBreaks(answer));
}

void RenderQwen(ChatFormat format, const Chat& chat, Segments& out) {
  if (format == ChatFormat::kQwen25 && chat.front().role != ChatRole::kSystem) {
    ChatmlTurn("system", kQwenSystem, out);
  }
  const size_t last_query = LastQuery(chat);
  for (size_t i = 0; i < chat.size();) {
    if (chat[i].role == ChatRole::kTool) {
      i = QwenTools(chat, i, out);
      continue;
    }
    const bool thinks = format == ChatFormat::kQwen3 && chat[i].role == ChatRole::kAssistant;
    ChatmlTurn(RoleName(chat[i].role), thinks ? Qwen3Answer(chat, i, last_query) : chat[i].content,
               out);
    ++i;
  }
}

void RenderLlama(ChatFormat format, const Chat& chat, Segments& out) {
  out.Special("<|begin_of_text|>");
  size_t first = 0;
  if (format == ChatFormat::kLlama31) {
    std::string system(kLlamaDates);
    if (chat.front().role == ChatRole::kSystem) {
      system += TrimWhiteSpace(chat.front().content);
      first = 1;
    }
    out.Special("<|start_header_id|>");
    out.Text("system");
    out.Special("<|end_header_id|>");
    // Not trimmed: the blank line behind the dates stays.
    out.Text("\n\n" + system);
    out.Special("<|eot_id|>");
  }
  for (size_t i = first; i < chat.size(); ++i) {
    LlamaTurn(RoleName(chat[i].role), chat[i].content, out);
  }
}

bool IsLlama(ChatFormat format) {
  return format == ChatFormat::kLlama3 || format == ChatFormat::kLlama31;
}

}  // namespace

std::string_view ChatFormatName(ChatFormat format) {
  return std::ranges::find(kFormats, format, &FormatName::format)->name;
}

ChatFormat ParseChatFormat(std::string_view name) {
  const auto found = std::ranges::find(kFormats, name, &FormatName::name);
  if (found != kFormats.end()) return found->format;
  throw ConfigError(fmt::format(
      "'{}' is not a chat format; use auto, chatml, llama3, llama3.1, qwen2.5 or qwen3", name));
}

std::optional<ChatFormat> RecognizeChatTemplate(std::string_view jinja) {
  const auto has = [&](std::string_view mark) { return jinja.find(mark) != jinja.npos; };
  const auto has_any = [&](std::initializer_list<std::string_view> marks) {
    return std::ranges::any_of(marks, has);
  };
  if (has("<|start_header_id|>")) {
    if (has("Cutting Knowledge Date")) return ChatFormat::kLlama31;
    const bool is_other = has_any({"tool", "You are", "think"});
    return is_other ? std::nullopt : std::optional(ChatFormat::kLlama3);
  }
  if (!has("<|im_start|>")) return std::nullopt;
  if (has("created by Alibaba Cloud")) return ChatFormat::kQwen25;
  if (has("last_query_index") && has("<think>")) {
    // Models that always think begin their answers otherwise.
    const bool always = has("assistant\\n<think>");
    return always ? std::nullopt : std::optional(ChatFormat::kQwen3);
  }
  // Plain ChatML has no words, trims or tokens of its own.
  const bool is_other =
      has_any({"You are", "think", "tool", "trim", "strip", "bos_token", "<|im_sep|>"});
  return is_other ? std::nullopt : std::optional(ChatFormat::kChatml);
}

std::optional<std::string> WhyNotRendered(ChatFormat format, const Chat& chat) {
  const bool has_tool = std::ranges::find(chat, ChatRole::kTool, &ChatMessage::role) != chat.end();
  if (format == ChatFormat::kLlama31 && has_tool) {
    return "the format llama3.1 is built without messages of tools; take these chats out or use "
           "--chat-format llama3";
  }
  return std::nullopt;
}

std::vector<ChatSegment> RenderChat(ChatFormat format, const Chat& chat, bool open_answer) {
  CHECK(!chat.empty() && !WhyNotRendered(format, chat), "a chat of {} messages as {}", chat.size(),
        ChatFormatName(format));
  Segments out;
  if (IsLlama(format)) {
    RenderLlama(format, chat, out);
  } else if (format == ChatFormat::kChatml) {
    for (const ChatMessage& message : chat) {
      ChatmlTurn(RoleName(message.role), message.content, out);
    }
  } else {
    RenderQwen(format, chat, out);
  }
  if (open_answer && IsLlama(format)) {
    out.Special("<|start_header_id|>");
    out.Text("assistant");
    out.Special("<|end_header_id|>");
    out.Text("\n\n");
  } else if (open_answer) {
    out.Special("<|im_start|>");
    out.Text("assistant\n");
  }
  return out.Take();
}

std::string_view EndOfTurn(ChatFormat format) {
  return IsLlama(format) ? "<|eot_id|>" : "<|im_end|>";
}

}  // namespace hearth
