# SPDX-License-Identifier: Apache-2.0
"""A Vagrant box made of Debian's packages, without a loop device and without a boot loader: the
kernel and its initramfs lie beside the disk. It is kept by the hash of its recipe."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from steps import output, run, step

RECIPE = Path(__file__).parent / "recipe"
SUITE, PYTHON = "bookworm", "3.11"
DISK = "6G"
BUILD = ("setuptools>=77", "wheel")  # where the wheel has to be built inside
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minibox/vm"
# What wheels and QEMU call it, its serial line, what libvirt has to know.
ARCHITECTURES = {
    "amd64": ("x86_64", "ttyS0", ()),
    "arm64": (
        "aarch64",
        "ttyAMA0",
        ('machine_arch = "aarch64"', 'machine_type = "virt"', "features = []",
         'input type: "keyboard", bus: "virtio"'),
    ),
}  # fmt: skip
CPU_MODELS = {"amd64": "Nehalem", "arm64": "cortex-a57"}
KERNEL = "root=/dev/vda rw console={} net.ifnames=0 mitigations=off quiet"

METADATA = '{"provider": "libvirt", "format": "qcow2", "virtual_size": 6}\n'
VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.ssh.insert_key = false
  config.ssh.private_key_path = File.expand_path("../key", __FILE__)
  config.vm.provider "libvirt" do |libvirt|
    libvirt.kernel = File.expand_path("../vmlinuz", __FILE__)
    libvirt.initrd = File.expand_path("../initrd", __FILE__)
    libvirt.cmd_line = "%s"
%s  end
end
"""


def requirements() -> list[str]:
    """What minibox and its tests import, as pyproject.toml says it."""
    asked = importlib.metadata.requires("minibox") or []
    wanted = [line for line in asked if "extra ==" not in line or 'extra == "test"' in line]
    return [line.partition(";")[0] if "extra" in line else line for line in wanted]


def our_arch() -> str:
    """What Debian calls the machine's."""
    return output(["dpkg", "--print-architecture"]).strip()


def digest(arch: str) -> str:
    """Names the box: another recipe is another one."""
    of = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(RECIPE.iterdir()):
        of.update(path.read_bytes())
    of.update("\n".join([arch, *requirements(), *BUILD]).encode())
    return of.hexdigest()[:12]


def box(arch: str = "amd64") -> Path:
    """A directory with minibox.box, and vmlinuz and initrd of it, made if need be."""
    made = CACHE / "boxes" / f"{SUITE}-{arch}-{digest(arch)}"
    if made.exists():
        return made
    making = made.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    log = making / "log"
    with step(f"box: Python's packages for {arch}"):
        _wheels(making, arch, log)
    with step(f"box: {SUITE} for {arch} from its packages"):
        _tree(making, arch, log)
    with step("box: its disk"):
        _disk(making, arch, log)
    for path in (making / "tree", making / "wheels"):
        shutil.rmtree(path)
    (making / "box.img").unlink()
    making.rename(made)
    for other in made.parent.glob(f"{SUITE}-{arch}-*"):
        if other != made:  # of another recipe
            shutil.rmtree(other)
    return made


def _wheels(making: Path, arch: str, log: Path) -> None:
    machine = ARCHITECTURES[arch][0]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    kinds = [f"--platform={kind}_{machine}" for kind in ("manylinux_2_28", "manylinux2014")]
    where = [*kinds, f"--python-version={PYTHON}", "--only-binary=:all:", "-d", making / "wheels"]
    run([*pip, *where, *requirements(), *BUILD], log, 300)


def _tree(making: Path, arch: str, log: Path) -> None:
    for name in ("furnish", "initramfs"):
        shutil.copy(RECIPE / name, making)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm", "-f", making / "key"], log, 60)
    lines = (RECIPE / "packages").read_text().replace("ARCH", arch).splitlines()
    names = ",".join(word for line in lines if line[:1] != "#" for word in line.split())
    without = [f"path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale")]
    words = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory"]
    words += [f"--architectures={arch}", f"--include={names}"]
    words += [f"--dpkgopt={option}" for option in (*without, "force-unsafe-io")]
    words += [f"--extract-hook={making}/initramfs", f"--customize-hook={making}/furnish"]
    if arch != our_arch():
        words = [sys.executable, str(Path(__file__).with_name("foreign.py")), *words]
    run([*words, SUITE, making / "tree"], log, 1800)


def _disk(making: Path, arch: str, log: Path) -> None:
    tree, raw = making / "tree", making / "raw"
    for name, path in (("vmlinuz", "vmlinuz"), ("initrd", "initrd.img")):
        shutil.copy((tree / path).resolve(), making / name)
    run(["truncate", "-s", DISK, raw], log, 10)
    lazy = "lazy_itable_init=1,lazy_journal_init=1"
    run(["mkfs.ext4", "-q", "-F", "-E", lazy, "-d", tree, raw], log, 300)
    run(["qemu-img", "convert", "-O", "qcow2", raw, making / "box.img"], log, 300)
    raw.unlink()
    (making / "metadata.json").write_text(METADATA)
    _, console, lines = ARCHITECTURES[arch]
    more = "".join(f"    libvirt.{line}\n" for line in lines)
    (making / "Vagrantfile").write_text(VAGRANTFILE % (KERNEL.format(console), more))
    names = ["metadata.json", "Vagrantfile", "key", "vmlinuz", "initrd", "box.img"]
    run(["tar", "-C", making, "-cSf", making / "minibox.box", *names], log, 300)


def has_kvm(made: Path) -> bool:
    """Whether the box's kernel comes as far as its initramfs under KVM, in 15 s. That /dev/kvm is
    there says little: inside another machine it may start and get nowhere."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    console = made / "console"
    words = ["qemu-system-x86_64", "-accel", "kvm", "-m", "512", "-nodefaults", "-no-user-config"]
    words += ["-display", "none", "-no-reboot", "-serial", f"file:{console}"]
    words += ["-kernel", made / "vmlinuz", "-initrd", made / "initrd"]
    words += ["-append", "console=ttyS0 panic=-1 break=top"]
    nowhere = subprocess.DEVNULL
    words = [str(word) for word in words]
    process = subprocess.Popen(words, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    try:
        deadline = time.monotonic() + 15
        while process.poll() is None and time.monotonic() < deadline:
            if console.exists() and b"initramfs" in console.read_bytes():
                return True
            time.sleep(0.2)
        return False
    finally:
        process.kill()
        process.wait()
        console.unlink(missing_ok=True)
