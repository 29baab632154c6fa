# SPDX-License-Identifier: Apache-2.0
"""Names for containers that were given none: a word for how, a word for what."""

from __future__ import annotations

import os

HOW = (
    "agile amber ample apt bold brave brisk bright calm candid clear clever cosy crisp curious "
    "daring deft eager earnest easy fair fleet fond frank fresh gentle glad golden grand happy "
    "hardy honest humble jolly keen kind level lively loyal lucid lucky mellow merry mild "
    "modest neat nimble noble patient placid plucky polite proud quick quiet ready rosy serene "
    "silver sincere sleek smart snug sober solid spry steady still stout sunny swift tender "
    "tidy true upbeat vivid warm wise witty zesty"
)
WHAT = (
    "acorn alder anchor apple arrow aspen badger barley basin beacon beaver beech birch bobbin "
    "breeze brook button cabin candle canyon cedar chisel clover comet copper coral cricket "
    "crane delta dune eagle ember falcon fern finch fjord forge garnet gecko glacier hammer "
    "harbor hazel heron hollow ivy jasper kettle lantern lark linen lotus lynx maple marlin "
    "meadow mill mole moss nectar oak olive opal orchard otter owl pebble pepper pine plover "
    "poppy prairie quartz quill raven reed ridge robin saddle sage sparrow spruce thistle thyme "
    "timber trout tulip vale walnut willow wren yarrow"
)


def choose() -> str:
    """One of some two million."""
    how, what, number = os.urandom(2), os.urandom(2), os.urandom(1)
    return f"{_one(HOW, how)}_{_one(WHAT, what)}_{number.hex()}"


def _one(words: str, chance: bytes) -> str:
    all_ = words.split()
    return all_[int.from_bytes(chance, "little") % len(all_)]
