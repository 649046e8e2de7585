"""Loads a folder that Hearth exported in transformers and compares logits with Hearth's own.

python3 check_export.py HEARTH FOLDER: runs `HEARTH gradients --logits` on one sequence in fp32 and
transformers on the same tokens; fails beyond a relative error of 1e-5. With a chat template in the
folder the tokens are those of a chat.
"""

import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file

BOUND = 1e-5
CHAT = [{"role": "user", "content": "What colour is rain? 123, été"},
        {"role": "assistant", "content": "blue, then grey."}]


def chat_tokens(folder, vocabulary):
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = tokenizer.apply_chat_template(CHAT, tokenize=True, return_dict=True)["input_ids"]
        return list(ids) + [ids[0]]
    except (OSError, ValueError):  # no tokenizer, or no template
        return torch.randint(0, vocabulary, (65,), generator=torch.Generator().manual_seed(1)).tolist()


def hearth_logits(program, folder, tokens, work):
    # The token file of llm.c with 32-bit ids: 256 integers of header.
    data = work / "tokens.bin"
    header = [20240801, 7, len(tokens)] + [0] * 253
    data.write_bytes(torch.tensor(header + tokens, dtype=torch.int32).numpy().tobytes())
    run = work / "run.yaml"
    run.write_text(f"model: {{name_or_path: {folder}}}\n"
                   f"data: {{datasets: [{{path: {data}}}], sequence_len: {len(tokens) - 1}}}\n"
                   "training: {global_batch_size: 1, micro_batch_size: 1}\n"
                   "precision: {compute_dtype: fp32}\ndevice: cpu\n")
    out = work / "gradients.safetensors"
    subprocess.run([program, "gradients", str(run), "--out", str(out), "--logits"], check=True)
    return load_file(out)["logits"].double()


def main():
    program, folder = str(pathlib.Path(sys.argv[1]).absolute()), pathlib.Path(sys.argv[2]).absolute()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                              attn_implementation="eager").eval()
    tokens = chat_tokens(folder, model.config.vocab_size)
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        ours = hearth_logits(program, folder, tokens, pathlib.Path(work))
        theirs = model(input_ids=torch.tensor([tokens[:-1]]), use_cache=False).logits[0].double()
    error = ((ours - theirs).norm() / theirs.norm()).item()
    print(f"{folder}: {len(tokens) - 1} tokens, relative error of the logits {error:.3g}")
    if not error <= BOUND:
        sys.exit(f"beyond {BOUND}")


if __name__ == "__main__":
    main()
