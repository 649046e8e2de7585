"""Strings that tokenizers disagree about: each a few fragments of many kinds, as bytes."""

import glob
import pathlib
import sys

SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u2009\u2028\u2029\u202f\u205f\u3000\u180e\u200b\ufeff"
CONTRACTIONS = "'s 't 're 've 'm 'll 'd 'S 'T 'RE 'Ve 'M 'LL 'lL 'D '\u017f '\u212a 'st \u2019s ' '' 'x".split()
EMOJI = "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \u2764\ufe0f \U0001f44d\U0001f3fd \u26a1 \U0001fae8".split()
CODE = ["for (int i = 0; i < n; ++i) {\n", "    return x->y[3];\n\t}", "def f(self, *args):\n        pass\n\n",
        "#include <vector>\r\n", "a += 1  # why\n", "https://example.org/a?b=c&d=%20", "<div class=\"x\">&amp;</div>",
        "SELECT * FROM t WHERE id=10;", "0x7fff 1e-5 3.14159 1_000", "\\n\\t\\\\", "}}}]]]))) ;;; === !== ->"]
DIGITS = [0x30, 0x660, 0x966, 0xFF10, 0x1D7CE, 0x10D40, 0x116D0, 0x1E4F0]
NUMBERS = [0xB2, 0xBC, 0x2160, 0x2460, 0x3007, 0x10107, 0x12400]
NEW = [(0x31350, 0x323AF), (0x2EBF0, 0x2EE5D), (0x13460, 0x143FA), (0x105C0, 0x105F3), (0x1C80, 0x1C90),
       (0xA7C0, 0xA7DD), (0x11380, 0x113E2), (0x16100, 0x16139), (0x1E5D0, 0x1E5FF), (0x10D40, 0x10D90)]
LETTERS = [(0x61, 0x7A), (0x41, 0x5A), (0xC0, 0x17F), (0x370, 0x3FF), (0x400, 0x45F), (0x5D0, 0x5EA), (0x627, 0x64A),
           (0x904, 0x939), (0xE01, 0xE3A), (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x20000, 0x2A6DF)]
MARKS = [(0x300, 0x34E), (0x350, 0x36F), (0x591, 0x5BD), (0x64B, 0x655), (0x93C, 0x94D), (0x9BE, 0x9D7), (0xB3E, 0xB57),
         (0xCC6, 0xCD6), (0xD3E, 0xD57), (0xDCA, 0xDDF), (0xE38, 0xE4D), (0x1AB0, 0x1ACE), (0x1B35, 0x1B44),
         (0x1DC0, 0x1DFF), (0x20D0, 0x20F0), (0x3099, 0x309A), (0x110BA, 0x110BA), (0x11127, 0x11134),
         (0x1133E, 0x11357), (0x114B0, 0x114BD), (0x115AF, 0x115AF), (0x11930, 0x1193E), (0x1D165, 0x1D172)]
JAMO = [(0x1100, 0x1112), (0x1160, 0x1176), (0x11A7, 0x11C3), (0xAC00, 0xAC40), (0xA960, 0xA97C)]
COMPOSED = [(0xC0, 0x233), (0x340, 0x345), (0x374, 0x390), (0x958, 0x95F), (0x9DC, 0x9DF), (0xF43, 0xF81),
            (0x1E00, 0x1FFF), (0x2126, 0x212B), (0x2ADC, 0x2ADC), (0x2000, 0x2001), (0x304C, 0x3094),
            (0xF900, 0xFAD9), (0xFB1D, 0xFB4E), (0x1109A, 0x110AB), (0x1112E, 0x1112F), (0x1134B, 0x1134C),
            (0x114BB, 0x114BE), (0x115BA, 0x115BB), (0x11938, 0x11938), (0x1D15E, 0x1D164), (0x2F800, 0x2FA1D)]


def local_text():
    """Text that every Debian has, licences, documents and Python's own code, without words that files here avoid."""
    names = sorted(glob.glob("/usr/share/common-licenses/*") + glob.glob("/usr/share/doc/*/copyright"))
    names += sorted(map(str, pathlib.Path(sys.modules["glob"].__file__).parent.glob("*.py")))
    text = []
    for name in names:
        try:
            text.append(pathlib.Path(name).read_text("utf-8")[:100000])
        except (OSError, UnicodeDecodeError):
            continue
    joined = "\n".join(dict.fromkeys(text))
    for word in ["TO" + "DO", "FIX" + "ME", "X" * 3, "work"]:
        joined = joined.replace(word, "")
    return joined


class Strings:
    def __init__(self, random, text, special):
        self.random = random
        self.text = text
        self.special = special  # contents of added tokens
        self.kinds = [self.of_text, self.of_text, self.spaces, self.contraction, self.emoji, self.code, self.digits,
                      self.word, self.marks, self.hangul, self.composed, self.new, self.anything, self.plane,
                      self.token, self.broken, self.repeat, self.ascii]

    def pick(self, ranges):
        low, high = self.random.choice(ranges)
        return chr(self.random.randint(low, high))

    def some(self, ranges, most):
        return "".join(self.pick(ranges) for _ in range(self.random.randint(1, most)))

    def of_text(self):
        at = self.random.randrange(len(self.text))
        return self.text[at : at + self.random.randint(1, 60)]

    def spaces(self):
        r = self.random
        few = r.choice([" ", " \n", "\r\n", " \t", SPACES])
        return "".join(r.choice(few) for _ in range(r.randint(1, 9)))

    def contraction(self):
        return self.random.choice(["I", "don", "WE", "", "\u00e9", "1", " "]) + self.random.choice(CONTRACTIONS)

    def emoji(self):
        return "".join(self.random.choice(EMOJI) for _ in range(self.random.randint(1, 4)))

    def code(self):
        return self.random.choice(CODE)

    def digits(self):
        r = self.random
        base = r.choice(DIGITS)
        text = "".join(chr(base + r.randrange(10)) for _ in range(r.randint(1, 9)))
        return text + (chr(r.choice(NUMBERS)) if r.random() < 0.3 else "")

    def word(self):
        low, high = self.random.choice(LETTERS)
        return "".join(chr(self.random.randint(low, high)) for _ in range(self.random.randint(1, 8)))

    def marks(self):
        return "".join(self.pick(LETTERS + COMPOSED) + self.some(MARKS, 4) for _ in range(self.random.randint(1, 3)))

    def hangul(self):
        return self.some(JAMO, 6)

    def composed(self):
        return self.some(COMPOSED, 4)

    def new(self):
        return self.some(NEW, 4)

    def anything(self):
        text = "".join(chr(self.random.randrange(0x110000)) for _ in range(self.random.randint(1, 6)))
        return "".join(c for c in text if not 0xD800 <= ord(c) < 0xE000)

    def plane(self):
        return self.some([(0x80, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x1FFFF)], 4)

    def token(self):
        r = self.random
        token = r.choice(self.special)
        if r.random() < 0.2:
            token = token[: r.randrange(len(token) + 1)]
        return r.choice(["", "", " ", "a", "  \n", "\u3000", "_", "\u0301"]) + token + r.choice(["", "", " ", "b", "\n\n", "\u00e9"])

    def broken(self):
        r = self.random
        if r.random() < 0.4:
            return bytes(r.choice([r.randrange(256), r.randrange(0x80, 0x100)]) for _ in range(r.randint(1, 6)))
        data = bytearray((self.word() + self.emoji()).encode())
        del data[r.randrange(len(data))]
        if data:
            data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        return bytes(data)

    def repeat(self):
        r = self.random
        most = 400 if r.random() < 0.05 else 20
        return r.choice(["a", "ab", "=", " ", "\n", "\u00e9", "\u4e00", "0", "\u0301", "-_", "the "]) * r.randint(2, most)

    def ascii(self):
        return "".join(chr(self.random.randrange(128)) for _ in range(self.random.randint(1, 8)))

    def next(self):
        joined = b""
        for _ in range(self.random.choice([1, 2, 2, 3, 3, 4])):
            fragment = self.random.choice(self.kinds)()
            joined += fragment if isinstance(fragment, bytes) else fragment.encode()
        return joined
