# SPDX-License-Identifier: Apache-2.0
"""Record, the frozen class under all data."""

import pytest

from minibox.spec import NAMESPACES, Bind, Record, Root, Spec, Tmpfs


def test_a_record_is_frozen_and_compares_by_value():
    root = Root(b"/x", overlay=True)
    assert root == Root(b"/x", True) and hash(root) == hash(Root(b"/x", True))
    assert root != Root(b"/x") and root != Tmpfs(b"/x")
    with pytest.raises(AttributeError):
        root.path = b"/y"


def test_fields_come_in_order_and_are_inherited():
    assert Bind._fields[:3] == ("target", "source", "directory")
    assert repr(Root(b"/x")).startswith("Root(path=b'/x', overlay=False, readonly=False,")
    assert Root(b"/x").replace(size=b"1m").size == b"1m"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Root(),
        lambda: Root(b"/", path=b"/"),
        lambda: Root(b"/", nonsense=1),
        lambda: Record(1),
    ],
)
def test_wrong_fields_are_refused(make):
    with pytest.raises(TypeError):
        make()


def test_a_spec_can_be_a_key():
    assert len({Spec((b"a",), Root(b"/")), Spec((b"a",), Root(b"/"))}) == 1


def test_each_namespace_has_a_flag_of_its_own():
    assert len({namespace.flag for namespace in NAMESPACES}) == len(NAMESPACES) == 8
