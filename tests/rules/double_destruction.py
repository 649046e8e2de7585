"""Finds what gcc 12 and 13 destroy twice: a struct within a struct, made by braces (or left out),
behind which an initializer throws (docs/decisions.md, Compilers).

    python3 tests/rules/double_destruction.py [build/cpu/compile_commands.json [PATTERN]]

Compiles each file whose path matches PATTERN (two seconds a file), after it has seen that it knows the
mistake and its remedy, and reads the clean-ups in gcc's own first form of it: within the clean-up of
a member there must be none of that member's parts that is still armed. Prints what it finds as
FILE:LINE:COLUMN, member, part. Exit status 1 where there is any.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

PLACE = re.compile(r"\[([^\[\]\s]*:\d+:\d+)(?: discrim \d+)?\] ?")
SAMPLE = """#include <string>
struct Part { int number = 0; std::string a, b; };
struct Whole { Part part; std::string last; };
std::string Throws();
void Take(const Whole&);
void Wrong() { Take({.last = Throws()}); }
void AlsoWrong() { Take({.part = {.number = 1}, .last = Throws()}); }
void Right() { Take({.part = Part{}, .last = Throws()}); }
"""


class Region:
    def __init__(self, indent, line, place):
        self.kind, self.indent, self.line, self.place = "try", indent, line, place
        self.flag, self.own, self.inner = None, [], []


class Reader:
    """One dump; `found` has (place, member, part)."""

    def __init__(self, path):
        self.found = set()
        self.regions, self.names, self.flags = [], {}, {}
        place = ""
        with open(path, errors="replace") as dump:
            for number, line in enumerate(dump):
                place = (PLACE.findall(line) or [place])[-1]
                self.read(number, line, PLACE.sub("", line).strip(), place)

    def read(self, number, line, text, place):
        indent = len(line) - len(line.lstrip(" "))
        if text and indent == 0:
            if text == "{":
                self.regions, self.names, self.flags = [], {}, {}
        elif text == "try":
            self.regions.append(Region(indent, number, place))
        elif text in ("catch", "finally"):
            while self.regions and (self.regions[-1].indent, self.regions[-1].kind) != (indent, "try"):
                self.close()
            if self.regions:
                self.regions[-1].kind = text
        elif text:
            self.read_statement(number, text, indent, place)

    def read_statement(self, number, text, indent, place):
        while text not in "{}" and self.regions and indent <= self.regions[-1].indent:
            self.close()
        if named := re.match(r"([\w.]+) = (&.*|_\d+);$", text):
            self.names[named[1]] = self.whole_name(named[2])
        if armed := re.match(r"([\w.]+) = ([01]);$", text):
            self.flags.setdefault(armed[1], []).append((number, armed[2] == "1"))
        in_cleanup = self.regions and self.regions[-1].kind == "catch"
        if in_cleanup and (asked := re.match(r"if \(([\w.]+) != 0\)", text)):
            self.regions[-1].flag = asked[1]
        if in_cleanup and (destroyed := re.search(r"~\w+(?:<.*>)? \((.*)\);$", text)):
            self.regions[-1].own.append(self.whole_name(destroyed[1]))

    def whole_name(self, name):
        for _ in range(6):
            name = re.sub(r"(?<![\w.])_\d+(?!\w)", lambda m: f"({self.names.get(m[0], m[0])})", name)
        name = re.sub(r"\(+&([^()]*)\)+->", r"\1.", name.replace(" ", ""))
        return name.replace("->", ".").replace("(", "").replace(")", "").lstrip("&")

    def close(self):
        region = self.regions.pop()
        own = region.own if region.kind == "catch" else []
        for outer in own:
            for inner, line in region.inner:
                before = [value for at, value in self.flags.get(region.flag, []) if at < line]
                if before and not before[-1]:
                    continue
                if (inner + ".").startswith(outer + ".") or (outer + ".").startswith(inner + "."):
                    if inner != outer:
                        self.found.add((region.place, *sorted((inner, outer), key=len)))
        if self.regions and self.regions[-1].kind == "try":
            self.regions[-1].inner += [(name, region.line) for name in own] + region.inner


def look_at(command, folder):
    arguments = [a for a in shlex.split(command) if a not in ("-c", "-Werror") and "ccache" not in a]
    if "-o" in arguments:
        at = arguments.index("-o")
        del arguments[at:at + 2]
    with tempfile.TemporaryDirectory() as place:
        dump = os.path.join(place, "dump")
        more = ["-w", "-O0", "-S", "-o", "/dev/null", "-fdump-tree-gimple-lineno=" + dump]
        subprocess.run(arguments + more, cwd=folder, check=True)
        return Reader(dump).found


def main():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "sample.cpp"), "w") as sample:
            sample.write(SAMPLE)
        found = look_at("g++ -std=c++20 sample.cpp", folder)
    lines = {place.split(":")[1] for place, _, _ in found}
    if lines != {"6", "7"}:
        sys.exit(f"of the sample's lines 6 and 7 it finds {sorted(lines)}: not a gcc it knows")
    if len(sys.argv) == 1:
        return
    with open(sys.argv[1]) as commands:
        entries = {entry["file"]: entry for entry in json.load(commands)}
    found = set()
    for file, entry in sorted(entries.items()):
        if re.search(sys.argv[2] if len(sys.argv) > 2 else ".", file):
            for one in sorted(look_at(entry["command"], entry["directory"]) - found):
                print(*one, sep="  ", flush=True)
                found.add(one)
    sys.exit(1 if found else 0)


main()
