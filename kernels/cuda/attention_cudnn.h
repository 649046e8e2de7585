// The op by way of cuDNN: what CudnnAttention computes, and what it leaves undone.
#pragma once

#include <optional>
#include <string>

#include "kernels/cuda/cudnn_library.h"

namespace hearth {

// The arguments' key, but for what cuDNN is never asked for: then empty, and why.
std::optional<AttentionKey> CudnnKey(const AttentionForwardArgs& args, std::string& why_not);
std::optional<AttentionKey> CudnnKey(const AttentionBackwardArgs& args, std::string& why_not);

// Bytes of workspace that both directions fit in.
int64_t CudnnWorkspaceBytes(const AttentionKey& key, const CudnnAttention& attention);

// Enqueue. args.workspace must have that many bytes.
void CudnnAttentionForward(cudaStream_t stream, CudnnAttention& attention,
                           const AttentionForwardArgs& args);
void CudnnAttentionBackward(cudaStream_t stream, CudnnAttention& attention,
                            const AttentionBackwardArgs& args);

}  // namespace hearth
