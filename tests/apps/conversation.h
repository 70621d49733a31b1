// SPDX-License-Identifier: GPL-2.0-only
/* One connection, from getpeername to close. */
#pragma once
#include "accept_calls.h"

#include <arpa/inet.h>
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct connection {
	int fd;
	struct peer accepted;
};

static void print_peer(FILE *out, const struct peer *peer)
{
	const struct sockaddr_in6 *v6 = (const void *)&peer->address;
	const struct sockaddr_in *v4 = (const void *)&peer->address;
	bool is_v6 = peer->address.ss_family == AF_INET6;
	char text[INET6_ADDRSTRLEN];

	if (!peer->length) {
		fputs("-", out);
		return;
	}
	inet_ntop(peer->address.ss_family, is_v6 ? (const void *)&v6->sin6_addr : &v4->sin_addr, text, sizeof(text));
	fprintf(out, "%s %u", text, ntohs(is_v6 ? v6->sin6_port : v4->sin_port));
}

static void answer(int fd, const struct peer *accepted, const struct peer *named)
{
	char line[256] = "";
	FILE *out = fmemopen(line, sizeof(line), "w");

	if (!out)
		err(1, "fmemopen");
	fputs("accept=", out);
	print_peer(out, accepted);
	fputs(" getpeername=", out);
	print_peer(out, named);
	fputs("\n", out);
	fclose(out);
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		warn("send");
}

static bool received_line(int fd)
{
	char text[256];
	ssize_t length;

	while ((length = read(fd, text, sizeof(text))) > 0)
		if (memchr(text, '\n', length))
			return true;
	return false;
}

/* getpeername comes before the client's line, as early as a real server would call it. */
static void converse(const struct connection *connection)
{
	struct peer named = { .length = sizeof(named.address) };

	if (getpeername(connection->fd, (struct sockaddr *)&named.address, &named.length))
		warn("getpeername");
	else if (received_line(connection->fd))
		answer(connection->fd, &connection->accepted, &named);
	close(connection->fd);
}

static void *converse_in_thread(void *connection)
{
	converse(connection);
	free(connection);
	return NULL;
}
