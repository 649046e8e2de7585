#include <string>
#include <vector>

#include "launcher/command_line.h"

int main(int argc, char** argv) {
  return hearth::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc));
}
