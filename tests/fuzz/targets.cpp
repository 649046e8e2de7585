#include "tests/fuzz/targets.h"

namespace hearth::test {

const std::vector<FuzzTarget>& FuzzTargets() {
  static const std::vector<FuzzTarget> targets = {
      {"run_yaml", FuzzRunYaml, RunYamlSeeds, RunYamlWords},
      {"overrides", FuzzOverrides, OverridesSeeds, OverridesWords},
      {"sweep_yaml", FuzzSweepYaml, SweepYamlSeeds, SweepYamlWords},
      {"hardware", FuzzHardware, HardwareSeeds, HardwareWords},
      {"shape", FuzzShape, ShapeSeeds, ShapeWords},
      {"hf_config", FuzzHfConfig, HfConfigSeeds, HfConfigWords},
      {"safetensors", FuzzSafetensors, SafetensorsSeeds, SafetensorsWords},
      {"weight_index", FuzzWeightIndex, WeightIndexSeeds, WeightIndexWords},
      {"hearth", FuzzHearth, HearthSeeds, TokenFileWords},
      {"llmc", FuzzLlmc, LlmcSeeds, TokenFileWords},
      {"nanogpt", FuzzNanogpt, NanogptSeeds, TokenFileWords},
      {"megatron", FuzzMegatron, MegatronSeeds, TokenFileWords},
      {"llmq", FuzzLlmq, LlmqSeeds, TokenFileWords},
      {"manifest", FuzzManifest, ManifestSeeds, ManifestWords},
      {"checkpoint", FuzzCheckpoint, CheckpointSeeds, ManifestWords},
      {"matmuls", FuzzMatmuls, MatmulsSeeds, MatmulsWords},
      {"log", FuzzLog, LogSeeds, LogWords},
      {"metric_log", FuzzMetricLog, LogSeeds, LogWords},
      {"sweep_outcome", FuzzSweepOutcome, SweepOutcomeSeeds, LogWords},
      {"report", FuzzReport, ReportSeeds, ReportWords},
      {"prepare_jsonl", FuzzPrepareJsonl, PrepareJsonlSeeds, PrepareJsonlWords},
      {"tokenizer", FuzzTokenizer, TokenizerSeeds, TokenizerWords},
      {"chat_lines", FuzzChatLines, ChatLinesSeeds, ChatLinesWords},
      {"convert_config", FuzzConvertConfig, ConvertConfigSeeds, ConvertConfigWords},
      {"link_table", FuzzLinkTable, LinkTableSeeds, LinkTableWords},
      {"host_rates", FuzzHostRates, HostRatesSeeds, HostRatesWords},
      {"hostfile", FuzzHostfile, HostfileSeeds, HostfileWords},
  };
  return targets;
}

}  // namespace hearth::test
