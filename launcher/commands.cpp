#include "launcher/command.h"

namespace hearth {

const std::vector<Command>& Commands() {
  static const std::vector<Command> commands = {
      MakeTrainCommand(),    MakeRankCommand(),          MakeValidateCommand(),
      MakePlanCommand(),     MakeSweepCommand(),         MakePrepareCommand(),
      MakeGenerateCommand(), MakeGradientsCommand(),     MakeExportCommand(),
      MakeInspectCommand(),  MakeBenchCommand(),         MakeProbeCommand(),
      MakeDoctorCommand(),   MakeConvertConfigCommand(), MakeReportCommand()};
  return commands;
}

}  // namespace hearth
