// SPDX-License-Identifier: GPL-2.0-only
/* A listening socket. */
#pragma once
#include "local.h"

#include <netinet/tcp.h>

#define DEFER_SECONDS 10

struct listening {
	struct local local;
	bool defer;
};

static int open_listener(const struct listening *how)
{
	int fd = open_bound(&how->local, SOCK_STREAM);

	if (how->defer)
		set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, DEFER_SECONDS);
	if (listen(fd, SOMAXCONN))
		err(1, "%s %s", how->local.address, how->local.port);
	return fd;
}
