// SPDX-License-Identifier: GPL-2.0-only
/* The ways to accept: each is called like accept and returns the address it was given, or that it did not ask. */
#pragma once
#include "peer.h"
#include "ring.h"

#include <sys/socket.h>

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

static int by_uring(int listener, struct peer *peer)
{
	peer->length = sizeof(peer->address);
	io_uring_prep_accept(io_uring_get_sqe(&ring), listener, (struct sockaddr *)&peer->address, &peer->length, 0);
	return ring_call();
}
