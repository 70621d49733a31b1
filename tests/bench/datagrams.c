// SPDX-License-Identifier: GPL-2.0-only
/*
 * UDP from many sockets to a server that sends everything back: `datagrams ADDRESS PORT LIP FIRST_LPORT FLOWS SECONDS`. Each
 * flow's datagram is sent once the one before is answered, some flows at a time. Says `answered lost seconds`, on SIGTERM too; an
 * answer that comes to another socket than its own is none.
 */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bench.h"
#include "storm.h"

#define UNDER_WAY 128
#define LOST_MS 5000 /* as busy as a machine may be */

struct flow {
	int socket;
	struct sockaddr_in local;
};

static struct sockaddr_in server;

static void open_flow(struct flow *flow, int poller, struct sockaddr_in local)
{
	struct epoll_event wanted = { .events = EPOLLIN, .data.ptr = flow };

	flow->local = local;
	flow->socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (flow->socket < 0 || bind(flow->socket, (void *)&local, sizeof(local)) ||
	    connect(flow->socket, (void *)&server, sizeof(server)))
		err(1, "a socket of port %u", ntohs(local.sin_port));
	epoll_ctl(poller, EPOLL_CTL_ADD, flow->socket, &wanted);
}

static void ask(const struct flow *flow)
{
	struct datagram datagram = datagram_from(&flow->local);

	send(flow->socket, &datagram, DATAGRAM_LENGTH, 0);
}

static bool is_answered(const struct flow *flow)
{
	struct datagram answer;

	return is_of_storm(&answer, recv(flow->socket, &answer, sizeof(answer), 0)) &&
	       is_same_end(&answer.local, &flow->local);
}

int main(int argc, char **argv)
{
	unsigned long flows, next = 0, answered = 0, lost = 0;
	int poller = epoll_create1(0);
	struct sockaddr_in local;
	double began, until;
	struct flow *all;

	if (argc != 7)
		errx(2, "usage: datagrams ADDRESS PORT LIP FIRST_LPORT FLOWS SECONDS");
	server = end_of(argv[1], argv[2]);
	local = end_of(argv[3], argv[4]);
	flows = strtoul(argv[5], 0, 10);
	allow_files();
	end_on_sigterm();
	all = calloc(flows, sizeof(*all));
	for (unsigned long n = 0; n < flows; n++) {
		open_flow(&all[n], poller, local);
		local.sin_port = htons(ntohs(local.sin_port) + 1);
	}
	began = now();
	until = began + atof(argv[6]);
	for (; next < UNDER_WAY; next++)
		ask(&all[next % flows]);
	while (!is_over && now() < until) {
		struct epoll_event events[UNDER_WAY];
		int count = epoll_wait(poller, events, UNDER_WAY, LOST_MS);

		if (!count) {
			lost += UNDER_WAY;
			for (int n = 0; n < UNDER_WAY; n++)
				ask(&all[next++ % flows]);
		}
		for (int n = 0; n < count; n++) {
			if (is_answered(events[n].data.ptr))
				answered++;
			else
				lost++;
			ask(&all[next++ % flows]);
		}
	}
	printf("%lu %lu %.4f\n", answered, lost, now() - began);
	return 0;
}
