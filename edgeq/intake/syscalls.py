"""A machine's name -> the numbers of its system calls that the sandbox speaks of.

From Linux: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. From 424
on, a call has the same number everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h, little-endian
FIRST_X32_NUMBER = 0x4000_0000  # calls of x86-64's second ABI come under the same architecture

_NUMBERS = """
accept 43 202, accept4 288 242, acct 163 89, add_key 248 217, adjtimex 159 171, bind 49 200,
bpf 321 280, brk 12 214, capset 126 91, chroot 161 51, clock_adjtime 305 266,
clock_getres 229 114, clock_gettime 228 113, clock_nanosleep 230 115, clock_settime 227 112,
clone 56 220, clone3 435 435, close 3 57, connect 42 203, creat 85 -, delete_module 176 106,
execve 59 221, execveat 322 281, exit 60 93, exit_group 231 94, fanotify_init 300 262,
finit_module 313 273, fork 57 -, fsconfig 431 431, fsmount 432 432, fsopen 430 430,
fspick 433 433, futex 202 98, getcpu 309 168, getpid 39 172, getrandom 318 278, getrlimit 97 163,
getrusage 98 165, gettid 186 178, gettimeofday 96 169, init_module 175 105,
io_uring_enter 426 426, io_uring_register 427 427, io_uring_setup 425 425, ioperm 173 -,
iopl 172 -, kcmp 312 272, kexec_file_load 320 294, kexec_load 246 104, keyctl 250 219,
kill 62 129, listen 50 201, madvise 28 233, mmap 9 222, modify_ldt 154 -,
mount 165 40, mount_setattr 442 442, move_mount 429 429, mprotect 10 226, mremap 25 216,
munmap 11 215, name_to_handle_at 303 264, nanosleep 35 101, open 2 -, open_by_handle_at 304 265,
open_tree 428 428, openat 257 56, openat2 437 437, perf_event_open 298 241, personality 135 92,
pidfd_getfd 438 438, pidfd_open 434 434, pidfd_send_signal 424 424, pivot_root 155 41,
pread64 17 67, prlimit64 302 261, process_madvise 440 440, process_mrelease 448 448,
process_vm_readv 310 270, process_vm_writev 311 271, ptrace 101 117, quotactl 179 60, read 0 63,
reboot 169 142, recvfrom 45 207, recvmsg 47 212, request_key 249 218,
restart_syscall 219 128, rseq 334 293, rt_sigaction 13 134, rt_sigprocmask 14 135,
rt_sigqueueinfo 129 138, rt_sigreturn 15 139, rt_tgsigqueueinfo 297 240,
sched_getaffinity 204 123, sched_yield 24 124, sendmmsg 307 269, sendmsg 46 211, sendto 44 206,
set_robust_list 273 99, setdomainname 171 162, setfsgid 123 152, setfsuid 122 151, setgid 106 144,
setgroups 116 159, sethostname 170 161, setns 308 268, setregid 114 143, setresgid 119 149,
setresuid 117 147, setreuid 113 145, settimeofday 164 170, setuid 105 146, sigaltstack 131 132,
socket 41 198, socketpair 53 199, swapoff 168 225, swapon 167 224, sysinfo 99 179,
syslog 103 116, tgkill 234 131, time 201 -, tkill 200 130, umount2 166 39, uname 63 160,
unshare 272 97, userfaultfd 323 282, vfork 58 -, write 1 64, writev 20 66
"""


@dataclass(frozen=True)
class Architecture:
    """What a filter must know of a machine."""

    name: str
    audit: int  # what the kernel calls it when it asks a filter
    numbers: Mapping[str, int]  # call -> its number; those the machine does not have are left out


@functools.lru_cache(maxsize=4)
def architecture(machine: str) -> Architecture | None:
    """Return the numbers of a machine as `uname -m` names it; None where they are not known."""
    if machine not in AUDIT_ARCHITECTURES:
        return None
    column = 1 + list(AUDIT_ARCHITECTURES).index(machine)
    rows = [row.split() for row in _NUMBERS.split(",")]
    numbers = {row[0]: int(row[column]) for row in rows if row[column] != "-"}
    return Architecture(machine, AUDIT_ARCHITECTURES[machine], numbers)
