// SPDX-License-Identifier: GPL-2.0-only
/* A listening socket. */
#pragma once
#include <err.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>

#define DEFER_SECONDS 10

struct listening {
	const char *address;
	const char *port;
	bool v6only;
	bool reuseport;
	bool defer;
};

static void set_option(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)))
		err(1, "setsockopt %d %d", level, option);
}

static int open_listener(const struct listening *how)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *local;
	int fd, error;

	error = getaddrinfo(how->address, how->port, &hints, &local);
	if (error)
		errx(2, "%s %s: %s", how->address, how->port, gai_strerror(error));
	fd = socket(local->ai_family, SOCK_STREAM, 0);
	if (fd < 0)
		err(1, "socket");
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (local->ai_family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, how->v6only);
	if (how->reuseport)
		set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (how->defer)
		set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, DEFER_SECONDS);
	if (bind(fd, local->ai_addr, local->ai_addrlen) || listen(fd, SOMAXCONN))
		err(1, "%s %s", how->address, how->port);
	freeaddrinfo(local);
	return fd;
}
