# SPDX-License-Identifier: Apache-2.0
"""Every probe in every mode: a container lets nothing out and nobody look in.

A line that says FAIL is a way out of the container, or a sight of the host that it must not have.
"""

from __future__ import annotations

import os
import subprocess

import pytest

# Written down, so that a probe that gets lost is noticed: `probe --list`.
PROBES = {
    "kernel.c": """
        proc_sys core_pattern helper_programs binfmt_misc sysrq_trigger proc_files
        proc_irq proc_bus proc_fs proc_driver proc_kcore kernel_log proc_keys proc_timers
        proc_scsi proc_firmware powercap kernel_file_systems sys_kernel sys_module
        sys_power sys_devices cgroup_files release_agent cgroup_mkdir cgroup_path
        core_limit own_maps
    """,
    "mounts.c": """
        mount_proc mount_sysfs mount_cgroup mount_cgroup2 mount_tmpfs mount_others
        mount_bind umount remount mount_setattr mount_propagation mount_new_calls
        pivot_root mount_peers read_only_volume mount_flags
    """,
    "files.c": """
        host_files dotdot chroot_up file_handles own_handle kernel_handles namespace_relatives open_fds
        working_directory magic_links links
    """,
    "device.c": """
        dev_nodes dev_names dev_attributes mknod_characters mknod_blocks image_nodes
        volume_nodes terminals own_session tiocsti tioclinux
    """,
    "process.c": """
        processes signal_outside signal_everybody pid_numbers memory_outside
        pidfds_outside scheduling_outside environment priority limits oom_score
        runtimes_processes signals_and_umask
    """,
    "rights.c": """
        capabilities inheritable_capabilities more_capabilities no_new_privileges seccomp
        securebits own_set_uid_file shipped_set_uid_files file_capabilities groups ids
        personality
    """,
    "calls.c": """
        unshare clone clone3 setns clocks keyrings host_name bpf perf_event_open
        userfaultfd io_uring_setup io_uring_enter io_uring_register kexec_load
        kexec_file_load init_module finit_module delete_module reboot swapon swapoff acct
        quotactl syslog vhangup fanotify_init lookup_dcookie listns newest_calls
        no_such_call iopl ioperm int80 x32
    """,
    "network.c": """
        interfaces packet_sockets interface_flags host_port abstract_socket vsock alg
        audit posix_memory system_v message_queues names
    """,
}
NAMES = tuple(name for names in PROBES.values() for name in names.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_finds_no_way(report, name):
    line = report.lines.get(name, "the probe did not run")
    assert line.startswith("PASS "), line


def test_all_of_them_ran(report):
    assert tuple(report.lines) == NAMES
    assert report.others == []


def test_nobody_outside_was_signalled(report):
    assert report.signals == 0


def test_nothing_was_left_behind(report):
    assert not report.changed


def test_the_probes_are_these(site):
    listed = subprocess.run([site.observer.root / "probe", "--list"], capture_output=True)
    lines = os.fsdecode(listed.stdout).splitlines()
    assert tuple(line.partition(":")[0] for line in lines) == NAMES
    assert len(set(NAMES)) == len(NAMES)
    assert all(line.partition(": ")[2] for line in lines)


# A probe that finds nothing proves something only where it would find it: options that open what
# a probe looks for -> the probes that must say so. Nothing comes of it, see probe.h.
OPEN = {
    "--cap-add ALL": """
        mount_tmpfs mount_bind mount_others mount_proc umount remount mount_setattr
        mount_propagation mount_new_calls read_only_volume capabilities setns interface_flags
        host_name
    """,
    "--cap-add ALL --security-opt seccomp=unconfined": "pivot_root",
    "--security-opt seccomp=unconfined": """
        seccomp personality unshare clone clone3 keyrings quotactl vsock alg
    """,
    "--security-opt unmask=ALL": "proc_sys proc_keys proc_firmware",
    "--security-opt unmask=ALL --userns host": "core_pattern helper_programs proc_irq proc_bus",
    "--security-opt no-new-privileges=false --security-opt seccomp=unconfined": """
        no_new_privileges shipped_set_uid_files
    """,
    "--ulimit core=-1": "core_limit",
    "--share pid": "processes signal_outside",
    "--share ipc": "posix_memory system_v message_queues",
    "--share uts": "names",
    "--net host": "interfaces host_port abstract_socket",
    "--net host --userns host": "packet_sockets",
    "--userns host": "ids",
    "-e SECRET": "environment",
    "-v CANARY:CANARY": "host_files dotdot magic_links links",
}


@pytest.mark.parametrize(
    ("options", "name"),
    [(options, name) for options, names in OPEN.items() for name in names.split()],
)
def test_a_probe_finds_what_is_there(site, options, name):
    words = options.replace("CANARY", str(site.observer.canary)).split()
    text = site.run(*words, only=name)
    assert text.startswith(f"FAIL {name}: "), text
