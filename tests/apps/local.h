// SPDX-License-Identifier: GPL-2.0-only
/* A socket bound to the address that the command line names. */
#pragma once
#include <err.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct local {
	const char *address;
	const char *port;
	bool v6only;
	bool reuseaddr;
	bool reuseport;
};

static void set_option(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)))
		err(1, "setsockopt %d %d", level, option);
}

/* `type` is SOCK_STREAM or SOCK_DGRAM. */
static int open_bound(const struct local *local, int type)
{
	struct addrinfo hints = { .ai_socktype = type, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *info;
	int fd, error;

	error = getaddrinfo(local->address, local->port, &hints, &info);
	if (error)
		errx(2, "%s %s: %s", local->address, local->port, gai_strerror(error));
	fd = socket(info->ai_family, type, 0);
	if (fd < 0)
		err(1, "socket");
	if (local->reuseaddr)
		set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (local->reuseport)
		set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (info->ai_family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, local->v6only);
	if (bind(fd, info->ai_addr, info->ai_addrlen))
		err(1, "%s %s", local->address, local->port);
	freeaddrinfo(info);
	return fd;
}

static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}
