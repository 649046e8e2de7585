#include "kernels/api/embedding.h"

#include "kernels/api/checks.h"
#include "kernels/api/workspace.h"

namespace hearth {

void Validate(const EmbeddingForwardArgs& args) {
  CheckRank({"embedding.tokens", args.tokens}, 1);
  CheckType({"embedding.tokens", args.tokens}, DType::kI32);
  CheckRank({"embedding.table", args.table}, 2);
  CheckStorage({"embedding.table", args.table});
  CheckTensor({"embedding.out", args.out}, {args.tokens.shape()[0], args.table.shape()[1]},
              args.table.dtype());
  CheckDisjoint({"embedding.out", args.out},
                {{"embedding.tokens", args.tokens}, {"embedding.table", args.table}});
}

void Validate(const EmbeddingBackwardArgs& args) {
  CheckRank({"embedding.tokens", args.tokens}, 1);
  CheckType({"embedding.tokens", args.tokens}, DType::kI32);
  CheckRank({"embedding.d_table", args.d_table}, 2);
  CheckStorage({"embedding.d_table", args.d_table});
  CheckShape({"embedding.d_out", args.d_out}, {args.tokens.shape()[0], args.d_table.shape()[1]});
  CheckStorage({"embedding.d_out", args.d_out});
  CHECK(args.tokens.elements() <= INT32_MAX, "embedding.tokens has {} elements, at most {} fit",
        args.tokens.elements(), INT32_MAX);
  CheckWorkspace({"embedding.workspace", args.workspace},
                 EmbeddingBackwardWorkspaceBytes(args.tokens.elements()));
  const NamedView tokens{"embedding.tokens", args.tokens};
  const NamedView d_out{"embedding.d_out", args.d_out};
  const NamedView workspace{"embedding.workspace", args.workspace};
  CheckDisjoint({"embedding.d_table", args.d_table}, {tokens, d_out, workspace});
  CheckDisjoint(workspace, {tokens, d_out});
}

}  // namespace hearth
