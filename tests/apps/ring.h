// SPDX-License-Identifier: GPL-2.0-only
/* An io_uring that does one operation at a time. */
#pragma once
#include <err.h>
#include <errno.h>
#include <liburing.h>

static struct io_uring ring;

static void open_ring(void)
{
	errno = -io_uring_queue_init(1, &ring, 0);
	if (errno)
		err(1, "io_uring");
}

/* Does the operation that has been prepared. Returns its result, or -1 with errno, like a system call. */
static int ring_call(void)
{
	struct io_uring_cqe *done;
	int result = io_uring_submit_and_wait(&ring, 1);

	if (result >= 0)
		result = io_uring_wait_cqe(&ring, &done);
	if (result >= 0) {
		result = done->res;
		io_uring_cqe_seen(&ring, done);
	}
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}
