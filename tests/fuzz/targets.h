// The parts of each target: its function, its seeds and its words.
#pragma once

#include "tests/fuzz/fuzz_target.h"

namespace hearth::test {

int FuzzRunYaml(const uint8_t* data, size_t size);
std::vector<std::string> RunYamlSeeds();
std::vector<std::string> RunYamlWords();

int FuzzOverrides(const uint8_t* data, size_t size);
std::vector<std::string> OverridesSeeds();
std::vector<std::string> OverridesWords();

int FuzzSweepYaml(const uint8_t* data, size_t size);
std::vector<std::string> SweepYamlSeeds();
std::vector<std::string> SweepYamlWords();
int FuzzHardware(const uint8_t* data, size_t size);
std::vector<std::string> HardwareSeeds();
std::vector<std::string> HardwareWords();

int FuzzHfConfig(const uint8_t* data, size_t size);
std::vector<std::string> HfConfigSeeds();
std::vector<std::string> HfConfigWords();

int FuzzShape(const uint8_t* data, size_t size);
std::vector<std::string> ShapeSeeds();
std::vector<std::string> ShapeWords();

int FuzzSafetensors(const uint8_t* data, size_t size);
std::vector<std::string> SafetensorsSeeds();
std::vector<std::string> SafetensorsWords();

int FuzzWeightIndex(const uint8_t* data, size_t size);
std::vector<std::string> WeightIndexSeeds();
std::vector<std::string> WeightIndexWords();

int FuzzHearth(const uint8_t* data, size_t size);
std::vector<std::string> HearthSeeds();

int FuzzLlmc(const uint8_t* data, size_t size);
std::vector<std::string> LlmcSeeds();

int FuzzNanogpt(const uint8_t* data, size_t size);
std::vector<std::string> NanogptSeeds();

int FuzzMegatron(const uint8_t* data, size_t size);
std::vector<std::string> MegatronSeeds();

int FuzzLlmq(const uint8_t* data, size_t size);
std::vector<std::string> LlmqSeeds();

std::vector<std::string> TokenFileWords();

int FuzzManifest(const uint8_t* data, size_t size);
std::vector<std::string> ManifestSeeds();
std::vector<std::string> ManifestWords();

int FuzzCheckpoint(const uint8_t* data, size_t size);
std::vector<std::string> CheckpointSeeds();

int FuzzMatmuls(const uint8_t* data, size_t size);
std::vector<std::string> MatmulsSeeds();
std::vector<std::string> MatmulsWords();

int FuzzLog(const uint8_t* data, size_t size);
std::vector<std::string> LogSeeds();
std::vector<std::string> LogWords();

int FuzzMetricLog(const uint8_t* data, size_t size);

int FuzzSweepOutcome(const uint8_t* data, size_t size);
std::vector<std::string> SweepOutcomeSeeds();

int FuzzReport(const uint8_t* data, size_t size);
std::vector<std::string> ReportSeeds();
std::vector<std::string> ReportWords();

int FuzzPrepareJsonl(const uint8_t* data, size_t size);
std::vector<std::string> PrepareJsonlSeeds();
std::vector<std::string> PrepareJsonlWords();

int FuzzTokenizer(const uint8_t* data, size_t size);
std::vector<std::string> TokenizerSeeds();
std::vector<std::string> TokenizerWords();

int FuzzChatLines(const uint8_t* data, size_t size);
std::vector<std::string> ChatLinesSeeds();
std::vector<std::string> ChatLinesWords();

int FuzzConvertConfig(const uint8_t* data, size_t size);
std::vector<std::string> ConvertConfigSeeds();
std::vector<std::string> ConvertConfigWords();

int FuzzHostfile(const uint8_t* data, size_t size);
std::vector<std::string> HostfileSeeds();
std::vector<std::string> HostfileWords();

int FuzzLinkTable(const uint8_t* data, size_t size);
std::vector<std::string> LinkTableSeeds();
std::vector<std::string> LinkTableWords();
int FuzzHostRates(const uint8_t* data, size_t size);
std::vector<std::string> HostRatesSeeds();
std::vector<std::string> HostRatesWords();

}  // namespace hearth::test
