"""Writes runtime/text/unicode_tables.cpp out of the behaviour of the `tokenizers` library.

Usage: python3 make_unicode_tables.py   (needs the package tokenizers)

Each part of that library has tables of its own Unicode version: those of split patterns, of word boundaries
around added tokens, and of NFC. They are asked here for every code point, so that equality does not
depend on what other versions say.
"""

import pathlib
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / "runtime/text/unicode_tables.cpp"
ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)


def matching(pattern):
    """The code points that a pattern matches: what Split removes."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = []
    for low in range(0, len(ALL), 1024):
        block = ALL[low : low + 1024]
        left = set("".join(piece for piece, _ in split.pre_tokenize_str("".join(map(chr, block)))))
        found += [c for c in block if chr(c) not in left]
    return found


def word_characters():
    """Before these a single-word token is none."""
    tokenizer = Tokenizer(models.BPE(vocab={}, merges=[]))
    tokenizer.add_tokens([AddedToken("Q", single_word=True, normalized=False)])
    return [c for c in ALL if c != ord("Q") and not tokenizer.encode(chr(c) + "Q").ids] + [ord("Q")]


def normalized(normalizer, strings):
    """Many strings at once; a line feed is a boundary of every normal form."""
    done = []
    for low in range(0, len(strings), 4096):
        done += normalizer.normalize_str("\n".join(strings[low : low + 4096])).split("\n")
    assert len(done) == len(strings)
    return done


def ranges(code_points):
    merged = []
    for c in sorted(code_points):
        if merged and merged[-1][1] == c - 1:
            merged[-1][1] = c
        else:
            merged.append([c, c])
    return merged


def combining_classes():
    """Python's classes, of the code points that the library moves past others."""
    marks = [c for c in ALL if unicodedata.combining(chr(c))]
    after = normalized(normalizers.NFD(), ["a" + chr(c) + "\u0334" for c in marks])
    before = normalized(normalizers.NFD(), ["a\u0345" + chr(c) for c in marks])
    active = {}
    for c, x, y in zip(marks, after, before):
        plain = unicodedata.normalize("NFD", chr(c))
        if x != "a" + plain + "\u0334" or y != "a\u0345" + plain:
            active[c] = unicodedata.combining(chr(c))
    by_class = {}
    for c, combining_class in active.items():
        by_class.setdefault(combining_class, []).append(c)
    table = [(first, last, k) for k, members in by_class.items() for first, last in ranges(members)]
    # A code point that Python does not know yet would be missing.
    others = [c for c in ALL if c not in active and c not in HANGUL and c != 10]
    alone = normalized(normalizers.NFD(), [chr(c) for c in others])
    for form in (["a" + chr(c) + "\u0334" for c in others], ["a\u0345" + chr(c) for c in others]):
        for c, nfd, text, result in zip(others, alone, form, normalized(normalizers.NFD(), form)):
            assert result == text or nfd != chr(c), ascii(text)
    return sorted(table)


def decompositions():
    entries = []
    candidates = [c for c in ALL if c not in HANGUL and c != 10]
    full = normalized(normalizers.NFD(), list(map(chr, candidates)))
    again = normalized(normalizers.NFC(), full)
    for c, nfd, nfc in zip(candidates, full, again):
        if nfd == chr(c):
            continue
        parts = [int(part, 16) for part in unicodedata.decomposition(chr(c)).split()]
        assert 1 <= len(parts) <= 2 and unicodedata.normalize("NFD", chr(c)) == nfd, hex(c)
        entries.append((c, parts[0], parts[1] if len(parts) == 2 else 0, nfc == chr(c)))
    return entries


def lines(items, width):
    text, line = [], ""
    for item in items:
        if len(line) + len(item) + 2 > width:
            text.append(line.rstrip())
            line = ""
        line += item + ", "
    return text + [line.rstrip()]


def span(kind, name, items):
    rows = "\n".join("    " + line for line in lines(items, 95))
    return (f"namespace {{\n\nconstexpr {kind} k{name}[] = {{\n{rows}\n}};\n\n}}  // namespace\n\n"
            f"std::span<const {kind}> {name}() {{ return k{name}; }}\n")


def range_span(name, code_points):
    return span("CodePointRange", name, [f"{{{a:#x}, {b:#x}}}" for a, b in ranges(code_points)])


def main():
    parts = [
        "// One file because it is generated: tests/golden/make_unicode_tables.py wrote it.",
        "// clang-format off",
        '#include "runtime/text/unicode_tables.h"\n',
        "namespace hearth {\n",
        range_span("LetterRanges", matching(r"\p{L}")),
        range_span("NumberRanges", matching(r"\p{N}")),
        range_span("SpaceRanges", matching(r"\s")),
        range_span("WordRanges", word_characters()),
        span("CombiningRange", "CombiningRanges", [f"{{{a:#x}, {b:#x}, {k}}}" for a, b, k in combining_classes()]),
        span(
            "Decomposition",
            "Decompositions",
            [f"{{{c:#x}, {a:#x}, {b:#x}, {'true' if r else 'false'}}}" for c, a, b, r in decompositions()],
        ),
        "}  // namespace hearth",
    ]
    OUTPUT.write_text("\n".join(parts) + "\n")


main()
