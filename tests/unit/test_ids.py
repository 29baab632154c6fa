# SPDX-License-Identifier: Apache-2.0
"""Users and ids that files hand out, which may be any."""

import pytest

from minibox.resources import accounts, idmap


@pytest.mark.parametrize(
    "rows", [[(0, 10)], [(990, 30)], [(1000, 5), (2000, 5)], [(996, 5)], [(1000, 1)]]
)
@pytest.mark.parametrize("inside", [0, 1000])
def test_the_callers_own_id_is_mapped_once(rows, inside):
    """subuid(5) may give a user his own id; the kernel takes no map that has one twice."""
    found = idmap.around(inside, 1000, rows)
    outside = [id_ for row in found for id_ in range(row.host_id, row.host_id + row.size)]
    within = [id_ for row in found for id_ in range(row.container_id, row.container_id + row.size)]
    assert len(set(outside)) == len(outside) and len(set(within)) == len(within)
    given = {id_ for first, count in rows for id_ in range(first, first + count)}
    assert set(outside) == given | {1000}
    assert all(row.size > 0 for row in found)
    assert any(
        row.container_id <= inside < row.container_id + row.size and row.host_id == 1000
        for row in found
    )


def test_a_home_with_a_nul_byte_is_none(monkeypatch):
    files = {b"/etc/passwd": b"bob:x:5:6::/\0home:/bin/sh\n", b"/etc/group": b""}
    monkeypatch.setattr(accounts.tree, "read", lambda _root, path, *_: files[path])
    assert accounts.look_up(b"/", b"bob")[1] == b"/"
