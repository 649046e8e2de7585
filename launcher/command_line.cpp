#include "launcher/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options/parsers.hpp>
#include <cstdio>
#include <sstream>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/command_reference.h"
#include "launcher/program_info.h"
#include "launcher/rank_entry.h"
#include "launcher/supervisor.h"
#include "runtime/config/resolved_config.h"
#include "runtime/config/suggestion.h"

namespace hearth {

namespace po = boost::program_options;

namespace {

constexpr const char* kFileOption = "config";

}  // namespace

po::options_description CommandOptions(const Command& command) {
  po::options_description options("Options");
  if (!command.file.empty()) {
    options.add_options()(kFileOption, po::value<std::string>()->value_name("FILE"),
                          "the same as FILE");
  }
  if (command.add_options != nullptr) command.add_options(&options);
  options.add_options()("help,h", "show this help");
  return options;
}

std::string UsageLine(const Command& command) {
  std::string usage = fmt::format("hearth {}", command.name);
  if (!command.file.empty()) usage += fmt::format(" {}", command.file);
  if (!command.second.empty()) usage += fmt::format(" [{}]", command.second);
  usage += " [options]";
  if (command.takes_run_keys) usage += " [--set section.key=value] [--key value]";
  return usage;
}

namespace {

std::string CommandHelp(const Command& command) {
  std::ostringstream options;
  options << CommandOptions(command);
  std::string help = fmt::format("Usage: {}\n\n{}\n", UsageLine(command), command.summary);
  if (!command.details.empty()) help += fmt::format("{}\n", command.details);
  help += fmt::format("\n{}", options.str());
  if (command.takes_run_keys) help += fmt::format("\n{}", OptionsHelp(BuiltFeatures()));
  return help;
}

std::string ProgramHelp() {
  std::string help =
      "Usage: hearth COMMAND FILE [options]\n\n"
      "Trains and fine-tunes large language models in FP8.\n\nCommands:\n";
  for (const Command& command : Commands()) {
    help += fmt::format("  {:14} {:11} {}\n", command.name, command.file, command.summary);
  }
  return help +
         "\nhearth COMMAND --help shows a command's options; hearth --version shows the build.\n";
}

[[noreturn]] void FailUsage(const std::string& message) {
  throw ConfigError(fmt::format("command line: error: {}", message));
}

const Command& FindCommand(const std::string& name) {
  const std::vector<Command>& commands = Commands();
  const auto found = std::find_if(commands.begin(), commands.end(),
                                  [&](const Command& command) { return command.name == name; });
  if (found != commands.end()) return *found;
  std::vector<std::string_view> names;
  for (const Command& command : commands) names.push_back(command.name);
  const std::string_view meant = ClosestWord(name, names);
  FailUsage(fmt::format(
      "no command '{}' in this version; {}", name,
      meant.empty() ? "hearth --help lists the commands" : fmt::format("did you mean {}?", meant)));
}

// What Boost complains about, in our words.
std::string OptionComplaint(const Command& command, const po::error& error) {
  const auto* named = dynamic_cast<const po::error_with_option_name*>(&error);
  if (named == nullptr) return error.what();
  const std::string option = named->get_option_name();
  if (dynamic_cast<const po::unknown_option*>(&error) == nullptr) return error.what();
  return fmt::format("unknown option {}{}; hearth {} --help lists the options", option,
                     command.takes_run_keys ? SuggestOption(option) : "", command.name);
}

Invocation ParseOptions(const Command& command, const std::vector<std::string>& arguments) {
  po::options_description options = CommandOptions(command);
  options.add_options()("FILE", po::value<std::vector<std::string>>());
  po::positional_options_description positional;
  positional.add("FILE", -1);
  Invocation invocation;
  try {
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(arguments)
                  .options(options)
                  .positional(positional)
                  .style(style)
                  .run(),
              invocation.options);
    if (!invocation.Has("help")) po::notify(invocation.options);
  } catch (const po::error& error) {
    FailUsage(OptionComplaint(command, error));
  }
  return invocation;
}

// Exactly one FILE where the command takes one, none where it does not; a second one where it may
// follow.
void TakeFile(const Command& command, Invocation* invocation) {
  std::vector<std::string> files;
  if (invocation->Has("FILE")) files = invocation->Get<std::vector<std::string>>("FILE");
  if (invocation->Has(kFileOption)) files.push_back(invocation->Get<std::string>(kFileOption));
  const size_t wanted = command.file.empty() ? 0 : 1;
  const size_t most = wanted + (command.second.empty() ? 0 : 1);
  if (files.size() > most && !command.repeats_file) {
    FailUsage(
        fmt::format("'{}' is one argument too many; usage: {}", files[most], UsageLine(command)));
  }
  if (files.size() < wanted) {
    FailUsage(fmt::format("{} is missing; usage: {}", command.file, UsageLine(command)));
  }
  if (wanted > 0) invocation->file = files[0];
  if (files.size() > wanted) invocation->second = files[wanted];
  invocation->files = std::move(files);
}

Invocation ParseInvocation(const Command& command, const std::vector<std::string>& arguments) {
  SplitArguments split{.overrides = {}, .rest = arguments};
  if (command.takes_run_keys) split = SplitOverrides(arguments);
  Invocation invocation = ParseOptions(command, split.rest);
  invocation.overrides = split.overrides;
  if (!invocation.Has("help")) TakeFile(command, &invocation);
  return invocation;
}

int RunCommand(const Command& command, const std::vector<std::string>& arguments) {
  const Invocation invocation = ParseInvocation(command, arguments);
  if (invocation.Has("help")) {
    fmt::print("{}", CommandHelp(command));
    return kExitDone;
  }
  return command.run(invocation);
}

int Dispatch(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    fmt::print(stderr, "{}", ProgramHelp());
    return kExitUsage;
  }
  const std::string& first = arguments[0];
  if (first == "help" && arguments.size() > 1 && arguments[1] == "--markdown") {
    fmt::print("{}", CommandReference());
    return kExitDone;
  }
  if (first == "--help" || first == "-h" || first == "help") {
    fmt::print("{}", ProgramHelp());
    return kExitDone;
  }
  if (first == "--version") {
    fmt::print("{}", VersionText());
    return kExitDone;
  }
  return RunCommand(FindCommand(first), {arguments.begin() + 1, arguments.end()});
}

}  // namespace

void CheckCommandLine(const std::vector<std::string>& arguments) {
  if (arguments.empty()) FailUsage("no command");
  ParseInvocation(FindCommand(arguments[0]), {arguments.begin() + 1, arguments.end()});
}

int RunCommandLine(const std::vector<std::string>& arguments) {
  try {
    return Dispatch(arguments);
  } catch (...) {
    const Failure failure = DescribeCurrentException();
    // A refusal begins with the place that is wrong.
    const bool refused = failure.exit_code == kExitUsage || failure.exit_code == kExitBudget;
    fmt::print(stderr, "{}{}\n", refused ? "" : "hearth: ", failure.message);
    return failure.exit_code;
  }
}

}  // namespace hearth
