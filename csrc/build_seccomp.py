# SPDX-License-Identifier: Apache-2.0
"""Recipe of minibox._seccomp: what is called of libseccomp (seccomp.h), by cffi in out-of-line ABI
mode. Nothing is compiled or linked: the library is opened by name when it is needed."""

from cffi import FFI

ffi = FFI()
ffi.cdef("""
typedef void *scmp_filter_ctx;
struct scmp_version { unsigned int major, minor, micro; };
struct scmp_arg_cmp { unsigned int arg; unsigned int op; uint64_t datum_a, datum_b; };

const struct scmp_version *seccomp_version(void);
scmp_filter_ctx seccomp_init(uint32_t def_action);
void seccomp_release(scmp_filter_ctx ctx);
int seccomp_attr_set(scmp_filter_ctx ctx, unsigned int attr, uint32_t value);
uint32_t seccomp_arch_native(void);
int seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch_token);
int seccomp_arch_remove(scmp_filter_ctx ctx, uint32_t arch_token);
int seccomp_syscall_resolve_name_arch(uint32_t arch_token, const char *name);
int seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int syscall,
                           unsigned int arg_cnt, const struct scmp_arg_cmp *arg_array);
int seccomp_export_bpf(const scmp_filter_ctx ctx, int fd);
""")
ffi.set_source("minibox._seccomp", None)
