// SPDX-License-Identifier: GPL-2.0-only
/*
 * A UDP server that answers each datagram with the address it was shown, and to that address; the calls are the mode.
 *
 *   udp_server MODE --address ADDRESS --port PORT [--v6only]
 *
 *   recvfrom  recvfrom, sendto
 *   recvmsg   recvmsg, sendmsg
 *   recvmmsg  recvmmsg and sendmmsg, up to BATCH datagrams at once
 *   peek      recvfrom with MSG_PEEK, then again without; sendto
 *   uring     recvmsg and sendmsg through io_uring
 *   gro       recvmsg with UDP_GRO: several datagrams of a client come as one, and each is answered; sendto
 *   segment   recvmsg; one sendmsg with UDP_SEGMENT sends the answer as SEGMENTS datagrams
 *   pktinfo   recvmsg with IP_PKTINFO or IPV6_RECVPKTINFO; sendmsg from the address to which the datagram came
 *   connect   recvfrom; another socket at the same address and port is connected to the client, sends the answer and
 *             receives (recvfrom) what follows
 *   read      connect to whoever comes first, then read and write; nobody else is served
 *
 * It writes "ready" to stdout once it is bound. A datagram is answered by one that says
 * "from=ADDRESS PORT[ FIELD=...] payload=PAYLOAD", "from=-" where the receiving call tells no address. The fields:
 *
 *   peek=ADDRESS PORT  what the call with MSG_PEEK returned
 *   peer=ADDRESS PORT  getpeername on the connected socket
 *   local=ADDRESS      the address to which the datagram came
 *   together=N         how many datagrams came with this one
 */
#define _GNU_SOURCE
#include "batches.h"
#include "connected.h"
#include "datagram.h"
#include "datagram_calls.h"
#include "local.h"
#include "ring.h"

#include <err.h>
#include <getopt.h>
#include <string.h>
#include <sys/socket.h>

struct mode {
	const char *name;
	receive_call *receive; /* with `answer`, for those that do one datagram after the other */
	answer_call *answer;
	void (*run)(const struct local *local, int fd); /* for the others */
	void (*prepare)(int fd);
	bool reuse;
};

static _Noreturn void run_one_by_one(const struct mode *mode, int fd)
{
	for (;;) {
		struct datagram datagram = { 0 };
		struct answer answer;
		ssize_t length = mode->receive(fd, &datagram);

		if (length < 0)
			err(1, "receive");
		datagram.length = length;
		compose(&answer, &datagram);
		if (mode->answer(fd, &datagram, &answer) < 0)
			warn("answer");
	}
}

static void prepare_ring(int fd)
{
	(void)fd;
	open_ring();
}

static void prepare_pktinfo(int fd)
{
	int family;
	socklen_t size = sizeof(family);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size))
		err(1, "SO_DOMAIN");
	if (family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	else
		set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
}

static const struct mode modes[] = {
	{ .name = "recvfrom", .receive = by_recvfrom, .answer = by_sendto },
	{ .name = "recvmsg", .receive = by_recvmsg, .answer = by_sendmsg },
	{ .name = "recvmmsg", .run = run_recvmmsg },
	{ .name = "peek", .receive = by_peek, .answer = by_sendto },
	{ .name = "uring", .prepare = prepare_ring, .receive = by_uring_recvmsg, .answer = by_uring_sendmsg },
	{ .name = "gro", .run = run_gro, .prepare = prepare_gro },
	{ .name = "segment", .receive = by_recvmsg, .answer = by_segments },
	{ .name = "pktinfo", .prepare = prepare_pktinfo, .receive = by_recvmsg_pktinfo, .answer = by_sendmsg_pktinfo },
	{ .name = "connect", .run = run_connect, .reuse = true },
	{ .name = "read", .run = run_read },
};

static const struct mode *find_mode(const char *name)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(modes[i].name, name))
			return &modes[i];
	errx(2, "no mode %s", name);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "address", required_argument, NULL, 'a' },
		{ "port", required_argument, NULL, 'p' },
		{ "v6only", no_argument, NULL, '6' },
		{ 0 },
	};
	struct local local = { 0 };
	const struct mode *mode;
	int option, fd;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'a': local.address = optarg; break;
		case 'p': local.port = optarg; break;
		case '6': local.v6only = true; break;
		default: return 2;
		}
	}
	if (optind != argc - 1 || !local.address || !local.port)
		errx(2, "usage: MODE --address ADDRESS --port PORT [--v6only]");
	mode = find_mode(argv[optind]);
	local.reuseaddr = local.reuseport = mode->reuse;
	fd = open_bound(&local, SOCK_DGRAM);
	if (mode->prepare)
		mode->prepare(fd);
	say_ready();
	if (mode->run)
		mode->run(&local, fd);
	run_one_by_one(mode, fd);
}
