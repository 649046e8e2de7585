#!/usr/bin/env python3
"""Training steps of Hearth against PyTorch on one GPU: same Qwen2.5 shape, tokens per step and clipping, random tokens.

`make bench-gpu PYTHON=...` runs it; it needs torch alone. Hearth's side is `hearth bench step`; PyTorch's is plain torch
in bf16: torch.compile, flash attention, fused AdamW with bf16 weights and moments, logits in chunks with the loss in
fp32. Each side has the GPU for itself, one after the other; the median of the measured steps counts. The last line is
JSON.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MICRO_BATCHES = {"0.5b": 16, "1.5b": 16, "7b": 4}  # that suit PyTorch on a GPU of 141 GB
SEQUENCE = 1024
SEQUENCES_PER_STEP = 256
HEAD_CHUNK = 8192  # tokens
OUT_OF_MEMORY = 9  # exit code of the PyTorch side


def read_shape(path):
    shape = {}
    for line in path.read_text().splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if not colon:
            continue
        value = value.strip()
        if value in ("true", "false"):
            shape[key] = value == "true"
        else:
            try:
                shape[key] = float(value) if "." in value or "e" in value else int(value)
            except ValueError:
                shape[key] = value
    return shape


def make_model(shape, device):
    import torch
    from torch import nn
    from torch.nn import functional as F

    hidden, ffn, head_dim = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    heads, kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
    options = {"device": device, "dtype": torch.bfloat16}

    def rotate(x, cos, sin):
        a, b = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-b, a), dim=-1) * sin

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(hidden, **options))

        def forward(self, x):
            wide = x.float()
            scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + shape["rms_norm_eps"])
            return (wide * scale).to(x.dtype) * self.weight

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = Norm(), Norm()
            self.qkv = nn.Linear(hidden, (heads + 2 * kv_heads) * head_dim, bias=True, **options)
            self.o = nn.Linear(heads * head_dim, hidden, bias=False, **options)
            self.gate_up = nn.Linear(hidden, 2 * ffn, bias=False, **options)
            self.down = nn.Linear(ffn, hidden, bias=False, **options)

        def forward(self, x, cos, sin):
            batch, length, _ = x.shape
            qkv = self.qkv(self.norm1(x)).view(batch, length, heads + 2 * kv_heads, head_dim).transpose(1, 2)
            q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=1)
            mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True,
                                                   enable_gqa=True)
            x = x + self.o(mixed.transpose(1, 2).reshape(batch, length, heads * head_dim))
            gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(shape["vocab_size"], hidden, **options)
            self.blocks = nn.ModuleList(Block() for _ in range(shape["num_hidden_layers"]))
            self.norm = Norm()
            tied = shape["tie_word_embeddings"]
            self.head = self.embedding if tied else nn.Linear(hidden, shape["vocab_size"], bias=False, **options)
            powers = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
            angles = torch.arange(SEQUENCE, device=device)[:, None] * shape["rope_theta"] ** -powers
            angles = torch.cat((angles, angles), dim=-1)
            self.cos, self.sin = angles.cos().bfloat16(), angles.sin().bfloat16()
            with torch.no_grad():
                for parameter in self.parameters():
                    if parameter.dim() > 1:
                        parameter.normal_(0.0, shape["initializer_range"])

        def forward(self, tokens):
            x = self.embedding(tokens)
            cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x, cos, sin)
            return self.norm(x)

    return Model()


def make_loss(compile_function):
    """sum(losses) * scale of hidden states: the gradient is made with the loss, so that no chunk's logits are kept."""
    import torch

    @compile_function
    def loss_and_gradient(logits, targets, scale):
        wide = logits.float()
        maximum = wide.amax(-1, keepdim=True)
        log_sum = (wide - maximum).exp().sum(-1, keepdim=True).log() + maximum
        loss = (log_sum - wide.gather(-1, targets[:, None])).sum() * scale
        columns = torch.arange(logits.shape[-1], device=logits.device)
        gradient = ((wide - log_sum).exp() - (columns == targets[:, None]).float()) * scale
        return loss, gradient.to(logits.dtype)

    class HeadLoss(torch.autograd.Function):
        @staticmethod
        def forward(context, hidden, weight, targets, scale):
            loss = torch.zeros((), device=hidden.device)
            d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
            for begin in range(0, hidden.shape[0], HEAD_CHUNK):
                rows = slice(begin, begin + HEAD_CHUNK)
                part, d_logits = loss_and_gradient(hidden[rows] @ weight.t(), targets[rows], scale)
                loss += part
                torch.mm(d_logits, weight, out=d_hidden[rows])
                d_weight.addmm_(d_logits.t(), hidden[rows])
            context.save_for_backward(d_hidden, d_weight)
            return loss

        @staticmethod
        def backward(context, _):  # of the loss itself: 1
            return *context.saved_tensors, None, None

    return HeadLoss.apply


def torch_step(shape, micro_batch, device, compiled=True):
    """A function that makes one step of that many micro-batches and returns its loss."""
    import torch

    compile_function = torch.compile if compiled else (lambda function: function)
    torch.manual_seed(1)
    model = make_model(shape, device)
    body, head_loss = compile_function(model), make_loss(compile_function)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=3e-4, betas=(0.9, 0.95), fused=True)

    def step(micro_batches):
        optimizer.zero_grad(set_to_none=True)
        scale = 1.0 / (micro_batches * micro_batch * SEQUENCE)
        total = torch.zeros((), device=device)
        for _ in range(micro_batches):
            data = torch.randint(shape["vocab_size"], (micro_batch, SEQUENCE + 1), device=device)
            hidden = body(data[:, :-1]).flatten(0, 1)
            loss = head_loss(hidden, model.head.weight, data[:, 1:].flatten(), scale)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return total.item()  # waits for the GPU

    return step


def torch_side(options):
    import torch

    for choose in (torch.backends.cuda.enable_math_sdp, torch.backends.cuda.enable_mem_efficient_sdp,
                   torch.backends.cuda.enable_cudnn_sdp):
        choose(False)
    micro_batches = SEQUENCES_PER_STEP // options.micro_batch
    try:
        step = torch_step(read_shape(ROOT / f"configs/models/qwen2.5-{options.size}.yaml"), options.micro_batch, "cuda")
        for _ in range(2):  # compiles, and fills what steps reuse
            step(2)
        seconds = []
        for number in range(options.steps):
            begin = time.perf_counter()
            loss = step(micro_batches)
            seconds.append(time.perf_counter() - begin)
            print(f"PyTorch step {number + 1}/{options.steps}  loss {loss:.4f}  {seconds[-1]:.2f} s", flush=True)
    except torch.OutOfMemoryError:
        sys.exit(OUT_OF_MEMORY)
    if not math.isfinite(loss):
        sys.exit(f"PyTorch's loss is {loss}")
    print(json.dumps({"version": torch.__version__, "device": torch.cuda.get_device_name(),
                      "micro_batch": options.micro_batch, "step_ms": [1e3 * s for s in seconds],
                      "tokens_per_second": SEQUENCES_PER_STEP * SEQUENCE / statistics.median(seconds),
                      "peak_bytes": torch.cuda.max_memory_allocated(), "loss": loss}), flush=True)


def last_line(command):
    """Runs it, showing what it prints; its exit code, and its last line as JSON when that is 0."""
    line = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    return process.returncode, json.loads(line) if process.returncode == 0 else None


def run_torch(options):
    micro_batch = options.micro_batch or MICRO_BATCHES[options.size]
    while micro_batch >= 1:
        code, result = last_line([sys.executable, __file__, "--torch-side", "--size", options.size, "--steps",
                                  str(options.steps), "--micro-batch", str(micro_batch)])
        if code == 0:
            return result
        if code != OUT_OF_MEMORY:
            sys.exit(f"the PyTorch side failed with exit code {code}")
        print(f"PyTorch has not enough memory for a micro-batch of {micro_batch}", flush=True)
        micro_batch //= 2
    sys.exit("PyTorch has not enough memory")


def run_hearth(options, precision):
    command = [options.hearth, "bench", "step", str(ROOT / f"configs/runs/bench/{options.size}-{precision}.yaml"),
               "--steps", str(options.steps), "--set", f"data.sequence_len={SEQUENCE}", "--set",
               f"training.global_batch_size={SEQUENCES_PER_STEP}"]
    for assignment in options.set:
        command += ["--set", assignment]
    code, result = last_line(command)
    if code != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {code}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hearth", default=str(ROOT / "build/hearth"))
    parser.add_argument("--size", choices=MICRO_BATCHES, default="0.5b")
    parser.add_argument("--steps", type=int, default=4, help="measured on each side")
    parser.add_argument("--micro-batch", type=int, default=0,
                        help="PyTorch's, in sequences; halved while memory is short (default: what suits 141 GB)")
    parser.add_argument("--precision", nargs="+", choices=("fp8", "bf16"), default=["fp8"], help="Hearth's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for Hearth's run")
    parser.add_argument("--torch-side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < 1 or options.micro_batch < 0 or SEQUENCES_PER_STEP % (options.micro_batch or 1) != 0:
        parser.error(f"--steps is a count, --micro-batch divides {SEQUENCES_PER_STEP}")
    if options.torch_side:
        return torch_side(options)
    hearth = {precision: run_hearth(options, precision) for precision in options.precision}
    torch = run_torch(options)
    speed = torch["tokens_per_second"]
    for precision, result in hearth.items():
        result["ratio"] = result["tokens_per_second"] / speed
        print(f"Qwen2.5-{options.size}, {SEQUENCES_PER_STEP} x {SEQUENCE} tokens a step, {result['device']}: "
              f"Hearth {precision} {result['tokens_per_second']:.0f} tokens/s, "
              f"PyTorch {torch['version']} bf16 {speed:.0f} tokens/s, ratio {result['ratio']:.2f}")
    print(json.dumps({"bench": "gpu", "size": options.size, "hearth": hearth, "torch": torch}))


if __name__ == "__main__":
    main()
