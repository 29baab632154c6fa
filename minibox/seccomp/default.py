# SPDX-License-Identifier: Apache-2.0
"""The default profile: what a container's programs need, less what reaches beyond the container.

It keeps away what docker's default profile keeps away: that gives EPERM. What is newer than all
that is named here and known to libseccomp gives ENOSYS, as in a kernel that lacks it, so that
programs use what came before. Pure data, but for the few lines that put it together.
"""

from __future__ import annotations

from minibox.seccomp.rules import ALLOW, EAFNOSUPPORT, ENOSYS, EPERM, Profile, Rule, low

ALLOWED = """
_llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64
arm_sync_file_range bind breakpoint brk cacheflush cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl
fcntl64 fdatasync fgetxattr file_getattr file_setattr flistxattr flock fork fremovexattr fsetxattr
fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue
futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu
getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
lgetxattr link linkat listen listxattr listxattrat llistxattr lremovexattr lseek lsetxattr
lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat
mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open
mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal
msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect
poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl
semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
set_robust_list set_thread_area set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32
setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid
setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
sigreturn socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync
sync_file_range sync_file_range2 syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
vmsplice wait4 waitid waitpid write writev
"""
# Only with the capability that the kernel asks for as well; a filter in front of it keeps a mistake
# in that check, or in what lies behind it, out of reach.
BY_CAPABILITY = {
    "BPF": "bpf",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "PERFMON": "perf_event_open",
    "SYSLOG": "syslog",
    "SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
        open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname
        setns statmount syslog umount umount2 unshare
    """,
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
}
# Whatever the container keeps: keys are not namespaced; io_uring and userfaultfd are where kernels
# are attacked; the rest is the host's business, or nobody's any more.
REFUSED = """
add_key keyctl request_key io_uring_enter io_uring_register io_uring_setup userfaultfd
kexec_file_load kexec_load swapoff swapon pivot_root nfsservctl _sysctl sysfs uselib ustat vm86
vm86old create_module get_kernel_syms query_module migrate_pages move_pages bdflush
pciconfig_iobase pciconfig_read pciconfig_write
"""
CLONE_NEW = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
AF_ALG, AF_VSOCK = 38, 40
# All families below 64 but these two, as (bits, mask); the kernel's last one is 45.
FAMILIES = (
    (0, 0xFFFFFFE0),  # 0 to 31
    (1, 0xFFFFFFC1),  # all that are odd
    (32, 0xFFFFFFFD),  # 32, 34
    (36, 0xFFFFFFF7),  # 36, 44
    (42, 0xFFFFFFFB),  # 42, 46
    (48, 0xFFFFFFF0),  # 48 to 63
)
# PER_LINUX, PER_LINUX32, the same with UNAME26, and the question.
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)

LET = (Rule(ALLOW),)
# libseccomp knows no order: rules about one call's arguments must not contradict each other, and
# one without conditions drives out all others.
BY_ARGUMENT = {
    # clone3's flags lie in memory, where no filter looks: without it libraries call clone.
    "clone": (Rule(ALLOW, (low(0, 0, CLONE_NEW),)),),
    "clone3": (Rule(ENOSYS),),
    # vsock reaches the hypervisor from any network namespace, AF_ALG the kernel's cryptography.
    "socket": tuple([Rule(ALLOW, (low(0, bits, mask),)) for bits, mask in FAMILIES]),
    # i386 hides socket's arguments behind a pointer, and libseccomp would let all of them pass;
    # there is a socket of its own since Linux 4.3.
    "socketcall": (Rule(ENOSYS),),
    "personality": tuple([Rule(ALLOW, (low(0, value),)) for value in PERSONALITIES]),
}
# What a kernel without them says. Not to 32-bit programs, which get EPERM: the same rule would be
# about i386's socketcall, too, where libseccomp lets the arguments go and sees a contradiction.
OWN = {
    "socket": tuple([Rule(EAFNOSUPPORT, (low(0, family),)) for family in (AF_ALG, AF_VSOCK)]),
}


def profile(capabilities: tuple[str, ...], abis: tuple[str, ...]) -> Profile:
    """The default for a container that keeps these capabilities (names without CAP_)."""
    guarded = [name for names in BY_CAPABILITY.values() for name in names.split()]
    given = [name for kept in capabilities for name in BY_CAPABILITY.get(kept, "").split()]
    rules: dict[str, tuple[Rule, ...]] = dict.fromkeys(ALLOWED.split(), LET)
    rules |= dict.fromkeys((*guarded, *REFUSED.split()), ())
    rules |= BY_ARGUMENT | dict.fromkeys(given, LET)
    return Profile(EPERM, rules, abis, OWN)
