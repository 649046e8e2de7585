// The words of every enum of RunConfig, in the order they are offered to users.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "runtime/config/run_config.h"

namespace hearth {

template <typename Enum, size_t kCount>
using EnumWords = std::array<std::pair<std::string_view, Enum>, kCount>;

// kEnumWords<E> is an EnumWords<E, n>.
template <typename Enum>
inline constexpr int kEnumWords = 0;

template <>
inline constexpr EnumWords<DeviceKind, 3> kEnumWords<DeviceKind> = {
    {{"auto", DeviceKind::kAuto}, {"cpu", DeviceKind::kCpu}, {"cuda", DeviceKind::kCuda}}};

template <>
inline constexpr EnumWords<ModelInit, 3> kEnumWords<ModelInit> = {
    {{"auto", ModelInit::kAuto},
     {"random", ModelInit::kRandom},
     {"pretrained", ModelInit::kPretrained}}};

template <>
inline constexpr EnumWords<DataFormat, 6> kEnumWords<DataFormat> = {
    {{"auto", DataFormat::kAuto},
     {"hearth", DataFormat::kHearth},
     {"llmc", DataFormat::kLlmc},
     {"nanogpt", DataFormat::kNanogpt},
     {"megatron", DataFormat::kMegatron},
     {"llmq", DataFormat::kLlmq}}};

template <>
inline constexpr EnumWords<ClipMode, 3> kEnumWords<ClipMode> = {
    {{"exact", ClipMode::kExact},
     {"per_tensor", ClipMode::kPerTensor},
     {"speculate", ClipMode::kSpeculate}}};

template <>
inline constexpr EnumWords<OptimizerType, 1> kEnumWords<OptimizerType> = {
    {{"adamw", OptimizerType::kAdamw}}};

template <>
inline constexpr EnumWords<FloatDtype, 2> kEnumWords<FloatDtype> = {
    {{"fp32", FloatDtype::kFp32}, {"bf16", FloatDtype::kBf16}}};

template <>
inline constexpr EnumWords<MasterDtype, 2> kEnumWords<MasterDtype> = {
    {{"fp32", MasterDtype::kFp32}, {"bf16_stochastic", MasterDtype::kBf16Stochastic}}};

template <>
inline constexpr EnumWords<LrSchedulerType, 4> kEnumWords<LrSchedulerType> = {
    {{"constant", LrSchedulerType::kConstant},
     {"linear", LrSchedulerType::kLinear},
     {"cosine", LrSchedulerType::kCosine},
     {"wsd", LrSchedulerType::kWsd}}};

template <>
inline constexpr EnumWords<ComputeDtype, 3> kEnumWords<ComputeDtype> = {
    {{"fp32", ComputeDtype::kFp32}, {"bf16", ComputeDtype::kBf16}, {"fp8", ComputeDtype::kFp8}}};

template <>
inline constexpr EnumWords<Fp8Recipe, 2> kEnumWords<Fp8Recipe> = {
    {{"tensorwise_current", Fp8Recipe::kTensorwiseCurrent},
     {"tensorwise_verified", Fp8Recipe::kTensorwiseVerified}}};

template <>
inline constexpr EnumWords<Fp8Format, 2> kEnumWords<Fp8Format> = {
    {{"e4m3", Fp8Format::kE4m3}, {"hybrid", Fp8Format::kHybrid}}};

template <>
inline constexpr EnumWords<AttentionChoice, 3> kEnumWords<AttentionChoice> = {
    {{"auto", AttentionChoice::kAuto},
     {"own", AttentionChoice::kOwn},
     {"cudnn", AttentionChoice::kCudnn}}};

template <>
inline constexpr EnumWords<ReductionOrder, 3> kEnumWords<ReductionOrder> = {
    {{"auto", ReductionOrder::kAuto},
     {"micro_then_rank", ReductionOrder::kMicroThenRank},
     {"rank_then_micro", ReductionOrder::kRankThenMicro}}};

template <>
inline constexpr EnumWords<RecomputeItem, 6> kEnumWords<RecomputeItem> = {
    {{"swiglu", RecomputeItem::kSwiglu},
     {"norm", RecomputeItem::kNorm},
     {"ffn", RecomputeItem::kFfn},
     {"qkv", RecomputeItem::kQkv},
     {"attention", RecomputeItem::kAttention},
     {"block", RecomputeItem::kBlock}}};

template <>
inline constexpr EnumWords<OffloadTarget, 4> kEnumWords<OffloadTarget> = {
    {{"auto", OffloadTarget::kAuto},
     {"none", OffloadTarget::kNone},
     {"host", OffloadTarget::kHost},
     {"ssd", OffloadTarget::kSsd}}};

template <>
inline constexpr EnumWords<ScheduleKind, 3> kEnumWords<ScheduleKind> = {
    {{"auto", ScheduleKind::kAuto},
     {"horizontal", ScheduleKind::kHorizontal},
     {"vertical", ScheduleKind::kVertical}}};

template <>
inline constexpr EnumWords<OptimizerDevice, 3> kEnumWords<OptimizerDevice> = {
    {{"auto", OptimizerDevice::kAuto},
     {"gpu", OptimizerDevice::kGpu},
     {"cpu", OptimizerDevice::kCpu}}};

template <>
inline constexpr EnumWords<CommBackend, 4> kEnumWords<CommBackend> = {
    {{"auto", CommBackend::kAuto},
     {"nccl", CommBackend::kNccl},
     {"copy_engine", CommBackend::kCopyEngine},
     {"mpi", CommBackend::kMpi}}};

template <>
inline constexpr EnumWords<ExportHf, 2> kEnumWords<ExportHf> = {
    {{"end", ExportHf::kEnd}, {"none", ExportHf::kNone}}};

template <>
inline constexpr EnumWords<OnNonfinite, 2> kEnumWords<OnNonfinite> = {
    {{"stop", OnNonfinite::kStop}, {"skip", OnNonfinite::kSkip}}};

template <>
inline constexpr EnumWords<ReportTarget, 4> kEnumWords<ReportTarget> = {
    {{"jsonl", ReportTarget::kJsonl},
     {"tensorboard", ReportTarget::kTensorboard},
     {"wandb", ReportTarget::kWandb},
     {"prometheus", ReportTarget::kPrometheus}}};

}  // namespace hearth
