// SPDX-License-Identifier: GPL-2.0-only
/* The ways to accept: each is called like accept and returns the address it was given, or that it did not ask. */
#pragma once
#include <errno.h>
#include <liburing.h>
#include <sys/socket.h>

/* An address as the kernel returned it; length 0 where it was not asked. */
struct peer {
	struct sockaddr_storage address;
	socklen_t length;
};

/* Returns the connection or -1 with errno, like accept. */
typedef int accept_call(int listener, struct peer *peer);

static int by_accept(int listener, struct peer *peer)
{
	peer->length = sizeof(peer->address);
	return accept(listener, (struct sockaddr *)&peer->address, &peer->length);
}

static int by_accept4(int listener, struct peer *peer)
{
	peer->length = sizeof(peer->address);
	return accept4(listener, (struct sockaddr *)&peer->address, &peer->length, SOCK_CLOEXEC);
}

static int by_null_accept(int listener, struct peer *peer)
{
	peer->length = 0;
	return accept(listener, NULL, NULL);
}

static struct io_uring ring;

static int by_uring(int listener, struct peer *peer)
{
	struct io_uring_cqe *done;
	int result;

	peer->length = sizeof(peer->address);
	io_uring_prep_accept(io_uring_get_sqe(&ring), listener, (struct sockaddr *)&peer->address, &peer->length, 0);
	result = io_uring_submit_and_wait(&ring, 1);
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
