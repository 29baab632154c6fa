# SPDX-License-Identifier: Apache-2.0
"""Inputs that are nearly right, and inputs that are not."""

from __future__ import annotations

import copy
import random

from hypothesis import strategies as st

PIECES = (
    "", "/", "//", ".", "..", ":", "::", ",", "=", "-", "--", "+", "%", "0", "1", "7", "64", "007", "-1",
    "99999999999999999999", "4294967295", "4294967296", "65535", "65536", "1e9", "1e400", "nan", "inf", "0x10",
    "1_000", "٣", "²", "½", "k", "m", "g", "t", "s", "ms", "ro", "rw", "noidmap", "size=", "mode=", "net", "pid",
    "/tmp", "/a/../b", "/proc", "10.0.0.1", "fd00::1", "/24", "[", "]", "{", "}", '"', "'", "\\", "#", "@", "*",
    " ", "\t", "\n", "\r", "\x1b[2J", "\0", "\udc80", "\udcff", "é", "\u2028", "🙂", "A", "NAME", "x" * 70,
    "9" * 5000, "unlimited", "default", "ALL", "none", "host",
)  # fmt: skip
NUMBERS = (
    0, 1, 2, -1, 7, 255, 4095, 4096, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1, 1 << 32,
    (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63), 10**30, 10**4000,
)  # fmt: skip

# All of ASCII, and of the rest one of each kind that some function takes for something else.
ALPHABET = (
    bytes(range(128)).decode() + "\x85\xa0éßİ٣²½Ⅷ一\u200b\u2028\u202e\ufeff\udc80\udcff\ue000🙂"
)

pieces = st.sampled_from(PIECES)
texts = st.lists(pieces | st.text(ALPHABET, max_size=6), max_size=6).map("".join)
# What a word of argv can be.
words = texts.map(lambda text: text.replace("\0", ""))
numbers = st.sampled_from(NUMBERS) | st.integers()
json_leaves = st.one_of(
    st.none(), st.booleans(), numbers, st.floats(), pieces, texts, st.sampled_from(["\ud800", ""])
)
json_values = st.recursive(
    json_leaves,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(texts, some, max_size=3),
    max_leaves=6,
)
binary = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([b"\0", b"\n", b":", b"=", b" ", b"9" * 5000, b"\xff"]),
    max_size=8,
).map(b"".join)


def bent(samples, odd=pieces, most=3):
    """One of the samples, most often with something put in, taken out, or cut off."""

    @st.composite
    def one(draw):
        text = draw(st.sampled_from(samples))
        for _ in range(draw(st.integers(0, most))):
            at = draw(st.integers(0, len(text)))
            end = min(len(text), at + draw(st.integers(0, 4)))
            text = text[:at] + draw(odd) + text[end:]
        return text

    return one()


def _places(value):
    """Where something can be put: (what holds it, by what)."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(inside):
        yield value, key
        if isinstance(one, (dict, list)) and one:
            yield from _places(one)


def near(sample, odd=json_values, most=3):
    """Plain data like `sample`, of which a few pieces are missing, or something else."""

    @st.composite
    def one(draw):
        found = copy.deepcopy(sample)
        for _ in range(draw(st.integers(0, most))):
            places = list(_places(found))
            if not places:
                break
            _change(draw, odd, *places[draw(st.integers(0, len(places) - 1))])
        return found

    return one()


def _change(draw, odd, holder, key):
    what = draw(st.integers(0, 9))
    if what < 7:
        holder[key] = copy.deepcopy(draw(odd))
    elif what < 9:
        del holder[key]
    elif isinstance(holder, dict):
        holder[draw(texts)] = copy.deepcopy(draw(odd))
    else:
        holder.append(copy.deepcopy(holder[key]))


# Much like what there is, at little cost.


def variant(value, rng: random.Random):
    """The same with one text or bytes, or the order of a list, changed."""
    if isinstance(value, str):
        # What argv and files hold is not more than bytes.
        return _spliced(value, rng.choice(PIECES), rng)
    if isinstance(value, bytes):
        return _spliced(value, rng.choice(PIECES).encode(errors="surrogateescape")[:40], rng)
    if isinstance(value, (list, tuple)) and value and not hasattr(value, "_fields"):
        items = list(value)
        at = rng.randrange(len(items))
        items[at] = variant(items[at], rng)
        return type(value)(items)
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return {**value, key: variant(value[key], rng)}
    return value


def _spliced(text, piece, rng):
    at, length = rng.randrange(len(text) + 1), rng.randrange(4)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + piece + text[at + length :]
    if kind == 1:
        return text[:at] + text[at + length :]
    other = rng.randrange(len(text) + 1)
    if kind == 2:
        return text[:at] + text[other : other + 8] + text[at:]
    return text[: max(at, other)] + text[min(at, other) :]
