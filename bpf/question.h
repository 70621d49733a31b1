/*
 * What the caller of getsockopt(2) has written into its buffer. A getsockopt hook is handed the option as the kernel answered it,
 * and zeros where the kernel refused: a question in it has to be read from the caller's memory. That takes Linux 5.15
 * (bpf_task_pt_regs), CAP_PERFMON, and a kernel that is not locked down for confidentiality. No map.
 */
#ifndef IPVSCA_QUESTION_H
#define IPVSCA_QUESTION_H

#include "types.h"

/* Where the kernel keeps a system call's number and arguments (struct pt_regs of asm/ptrace.h). */
#if defined(__x86_64__)
#define GETSOCKOPT 55
#define AT_NUMBER 120 /* orig_ax */
#define AT_LEVEL 104 /* si */
#define AT_OPTION 96 /* dx */
#define AT_BUFFER 56 /* r10 */
#elif defined(__aarch64__)
#define GETSOCKOPT 209
#define AT_NUMBER 280 /* syscallno */
#define AT_LEVEL 8 /* x1 */
#define AT_OPTION 16 /* x2 */
#define AT_BUFFER 24 /* x3 */
#else
#error "where are a system call's arguments on this architecture?" /* the loader goes on to LAST_DATAGRAM */
#endif

static __always_inline __u64 register_at(long registers, __u32 offset)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(registers + offset));
	return value;
}

/*
 * False where the current task is not in getsockopt(2) with this very option (io_uring, a 32-bit process: their arguments are
 * elsewhere), and where its buffer cannot be read.
 */
static __always_inline bool read_question(__u32 level, __u32 option, void *question, __u32 size)
{
	long registers = bpf_task_pt_regs(bpf_get_current_task_btf());

	return (__u32)register_at(registers, AT_NUMBER) == GETSOCKOPT &&
	       (__u32)register_at(registers, AT_LEVEL) == level && (__u32)register_at(registers, AT_OPTION) == option &&
	       !bpf_probe_read_user(question, size, (void *)register_at(registers, AT_BUFFER));
}

#endif
