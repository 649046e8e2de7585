"""Writes the goldens of this folder: tiny models and what transformers computes with them.

Needs PyTorch and transformers (5 or later); `make goldens PYTHON=...` runs it. tests/golden/README.md
says what the files hold.
"""

import json
import pathlib
import sys

import numpy
import torch
import transformers
from safetensors.torch import save_file

SEQUENCE = 19  # inputs of a sample
SAMPLES = 5  # of the one batch, which is the whole data set
STEPS = 10
TRAINING = {"lr": 4e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
MAX_GRAD_NORM = 0.7

# Sizes that no tile divides, and sizes in multiples of 16, which FP8 asks for.
ODD = {"hidden_size": 36, "intermediate_size": 77, "num_attention_heads": 6, "num_key_value_heads": 3}
EVEN = {"hidden_size": 48, "intermediate_size": 112, "num_attention_heads": 8, "num_key_value_heads": 4}
COMMON = {"num_hidden_layers": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "dtype": "float32"}


def rope(theta, **more):
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **more}}


LLAMA3 = rope(500.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)

# name: (config class, model class, fields, also packed, also in the transformers 4 layout)
MODELS = {
    "llama": ("Llama", {**EVEN, **LLAMA3, "head_dim": 8, "vocab_size": 101,
                        "tie_word_embeddings": False}, False, True),
    "mistral-tied": ("Mistral", {**ODD, **rope(1000.0), "vocab_size": 97, "sliding_window": None,
                                 "head_dim": 6, "tie_word_embeddings": True}, False, True),
    "qwen2": ("Qwen2", {**EVEN, **rope(300.0), "num_attention_heads": 3, "num_key_value_heads": 1,
                        "vocab_size": 83, "tie_word_embeddings": False}, False, True),
    "qwen2-tied": ("Qwen2", {**ODD, **rope(300.0), "vocab_size": 99,
                             "tie_word_embeddings": True}, True, False),
    "qwen3": ("Qwen3", {**ODD, **rope(1000.0), "head_dim": 10, "vocab_size": 103,
                        "tie_word_embeddings": False}, True, True),
    "qwen3-tied": ("Qwen3", {**EVEN, **rope(1000.0), "num_attention_heads": 4,
                             "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 89,
                             "tie_word_embeddings": True}, False, False),
}


def make_model(family, fields):
    config = getattr(transformers, family + "Config")(**COMMON, **fields, bos_token_id=1, eos_token_id=2)
    config._attn_implementation = "eager"
    return getattr(transformers, family + "ForCausalLM")(config).float().eval()


def fill(model, generator):
    """Values large enough that every parameter matters, and none of them a special one."""
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = 1.0 + 0.3 * draw
        elif "bias" in name:
            value = 0.5 * draw
        elif "embed" in name:
            value = 0.4 * draw
        else:
            value = 0.8 * draw / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)


def cross_entropy(logits, targets, counts):
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return (losses * counts).sum()


def plain_loss(model, tokens):
    """The mean over all targets of SAMPLES sequences, and the logits."""
    inputs = tokens[:-1].view(SAMPLES, SEQUENCE)
    targets = tokens[1:]
    logits = model(input_ids=inputs, use_cache=False).logits.reshape(targets.numel(), -1)
    return cross_entropy(logits, targets, torch.ones(targets.numel())) / targets.numel(), logits


def packed_loss(model, tokens, starts, mask):
    """Every document inside a sample runs alone; a target counts when its token is in the same
    document and not masked."""
    total, count, logits = 0.0, 0, []
    for sample in range(SAMPLES):
        begin, end = sample * SEQUENCE, (sample + 1) * SEQUENCE
        cuts = [begin] + [s for s in starts if begin < s < end] + [end]
        for first, last in zip(cuts, cuts[1:]):
            piece = model(input_ids=tokens[first:last].view(1, -1), use_cache=False).logits[0]
            counts = mask[first + 1:last + 1].float()
            if last in starts:
                counts[-1] = 0.0
            total = total + cross_entropy(piece, tokens[first + 1:last + 1], counts)
            count += int(counts.sum())
            logits.append(piece)
    return total / count, torch.cat(logits)


def gradients(model, loss, logits):
    model.zero_grad()
    loss.backward()
    tensors = {"loss": loss.detach(), "logits": logits.detach()}
    tensors.update({name: p.grad for name, p in model.named_parameters()})
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def train(model, tokens):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
                                  **TRAINING)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss, _ = plain_loss(model, tokens)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM).item())
        losses.append(loss.item())
        optimizer.step()
    return {"train.loss": torch.tensor(losses), "train.grad_norm": torch.tensor(norms)}


def old_layout(config):
    """config.json as transformers 4 writes it."""
    config = dict(config)
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.3"
    config.pop("layer_types", None)
    if config["model_type"].startswith("qwen"):
        config.update(sliding_window=config["max_position_embeddings"], use_sliding_window=False,
                      max_window_layers=config["num_hidden_layers"])
    if config["model_type"] == "qwen2":
        config.pop("head_dim", None)
    return config


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def make_golden(folder, index, family, fields, packed, old):
    generator = torch.Generator().manual_seed(1000 + index)
    model = make_model(family, fields)
    fill(model, generator)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokens = torch.randint(0, fields["vocab_size"], (SAMPLES * SEQUENCE + 1,), generator=generator)
    numpy.asarray(tokens, dtype="<u2").tofile(folder / "tokens.bin")
    if old:
        config = json.loads((folder / "config.json").read_text())
        write_json(folder / "config-transformers-4.json", old_layout(config))
    expected = gradients(model, *plain_loss(model, tokens))
    if packed:
        # Boundaries inside a sample, at its start and just behind it; a document of one token.
        starts = [0, 7, 8, SEQUENCE, 2 * SEQUENCE - 4, 3 * SEQUENCE + 5, 5 * SEQUENCE]
        mask = (torch.rand(tokens.shape, generator=generator) > 0.25).to(torch.int32)
        values = gradients(model, *packed_loss(model, tokens, starts, mask))
        values["document_starts"] = torch.tensor(starts, dtype=torch.int32)
        values["loss_mask"] = mask
        save_file(values, folder / "expected-packed.safetensors")
    expected.update(train(model, tokens))
    save_file(expected, folder / "expected.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "models"
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for index, (name, (family, fields, packed, old)) in enumerate(MODELS.items()):
        make_golden(root / name, index, family, fields, packed, old)
        size = sum(f.stat().st_size for f in (root / name).iterdir())
        print(f"{name}: {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
