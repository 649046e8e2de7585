"""Tokenizers of the three built patterns, and what the `tokenizers` library makes of many strings.

Usage: python3 make_tokenizer_goldens.py [--strings N] [--merges N] [--seed N] [--out DIR]
       HEARTH_TOKENIZER_GOLDENS=DIR build/cpu/tests/golden_tokenizers

Without options it writes tests/golden/tokenizers/<name>/ again: tokenizer.json, trained on text of this machine,
and cases.bin, which tokenizer_golden_test.cpp describes. A million strings are compared with --strings 1000000
--merges 8000 and a folder of one's own. Needs the package tokenizers.
"""

import argparse
import json
import os
import pathlib
import random
import struct

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_strings import Strings, local_text

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")


def special(content, **options):
    return AddedToken(content, special=True, normalized=False, **options)


def split_by(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def training_text(text, rng):
    """Also words of a few letters of many scripts, so that merges reach across the bytes of a character."""
    alphabets = [(0x430, 24), (0x3B1, 20), (0x4E00, 30), (0x3042, 40), (0xAC00, 30), (0x5D0, 20), (0xE0, 20), (0x1F600, 12)]
    lines = []
    for _ in range(3000):
        first, size = rng.choice(alphabets)
        lines.append(" ".join("".join(chr(first + int(size * rng.random() ** 2)) for _ in range(rng.randint(1, 5)))
                              for _ in range(8)))
    return [text[at : at + 10000] for at in range(0, len(text), 10000)] + lines


def train(name, text, merges, rng):
    tokenizer = Tokenizer(models.BPE())
    if name == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    elif name == "gpt2-prefix":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    elif name == "llama3":
        tokenizer.pre_tokenizer = split_by(LLAMA3)
    else:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = split_by(QWEN2)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_text(text, rng), trainer)
    if name.startswith("gpt2"):
        tokenizer.add_special_tokens([special("<|endoftext|>")])
        tokenizer.add_tokens([AddedToken("w\u014frd", single_word=True, normalized=True), AddedToken("==", normalized=False)])
    elif name == "llama3":
        tokenizer.add_special_tokens([special(f"<|{word}|>") for word in ["begin_of_text", "end_of_text", "eot_id"]])
        tokenizer.add_special_tokens([special("<|left|>", lstrip=True), special("<|right|>", rstrip=True),
                                      special("<|both|>", lstrip=True, rstrip=True, single_word=True)])
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))])])
    else:
        tokenizer.add_special_tokens([special(f"<|{word}|>") for word in ["endoftext", "im_start", "im_end"]])
        tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("<tool_", normalized=False),
                              AddedToken("u\u031bn", normalized=True), AddedToken("\u2126m", lstrip=True, normalized=True)])
    return tokenizer


def layout(name, tokenizer, rng):
    """Back from JSON, with merges as old or new files have them, and words that no merge reaches."""
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    if name == "llama3":
        model["ignore_merges"] = True
        model["merges"] = [merge for merge in model["merges"] if rng.random() < 0.98]
    if name.startswith("gpt2"):
        model["merges"] = [" ".join(merge) for merge in model["merges"]]
        del model["type"], model["byte_fallback"], model["ignore_merges"]
        model["unk_token"] = "<|endoftext|>"
        model["continuing_subword_prefix"] = model["end_of_word_suffix"] = ""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def encode(tokenizer, strings, parse_special, add_special):
    tokenizer.encode_special_tokens = not parse_special
    repaired = [text.decode("utf-8", errors="replace") for text in strings]
    encodings = tokenizer.encode_batch_fast(repaired, add_special_tokens=add_special)
    for raw, text, encoding in zip(strings, repaired, encodings):
        decoded = tokenizer.decode(encoding.ids, skip_special_tokens=False)
        yield raw, encoding.ids, None if decoded == text else decoded.encode()


def write_cases(file, tokenizer, strings, count):
    block = 2000
    for start in range(0, count, block):
        options = start // block if count > block else 0
        texts = [strings.next() for _ in range(min(block, count - start))]
        # Blocks of the four combinations of options; a small file has all four in quarters.
        quarters = [texts[i::4] for i in range(4)] if count <= block else [texts]
        for i, part in enumerate(quarters):
            parse, add = bool((options + i) & 1 ^ 1), bool((options + i) & 2)
            for raw, ids, decoded in encode(tokenizer, part, parse, add):
                flags = parse | add << 1 | (decoded is not None) << 2
                file.write(struct.pack("<BII", flags, len(raw), len(ids)) + raw + struct.pack(f"<{len(ids)}H", *ids))
                if decoded is not None:
                    file.write(struct.pack("<I", len(decoded)) + decoded)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--strings", type=int, default=700)
    parser.add_argument("--merges", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "tokenizers")
    options = parser.parse_args()
    text = local_text()
    for name in ["gpt2", "gpt2-prefix", "llama3", "qwen2"]:
        if options.only not in ("", name):
            continue
        rng = random.Random(f"{options.seed} {name}")
        content = layout(name, train(name, text, options.merges, rng), rng)
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(content, "utf-8")
        tokenizer = Tokenizer.from_str(content)
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        with open(folder / "cases.bin", "wb") as file:
            write_cases(file, tokenizer, Strings(rng, text, added), options.strings)


main()
