// The commands of the program: what each is called, takes and does.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/variables_map.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/config/overrides.h"

namespace hearth {

// A command line, taken apart.
struct Invocation {
  std::string file;                // where the command takes one
  std::string second;              // what followed it, where the command may take more
  std::vector<std::string> files;  // FILE and all that followed it, where it may be repeated
  boost::program_options::variables_map options;
  std::vector<Override> overrides;  // where the command takes a run's keys

  // The value of an option that was given or has a default.
  template <typename Value>
  const Value& Get(const char* name) const {
    return options[name].as<Value>();
  }
  bool Has(const char* name) const { return options.count(name) > 0; }
};

struct Command {
  std::string_view name;
  std::string_view file;     // what FILE is called, such as "RUN.yaml"; "" when there is none
  std::string_view second;   // what may follow it; "" when nothing may
  std::string_view summary;  // one line
  std::string_view details;  // further lines for --help
  bool takes_run_keys = false;
  bool repeats_file = false;  // FILE may be given several times
  void (*add_options)(boost::program_options::options_description* options) = nullptr;
  // Returns the exit code. May throw any of Hearth's errors.
  int (*run)(const Invocation& invocation) = nullptr;
};

// One function for each command, in the file of its name.
Command MakeTrainCommand();
Command MakeRankCommand();
Command MakeValidateCommand();
Command MakePlanCommand();
Command MakeSweepCommand();
Command MakePrepareCommand();
Command MakeGradientsCommand();
Command MakeGenerateCommand();
Command MakeExportCommand();
Command MakeInspectCommand();
Command MakeBenchCommand();
Command MakeReportCommand();
Command MakeProbeCommand();
Command MakeDoctorCommand();
Command MakeConvertConfigCommand();

// All commands of this build, in the order of --help.
const std::vector<Command>& Commands();

}  // namespace hearth
