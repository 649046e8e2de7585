// Small models and folders for the tests of runtime/model.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "runtime/model/model_config.h"
#include "tests/support/temporary_folder.h"

namespace hearth {

class TestFolder : public test::TemporaryFolder {
 public:
  // Writes a file, making the folders on its way, and returns its path.
  std::filesystem::path Write(const std::filesystem::path& name, std::string_view bytes) const {
    std::filesystem::create_directories((path() / name).parent_path());
    std::ofstream out(path() / name, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path() / name;
  }
};

inline std::string FileBytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// Odd sizes everywhere: heads*head_dim is not hidden, the vocabulary is no multiple of 16.
inline ModelConfig SmallModel(ModelFamily family, bool tied) {
  ModelConfig config;
  config.family = family;
  config.vocab_size = 37;
  config.hidden_size = 20;
  config.intermediate_size = 13;
  config.num_layers = 2;
  config.num_heads = 6;
  config.num_kv_heads = 2;
  config.head_dim = 4;
  config.max_position_embeddings = 64;
  config.rms_norm_eps = 1e-5;
  config.tie_word_embeddings = tied;
  config.qkv_bias = family == ModelFamily::kQwen2;
  config.qk_norm = family == ModelFamily::kQwen3;
  config.eos_token_ids = {3};
  return config;
}

// The message of the exception of exactly this type that `action` throws; fails where it does not.
template <typename Exception, typename Action>
std::string MessageOf(const Action& action) {
  try {
    action();
  } catch (const Exception& error) {
    EXPECT_EQ(typeid(error), typeid(Exception));
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception: " << error.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace hearth
