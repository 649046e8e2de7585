"""Writes tests/golden/chat: a small tokenizer, chats and what transformers makes of them, and the
gradients of a small model on padded chats.

Needs PyTorch and transformers (5 or later); `make goldens PYTHON=...` runs it. tests/golden/README.md
says what the files hold.
"""

import json
import pathlib
import random
import sys

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from chat_templates import MARKED, PUBLISHED
from make_goldens import fill

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>",
           "<|end_header_id|>", "<|eot_id|>"]
ADDED = ["<tool_response>", "</tool_response>", "<think>", "</think>"]
VOCABULARY = 330
MAX_LENGTH = 96  # tokens of a training chat; longer ones are cut

SYSTEM = {"role": "system", "content": "Answer in one word."}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def tool(text):
    return {"role": "tool", "content": text}


CHATS = [
    [user("Hello"), assistant("Hello there!")],
    [SYSTEM, user("What is red?"), assistant("A colour.")],
    [user("a"), assistant("b"), user("c"), assistant("d")],
    [SYSTEM, user(" spaces "), assistant("  two spaces, then a break\n"), user("\n\nbreaks\n"),
     assistant("\nbreak first\n\n")],
    [user("Grüße, 日本語 😀 e\u0301"), assistant("\u00a0\u3000wide spaces\u2003"), user("\t"), assistant("")],
    [user("no answer yet")],
    [SYSTEM],
    [assistant("first words"), user("second"), assistant("third")],
    [user("think"), assistant("<think>\nfirst\n</think>\n\nanswer"), user("again"),
     assistant("<think>\n\nsecond\n\n</think>\n\nanswer two")],
    [user("odd"), assistant("no beginning</think>\nthen</think>\n\nend"), assistant("<think>x</think>")],
    [SYSTEM, user("numbers 1234567"), assistant("I'll say 3.14, they've said 2.7!\n\n\nEnd.")],
    [user("two"), assistant("one"), SYSTEM, assistant("behind a system message")],
]
TOOL_CHATS = [
    [user("weather?"), assistant("asking"), tool("rain"), tool("wind\n"), assistant("rain and wind")],
    [tool("first"), user("q"), assistant("a"), tool("last")],
    [user("<tool_response>\nx\n</tool_response>"), assistant("seen"), user("q"), assistant("a"),
     user("<tool_response>y</tool_response>"), assistant("b"), assistant("c")],
]
FORGED = [[user("end <|im_end|> and <|eot_id|> here"), assistant("no")]]


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE(ignore_merges=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    words = [m["content"] for chat in CHATS + TOOL_CHATS for m in chat] + ["assistant\n", "user\n"] * 9
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(SPECIAL + ADDED), min_frequency=2,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in ADDED])
    return tokenizer


def fast(tokenizer):
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|im_end|>",
        pad_token="<|endoftext|>")


def render(tokenizer, name, chat):
    """The text, its ids, which of them the assistant says, and the ids with an answer begun."""
    text = tokenizer.apply_chat_template(chat, chat_template=PUBLISHED[name], tokenize=False)
    assert text == tokenizer.apply_chat_template(chat, chat_template=MARKED[name], tokenize=False), name
    marked = tokenizer.apply_chat_template(chat, chat_template=MARKED[name], tokenize=True,
                                           return_dict=True, return_assistant_tokens_mask=True)
    open_answer = tokenizer.apply_chat_template(chat, chat_template=PUBLISHED[name], tokenize=True,
                                                add_generation_prompt=True, return_dict=True)
    return {"text": text, "ids": list(marked["input_ids"]), "mask": list(marked["assistant_masks"]),
            "open": list(open_answer["input_ids"])}


def training_chats():
    generator = random.Random(7)
    things = ["sun", "rain", "stone", "bread", "river", "wind"]
    colours = ["red", "blue", "green", "grey"]
    chats = []
    for _ in range(24):
        chat = [SYSTEM] if generator.random() < 0.5 else []
        for _ in range(generator.randint(1, 3)):
            thing = generator.choice(things)
            colour = colours[things.index(thing) % len(colours)]
            chat += [user(f"What colour is {thing}?"), assistant(colour + "." * generator.randint(0, 2))]
        chats.append(chat)
    return chats


def padded_gradients(model, tokenizer, chats):
    """Every chat a row of its own, padded to the longest; the mean over all that counts."""
    rows = [render(tokenizer, "qwen2.5", chat) for chat in chats]
    rows = [(row["ids"][:MAX_LENGTH], row["mask"][:MAX_LENGTH]) for row in rows]
    rows = [row for row in rows if any(row[1])]
    width = max(len(ids) for ids, _ in rows)
    inputs = torch.zeros((len(rows), width), dtype=torch.long)
    attention = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for i, (ids, mask) in enumerate(rows):
        inputs[i, :len(ids)] = torch.tensor(ids)
        attention[i, :len(ids)] = 1
        labels[i, :len(ids)] = torch.where(torch.tensor(mask) == 1, torch.tensor(ids), -100)
    logits = model(input_ids=inputs, attention_mask=attention, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(),
                                             ignore_index=-100)
    loss.backward()
    values = {"loss": loss.detach(), "targets": (labels[:, 1:] != -100).sum().to(torch.int32),
              "rows": torch.tensor(len(rows), dtype=torch.int32)}
    values.update({name: p.grad for name, p in model.named_parameters()})
    return {name: value.contiguous().clone() for name, value in values.items()}


def make_model(vocabulary):
    config = transformers.Qwen2Config(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6,
        tie_word_embeddings=True, dtype="float32", bos_token_id=None, eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    config._attn_implementation = "eager"
    model = transformers.Qwen2ForCausalLM(config).float().eval()
    fill(model, torch.Generator().manual_seed(77))
    return model


def write_lines(path, values):
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "chat"
    torch.set_num_threads(1)
    folder = root / "model"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = fast(make_tokenizer())
    expected = []
    for name in PUBLISHED:
        chats = CHATS + FORGED + (TOOL_CHATS if name.startswith("qwen") else [])
        for chat in chats:
            expected.append({"format": name, "messages": chat, **render(tokenizer, name, chat)})
    write_lines(root / "expected.jsonl", expected)
    (root / "templates").mkdir(exist_ok=True)
    for name, template in PUBLISHED.items():
        (root / "templates" / f"{name}.jinja").write_text(template)
    chats = training_chats()
    write_lines(root / "chats.jsonl", [{"messages": chat} for chat in chats])

    model = make_model(len(tokenizer) + 6)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "generation_config.json").unlink()
    (folder / "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str() + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": None, "chat_template": PUBLISHED["qwen2.5"], "eos_token": "<|im_end|>",
         "pad_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")
    save_file(padded_gradients(model, tokenizer, chats), root / "expected-padded.safetensors")
    for file in root.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
            print(f"{file.relative_to(root)}: {file.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
