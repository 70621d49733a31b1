// SPDX-License-Identifier: GPL-2.0-only
/*
 * A bare UDP server: recvfrom, then sendto the same bytes to whom it came from, marked as a DNS answer. `udp_echo ADDRESS PORT
 * restored|not`. On SIGTERM it says `right wrong missing failed`: for whom it took those who asked.
 *
 * A storm's datagram says which LIP:lport it came from, so that its client is known. Of another program's the client that was
 * seen has to be the one of its own lport, which is part of its address.
 */
#include <errno.h>
#include <sys/socket.h>
#include "bench.h"
#include "storm.h"

#define QUESTION_OR_ANSWER 2 /* the byte of a DNS message whose highest bit is set in answers */
#define DNSPERF_LIP 0x0a5a0001 /* 10.90.0.1 */
#define BUFFER (8 << 20)

static int open_socket(const struct sockaddr_in *at)
{
	int socket_ = socket(AF_INET, SOCK_DGRAM, 0), size = BUFFER;
	struct timeval patience = { .tv_sec = 1 }; /* a signal that comes just before recvfrom is seen all the same */

	setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(socket_, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (bind(socket_, (const void *)at, sizeof(*at)))
		err(1, "bind");
	return socket_;
}

/* LIP:lport behind a client, as far as its address tells; all LIPs that dnsperf uses are one. */
static struct sockaddr_in local_of(const struct sockaddr_in *seen)
{
	struct sockaddr_in local = *seen;

	local.sin_addr.s_addr = htonl(DNSPERF_LIP);
	if ((ntohl(seen->sin_addr.s_addr) & ~(LIP_BITS << 16 | 0xffff)) == CLIENTS)
		local.sin_port = htons(ntohl(seen->sin_addr.s_addr) & 0xffff);
	return local;
}

int main(int argc, char **argv)
{
	struct judged judged = {};
	struct sockaddr_in at;
	bool is_restored;
	int socket;

	if (argc != 4)
		errx(2, "usage: udp_echo ADDRESS PORT restored|not");
	at = end_of(argv[1], argv[2]);
	is_restored = !strcmp(argv[3], "restored");
	end_on_sigterm();
	socket = open_socket(&at);
	say_ready();
	while (!is_over) {
		struct sockaddr_in seen, local;
		socklen_t size = sizeof(seen);
		struct datagram datagram;
		ssize_t length = recvfrom(socket, &datagram, sizeof(datagram), 0, (void *)&seen, &size);

		if (length < 0)
			continue;
		local = is_of_storm(&datagram, length) ? datagram.local : local_of(&seen);
		judge(&judged, &seen, &local, is_restored);
		datagram.bytes[QUESTION_OR_ANSWER] |= 0x80;
		sendto(socket, &datagram, length, 0, (void *)&seen, size);
	}
	printf("%lu %lu %lu 0\n", judged.right, judged.wrong, judged.missing);
	return 0;
}
