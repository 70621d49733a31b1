// SPDX-License-Identifier: GPL-2.0-only
/*
 * A bare TCP server: accept, tell the peer whom it was taken for ("address port\n"), close. `accept_loop ADDRESS PORT`.
 *
 * `accept_loop ADDRESS PORT KEEP` keeps up to KEEP connections open instead, and for every byte on its standard input asks
 * getpeername about each of them once, in an order that no cache foresees, and says how many nanoseconds a call took.
 */
#include <sys/socket.h>
#include <poll.h>
#include <unistd.h>
#include "bench.h"

static int listen_on(const struct sockaddr_in *end)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int on = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (const void *)end, sizeof(*end)) || listen(listener, 65535))
		err(1, "listening");
	return listener;
}

/* One connection: accepted, and told whom it is taken for. */
static int serve(int listener)
{
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);
	int connection = accept4(listener, (void *)&peer, &size, SOCK_CLOEXEC);
	char text[INET_ADDRSTRLEN], answer[INET_ADDRSTRLEN + 8];
	int length;

	if (connection < 0)
		err(1, "accept");
	inet_ntop(AF_INET, &peer.sin_addr, text, sizeof(text));
	length = snprintf(answer, sizeof(answer), "%s %u\n", text, ntohs(peer.sin_port));
	send(connection, answer, length, MSG_NOSIGNAL);
	return connection;
}

static void ask_all(const int *connections, unsigned long count)
{
	unsigned long stride = stride_of(count);
	struct sockaddr_in peer;
	double began = now();

	for (unsigned long n = 0; n < count; n++) {
		socklen_t size = sizeof(peer);

		if (getpeername(connections[n * stride % count], (void *)&peer, &size))
			err(1, "getpeername");
	}
	printf("%.1f\n", (now() - began) / count * 1e9);
	fflush(stdout);
}

static void keep(int listener, unsigned long most)
{
	struct pollfd waiting[] = { { listener, POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };
	int *connections = calloc(most, sizeof(*connections));
	unsigned long count = 0;
	char request;

	allow_files();
	say_ready();
	for (;;) {
		poll(waiting, 2, -1);
		if (waiting[0].revents && count < most)
			connections[count++] = serve(listener);
		if (waiting[1].revents) {
			if (read(STDIN_FILENO, &request, 1) != 1)
				return;
			ask_all(connections, count);
		}
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in end;
	int listener;

	if (argc != 3 && argc != 4)
		errx(2, "usage: accept_loop ADDRESS PORT [KEEP]");
	end = end_of(argv[1], argv[2]);
	listener = listen_on(&end);
	if (argc == 4) {
		keep(listener, strtoul(argv[3], 0, 10));
		return 0;
	}
	say_ready();
	for (;;)
		close(serve(listener));
}
