// SPDX-License-Identifier: GPL-2.0-only
/* One connection, from getpeername to close. */
#pragma once
#include "peer.h"

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
