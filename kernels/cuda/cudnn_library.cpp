#include "kernels/cuda/cudnn_library.h"

#include <cudnn_frontend.h>
#include <dlfcn.h>

#include <exception>
#include <unordered_map>

#include "kernels/core/check.h"

namespace cudnn_frontend {
// Where cudnn-frontend looks for the library's functions: its own name for it, and it wants the
// program to define it.
void* cudnn_dlhandle = nullptr;
}  // namespace cudnn_frontend

namespace hearth {

namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;
using Pointers = std::unordered_map<int64_t, void*>;

constexpr const char* kLibraryFile = "libcudnn.so.9";
// From this version on forward writes log-sum-exp with the strides it is told.
constexpr size_t kOldestVersion = 91200;

enum Uid : int64_t { kQ = 1, kK, kV, kOut, kStats, kDOut, kDQ, kDK, kDV };

std::string Words(fe::error_object error) {
  std::string words = error.get_message();
  for (char& c : words) {
    if (c == '\n') c = ' ';
  }
  return Format("{} (code {})", words, static_cast<int>(error.get_code()));
}

// The shape of both graphs, and how its tensors lie in the op's.
class Builder {
 public:
  Builder(const AttentionKey& key, float scale) : key_(key), scale_(scale) {}

  std::shared_ptr<fe::graph::Graph> Forward() const {
    const auto graph = MakeGraph();
    const auto options = fe::graph::SDPA_attributes()
                             .set_name("attention")
                             .set_is_inference(false)
                             .set_causal_mask(true)
                             .set_attn_scale(scale_);
    const auto [out, stats] =
        graph->sdpa(Qkv(*graph, kQ), Qkv(*graph, kK), Qkv(*graph, kV), options);
    Describe(out, kOut, key_.heads, key_.heads).set_output(true);
    stats->set_output(true)
        .set_uid(kStats)
        .set_data_type(fe::DataType_t::FLOAT)
        .set_dim({key_.sequences, key_.heads, key_.sequence_len, 1})
        .set_stride({key_.sequence_len, key_.tokens, 1, 1});
    return graph;
  }

  std::shared_ptr<fe::graph::Graph> Backward() const {
    const auto graph = MakeGraph();
    const auto options = fe::graph::SDPA_backward_attributes()
                             .set_name("attention_backward")
                             .set_causal_mask(true)
                             .set_attn_scale(scale_)
                             .set_deterministic_algorithm(true);
    const int64_t length = key_.sequence_len;
    const Tensor stats = graph->tensor(fe::graph::Tensor_attributes()
                                           .set_uid(kStats)
                                           .set_data_type(fe::DataType_t::FLOAT)
                                           .set_dim({key_.sequences, key_.heads, length, 1})
                                           .set_stride({key_.heads * length, length, 1, 1}));
    const auto [d_q, d_k, d_v] =
        graph->sdpa_backward(Qkv(*graph, kQ), Qkv(*graph, kK), Qkv(*graph, kV), Out(*graph, kOut),
                             Out(*graph, kDOut), stats, options);
    Describe(d_q, kDQ, key_.heads, QkvHeads()).set_output(true);
    Describe(d_k, kDK, key_.kv_heads, QkvHeads()).set_output(true);
    Describe(d_v, kDV, key_.kv_heads, QkvHeads()).set_output(true);
    return graph;
  }

 private:
  static std::shared_ptr<fe::graph::Graph> MakeGraph() {
    auto graph = std::make_shared<fe::graph::Graph>();
    graph->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    return graph;
  }

  int64_t QkvHeads() const { return key_.heads + 2 * key_.kv_heads; }

  // [sequences, heads, sequence_len, head_dim] within rows of `row_heads` heads.
  fe::graph::Tensor_attributes& Describe(const Tensor& tensor, Uid uid, int64_t heads,
                                         int64_t row_heads) const {
    const int64_t row = row_heads * key_.head_dim;
    return tensor->set_uid(uid)
        .set_data_type(fe::DataType_t::BFLOAT16)
        .set_dim({key_.sequences, heads, key_.sequence_len, key_.head_dim})
        .set_stride({key_.sequence_len * row, key_.head_dim, row, 1});
  }

  Tensor Qkv(fe::graph::Graph& graph, Uid uid) const {
    const Tensor tensor = graph.tensor(fe::graph::Tensor_attributes());
    Describe(tensor, uid, uid == kQ ? key_.heads : key_.kv_heads, QkvHeads());
    return tensor;
  }

  Tensor Out(fe::graph::Graph& graph, Uid uid) const {
    const Tensor tensor = graph.tensor(fe::graph::Tensor_attributes());
    Describe(tensor, uid, key_.heads, key_.heads);
    return tensor;
  }

  AttentionKey key_;
  float scale_;
};

void* At(const TensorView& tensor, int64_t head) {
  const int64_t elements = head * tensor.shape()[2];
  return static_cast<std::byte*>(tensor.data()) + elements * SizeOf(tensor.dtype());
}

class Prepared final : public CudnnAttention {
 public:
  Prepared(cudnnHandle_t handle, std::shared_ptr<fe::graph::Graph> forward,
           std::shared_ptr<fe::graph::Graph> backward, int64_t forward_bytes,
           int64_t backward_bytes)
      : handle_(handle),
        forward_(std::move(forward)),
        backward_(std::move(backward)),
        forward_bytes_(forward_bytes),
        backward_bytes_(backward_bytes) {}

  int64_t forward_workspace_bytes() const override { return forward_bytes_; }
  int64_t backward_workspace_bytes() const override { return backward_bytes_; }

  void Forward(cudaStream_t stream, const AttentionForwardArgs& args, void* workspace) override {
    const AttentionShape& shape = args.shape;
    Pointers pointers = {{kQ, At(args.qkv, 0)},
                         {kK, At(args.qkv, shape.heads)},
                         {kV, At(args.qkv, shape.heads + shape.kv_heads)},
                         {kOut, args.out.data()},
                         {kStats, args.log_sum_exp.data()}};
    Run(*forward_, stream, pointers, workspace);
  }

  void Backward(cudaStream_t stream, const AttentionBackwardArgs& args,
                const float* packed_log_sum_exp, void* workspace) override {
    const AttentionShape& shape = args.shape;
    Pointers pointers = {{kQ, At(args.qkv, 0)},
                         {kK, At(args.qkv, shape.heads)},
                         {kV, At(args.qkv, shape.heads + shape.kv_heads)},
                         {kOut, args.out.data()},
                         {kDOut, args.d_out.data()},
                         {kStats, const_cast<float*>(packed_log_sum_exp)},
                         {kDQ, At(args.d_qkv, 0)},
                         {kDK, At(args.d_qkv, shape.heads)},
                         {kDV, At(args.d_qkv, shape.heads + shape.kv_heads)}};
    Run(*backward_, stream, pointers, workspace);
  }

 private:
  void Run(const fe::graph::Graph& graph, cudaStream_t stream, Pointers& pointers,
           void* workspace) const {
    const cudnnStatus_t status = fe::detail::set_stream(handle_, stream);
    if (status != CUDNN_STATUS_SUCCESS) {
      throw DeviceError(
          Format("cuDNN does not take a stream: status {}", static_cast<int>(status)));
    }
    fe::error_object error = graph.execute(handle_, pointers, workspace);
    if (!error.is_good()) throw DeviceError(Format("cuDNN's attention: {}", Words(error)));
  }

  cudnnHandle_t handle_;
  std::shared_ptr<fe::graph::Graph> forward_;
  std::shared_ptr<fe::graph::Graph> backward_;
  int64_t forward_bytes_;
  int64_t backward_bytes_;
};

class Library final : public CudnnLibrary {
 public:
  // The handle is on the calling thread's GPU.
  Library(cudnnHandle_t handle, size_t version, const CudaDevice& device)
      : handle_(handle),
        name_(Format("cudnn-{}", version)),
        identity_(
            Format("{}-sm_{}-{}", name_, device.compute_capability(), device.multiprocessors())) {}
  ~Library() override { fe::detail::destroy_handle(handle_); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  const std::string& name() const override { return name_; }
  const std::string& identity() const override { return identity_; }

  std::unique_ptr<CudnnAttention> Prepare(const AttentionKey& key, float softmax_scale,
                                          std::string& why_not) override {
    try {
      const Builder builder(key, softmax_scale);
      const auto forward = builder.Forward();
      const auto backward = builder.Backward();
      int64_t forward_bytes = 0;
      int64_t backward_bytes = 0;
      why_not = Finish("forward", *forward, forward_bytes);
      if (why_not.empty()) why_not = Finish("backward", *backward, backward_bytes);
      if (!why_not.empty()) return nullptr;
      return std::make_unique<Prepared>(handle_, forward, backward, forward_bytes, backward_bytes);
    } catch (const std::exception& error) {
      why_not = Format("{}: {}", name_, error.what());
      return nullptr;
    }
  }

 private:
  // Empty, or why not.
  std::string Finish(std::string_view direction, fe::graph::Graph& graph, int64_t& bytes) const {
    std::string_view stage = "validate";
    fe::error_object error = graph.validate();
    const auto then = [&](std::string_view next, const auto& action) {
      if (!error.is_good()) return;
      stage = next;
      error = action();
    };
    then("build the graph", [&] { return graph.build_operation_graph(handle_); });
    then("plan", [&] { return graph.create_execution_plans({fe::HeurMode_t::A}); });
    then("support", [&] { return graph.check_support(handle_); });
    then("build the plans", [&] { return graph.build_plans(handle_); });
    if (!error.is_good()) {
      return Format("{}, {}, {}: {}", name_, direction, stage, Words(error));
    }
    bytes = graph.get_workspace_size();
    return {};
  }

  cudnnHandle_t handle_;
  std::string name_;
  std::string identity_;
};

}  // namespace

std::unique_ptr<CudnnLibrary> OpenCudnn(const CudaDevice& device, std::string& why_not) {
  void* const loaded = dlopen(kLibraryFile, RTLD_NOW | RTLD_LOCAL);
  if (loaded == nullptr) {
    const char* const words = dlerror();
    why_not = words == nullptr ? "libcudnn.so.9 cannot be loaded" : words;
    return nullptr;
  }
  // Stays loaded: cudnn-frontend keeps the addresses of its functions.
  fe::cudnn_dlhandle = loaded;
  try {
    const size_t version = fe::detail::get_backend_version();
    if (version < kOldestVersion) {
      why_not = Format("cuDNN {} is older than {}", version, kOldestVersion);
      return nullptr;
    }
    device.MakeCurrent();
    cudnnHandle_t handle = nullptr;
    const cudnnStatus_t status = fe::detail::create_handle(&handle);
    if (status != CUDNN_STATUS_SUCCESS) {
      why_not = Format("cuDNN {} does not start: status {}", version, static_cast<int>(status));
      return nullptr;
    }
    return std::make_unique<Library>(handle, version, device);
  } catch (const std::exception& error) {
    why_not = Format("cuDNN: {}", error.what());
    return nullptr;
  }
}

}  // namespace hearth
