// SPDX-License-Identifier: GPL-2.0-only
/* An address as the kernel returned it, and as text. */
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

/* Length 0 where it was not asked. */
struct peer {
	struct sockaddr_storage address;
	socklen_t length;
};

/* ADDRESS, without the port. Returns the port in host byte order. */
static unsigned print_address(FILE *out, const struct peer *peer)
{
	const struct sockaddr_in6 *v6 = (const void *)&peer->address;
	const struct sockaddr_in *v4 = (const void *)&peer->address;
	bool is_v6 = peer->address.ss_family == AF_INET6;
	char text[INET6_ADDRSTRLEN];

	inet_ntop(peer->address.ss_family, is_v6 ? (const void *)&v6->sin6_addr : &v4->sin_addr, text, sizeof(text));
	fputs(text, out);
	return ntohs(is_v6 ? v6->sin6_port : v4->sin_port);
}

/* ADDRESS PORT, or "-" where it was not asked. */
static void print_peer(FILE *out, const struct peer *peer)
{
	if (peer->length)
		fprintf(out, " %u", print_address(out, peer));
	else
		fputs("-", out);
}
