#!/usr/bin/env python3
"""fp32 training step of Hearth's CPU backend against PyTorch: same model, batch, threads, optimizer.

`make bench-cpu PYTHON=...` runs it; it needs torch and transformers. Each side makes a few warm-up steps, then the
median of the timed ones counts; the two sides alternate so that both see the same machine.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import tempfile
import time

SHAPES = {
    "tiny": dict(hidden_size=96, intermediate_size=208, num_hidden_layers=2, num_attention_heads=3,
                 num_key_value_heads=1, head_dim=32, vocab_size=256),
    "small": dict(hidden_size=512, intermediate_size=1408, num_hidden_layers=4, num_attention_heads=8,
                  num_key_value_heads=4, head_dim=64, vocab_size=4096),
}
BATCHES = {"tiny": (16, 256), "small": (4, 256)}  # sequences, tokens in each


def write_inputs(folder, shape, sequence, batch, steps):
    lines = ["model_type: qwen3"] + [f"{key}: {value}" for key, value in shape.items()]
    lines += ["max_position_embeddings: 1024", "rms_norm_eps: 1.0e-6", "rope_theta: 10000.0",
              "tie_word_embeddings: true", "initializer_range: 0.02"]
    (folder / "model.yaml").write_text("\n".join(lines) + "\n")
    draw = random.Random(7)
    count = batch * sequence * 2 + 1
    tokens = [draw.randrange(shape["vocab_size"]) for _ in range(count)]
    (folder / "tokens.bin").write_bytes(struct.pack(f"<{count}H", *tokens))
    (folder / "run.yaml").write_text(f"""
output_dir: {folder}/out
model: {{name_or_path: {folder}/model.yaml}}
data: {{datasets: [{{path: {folder}/tokens.bin, format: nanogpt}}], sequence_len: {sequence}}}
training: {{max_steps: {steps}, global_batch_size: {batch}, micro_batch_size: {batch}}}
optimizer: {{m_dtype: fp32, v_dtype: fp32}}
precision: {{compute_dtype: fp32}}
checkpoint: {{resume: none, save_steps: 0, export_hf: none}}
logging: {{report_to: [jsonl]}}
""")
    return tokens


def hearth_seconds(binary, folder, threads, warmup):
    subprocess.run(["rm", "-rf", str(folder / "out")], check=True)
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    subprocess.run([binary, "train", str(folder / "run.yaml")], check=True, env=environment,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    times = [r["train/step_time_ms/total"] / 1e3 for r in records if "train/loss" in r]
    return statistics.median(times[warmup:])


def torch_step(shape, tokens, sequence, batch, threads):
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.set_num_threads(threads)
    config = Qwen3Config(**shape, max_position_embeddings=1024, tie_word_embeddings=True, use_cache=False)
    model = Qwen3ForCausalLM(config).float()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=3e-4, betas=(0.9, 0.95), fused=True)
    data = torch.tensor(tokens[: batch * sequence + 1])
    inputs, targets = data[:-1].view(batch, sequence), data[1:].view(batch, sequence)

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = model(input_ids=inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def torch_seconds(step, steps, warmup):
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[warmup:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hearth", default="build/hearth")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warmup = 4
    report = {"threads": options.threads}
    for name, shape in SHAPES.items():
        batch, sequence = BATCHES[name]
        with tempfile.TemporaryDirectory() as path:
            folder = pathlib.Path(path)
            tokens = write_inputs(folder, shape, sequence, batch, options.steps)
            step = torch_step(shape, tokens, sequence, batch, options.threads)
            ours, theirs = [], []
            for _ in range(options.rounds):
                theirs.append(torch_seconds(step, options.steps, warmup))
                ours.append(hearth_seconds(options.hearth, folder, options.threads, warmup))
        hearth, torch = batch * sequence / min(ours), batch * sequence / min(theirs)
        print(f"{name:6} {batch} x {sequence} tokens, {options.threads} threads, fp32: "
              f"Hearth {hearth:9.0f} tok/s, PyTorch {torch:9.0f} tok/s, ratio {hearth / torch:.2f}")
        report[name] = {"hearth": hearth, "torch": torch, "ratio": hearth / torch}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
