// SPDX-License-Identifier: GPL-2.0-only
/*
 * A server that asks for its clients as programs written for DPVS's toa.ko and uoa.ko do, and tells each client what it heard.
 *
 *   dpvs_lookup MODE --address ADDRESS --port PORT [--v6only]
 *
 *   udp  recvfrom; getsockopt 2048 about the address that it gave, towards any address and towards the one that the socket is
 *        bound to; then about "ADDRESS PORT", where the datagram says that; sendto
 *   tcp  accept, a line from the client; getsockopt 4096
 *
 * It writes "ready" to stdout once it is bound. The answer is a line of JSON:
 *
 *   udp  {"from": "ADDRESS PORT", "any": ANSWER, "local": ANSWER, "named": ANSWER or null}
 *   tcp  {"from": "ADDRESS PORT", "nat64": ANSWER}
 *
 * ANSWER is {"errno": NUMBER, "length": LENGTH, "real": "ADDRESS PORT", "kept": BOOLEAN}; "real" is null where errno is not 0, and
 * "kept" says whether what was asked stands there as it was.
 */
#define _GNU_SOURCE
#include "listener.h"
#include "peer.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>

#define UOA_LOOKUP 2048
#define NAT64_PEER 4096

#define LINE_MAX_BYTES 512

union inet_address {
	struct in_addr v4;
	struct in6_addr v6;
};

struct uoa_lookup {
	uint16_t family;
	union inet_address saddr;
	union inet_address daddr;
	uint16_t sport;
	uint16_t dport;
	uint16_t real_family;
	union inet_address real_saddr;
	uint16_t real_sport;
} __attribute__((packed));

struct nat64_peer {
	struct in6_addr address;
	uint16_t port;
};

struct answer {
	int error;
	socklen_t length;
	struct peer real;
	bool is_kept;
};

static struct peer to_peer(int family, const void *address, uint16_t port)
{
	struct peer peer = { .address.ss_family = family };

	if (family == AF_INET6) {
		struct sockaddr_in6 *v6 = (void *)&peer.address;

		memcpy(&v6->sin6_addr, address, sizeof(v6->sin6_addr));
		v6->sin6_port = port;
		peer.length = sizeof(*v6);
	} else {
		struct sockaddr_in *v4 = (void *)&peer.address;

		memcpy(&v4->sin_addr, address, sizeof(v4->sin_addr));
		v4->sin_port = port;
		peer.length = sizeof(*v4);
	}
	return peer;
}

/* Into the form of the lookup, which has IPv4 in the first 4 bytes. Returns the port. */
static uint16_t from_peer(union inet_address *address, const struct peer *peer)
{
	const struct sockaddr_in6 *v6 = (const void *)&peer->address;
	const struct sockaddr_in *v4 = (const void *)&peer->address;

	memset(address, 0, sizeof(*address));
	if (peer->address.ss_family == AF_INET6) {
		address->v6 = v6->sin6_addr;
		return v6->sin6_port;
	}
	address->v4 = v4->sin_addr;
	return v4->sin_port;
}

/* `to` gives the port, and the address unless it is to be any. */
static struct answer look_up_uoa(int fd, const struct peer *from, const struct peer *to, bool to_any)
{
	struct uoa_lookup asked = { .family = from->address.ss_family }, lookup;
	struct answer answer = { .length = sizeof(lookup) };
	union inet_address saddr, daddr;

	asked.sport = from_peer(&saddr, from);
	asked.dport = from_peer(&daddr, to);
	memcpy(&asked.saddr, &saddr, sizeof(saddr));
	if (!to_any)
		memcpy(&asked.daddr, &daddr, sizeof(daddr));
	lookup = asked;
	if (getsockopt(fd, IPPROTO_IP, UOA_LOOKUP, &lookup, &answer.length)) {
		answer.error = errno;
	} else {
		union inet_address real;

		memcpy(&real, &lookup.real_saddr, sizeof(real));
		answer.real = to_peer(lookup.real_family, &real, lookup.real_sport);
	}
	answer.is_kept = !memcmp(&lookup, &asked, offsetof(struct uoa_lookup, real_family));
	return answer;
}

static struct answer look_up_nat64(int fd)
{
	struct nat64_peer peer;
	struct answer answer = { .length = sizeof(peer), .is_kept = true };

	if (getsockopt(fd, IPPROTO_IP, NAT64_PEER, &peer, &answer.length))
		answer.error = errno;
	else
		answer.real = to_peer(AF_INET6, &peer.address, peer.port);
	return answer;
}

static void print_quoted(FILE *out, const char *name, const struct peer *peer)
{
	fprintf(out, "\"%s\": \"", name);
	print_peer(out, peer);
	fputs("\"", out);
}

static void print_answer(FILE *out, const char *name, const struct answer *answer)
{
	fprintf(out, ", \"%s\": {\"errno\": %d, \"length\": %u, \"kept\": %s, ", name, answer->error, answer->length,
		answer->is_kept ? "true" : "false");
	if (answer->error)
		fputs("\"real\": null", out);
	else
		print_quoted(out, "real", &answer->real);
	fputs("}", out);
}

/* "ADDRESS PORT". False where a datagram says something else. */
static bool read_peer(const char *text, struct peer *peer)
{
	char address[INET6_ADDRSTRLEN];
	union inet_address binary;
	unsigned short port;
	int family;

	if (sscanf(text, "%45s %hu", address, &port) != 2)
		return false;
	family = strchr(address, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, address, &binary) != 1)
		return false;
	*peer = to_peer(family, &binary, htons(port));
	return true;
}

static _Noreturn void serve_udp(const struct listening *how)
{
	int fd = open_bound(&how->local, SOCK_DGRAM);
	struct peer local = { .length = sizeof(local.address) };

	if (getsockname(fd, (void *)&local.address, &local.length))
		err(1, "getsockname");
	say_ready();
	for (;;) {
		struct peer from = { .length = sizeof(from.address) }, named;
		char text[LINE_MAX_BYTES] = { 0 }, line[2 * LINE_MAX_BYTES];
		struct answer any, bound;
		FILE *out = fmemopen(line, sizeof(line), "w");

		if (!out)
			err(1, "fmemopen");
		if (recvfrom(fd, text, sizeof(text) - 1, 0, (void *)&from.address, &from.length) < 0)
			err(1, "recvfrom");
		any = look_up_uoa(fd, &from, &local, true);
		bound = look_up_uoa(fd, &from, &local, false);
		fputs("{", out);
		print_quoted(out, "from", &from);
		print_answer(out, "any", &any);
		print_answer(out, "local", &bound);
		if (read_peer(text, &named)) {
			struct answer answer = look_up_uoa(fd, &named, &local, true);

			print_answer(out, "named", &answer);
		} else {
			fputs(", \"named\": null", out);
		}
		fputs("}\n", out);
		fclose(out);
		if (sendto(fd, line, strlen(line), 0, (void *)&from.address, from.length) < 0)
			warn("sendto");
	}
}

static _Noreturn void serve_tcp(const struct listening *how)
{
	int listener = open_listener(how);

	signal(SIGPIPE, SIG_IGN);
	say_ready();
	for (;;) {
		struct peer from = { .length = sizeof(from.address) };
		int fd = accept(listener, (void *)&from.address, &from.length);
		struct answer answer;
		char text[LINE_MAX_BYTES];
		FILE *out;

		if (fd < 0)
			err(1, "accept");
		if (read(fd, text, sizeof(text)) > 0) {
			answer = look_up_nat64(fd);
			out = fdopen(dup(fd), "w");
			if (!out)
				err(1, "fdopen");
			fputs("{", out);
			print_quoted(out, "from", &from);
			print_answer(out, "nat64", &answer);
			fputs("}\n", out);
			fclose(out);
		}
		close(fd);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "address", required_argument, NULL, 'a' },
		{ "port", required_argument, NULL, 'p' },
		{ "v6only", no_argument, NULL, '6' },
		{ 0 },
	};
	struct listening how = { .local.reuseaddr = true };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'a': how.local.address = optarg; break;
		case 'p': how.local.port = optarg; break;
		case '6': how.local.v6only = true; break;
		default: return 2;
		}
	}
	if (optind == argc - 1 && how.local.address && how.local.port) {
		if (!strcmp(argv[optind], "udp"))
			serve_udp(&how);
		if (!strcmp(argv[optind], "tcp"))
			serve_tcp(&how);
	}
	errx(2, "usage: udp|tcp --address ADDRESS --port PORT [--v6only]");
}
