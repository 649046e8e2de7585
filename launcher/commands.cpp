#include "launcher/command.h"

namespace hearth {

const std::vector<Command>& Commands() {
  static const std::vector<Command> commands = {MakeTrainCommand(), MakeRankCommand(),
                                                MakeValidateCommand(), MakePrepareCommand()};
  return commands;
}

}  // namespace hearth
