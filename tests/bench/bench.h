// SPDX-License-Identifier: GPL-2.0-only
/* What the bench's programs share: to die with a message, to read arguments, to judge an address, the time. */
#ifndef BENCH_H
#define BENCH_H

#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include "clients.h"

/* How many of the addresses that were seen are the client's, the director's where it should be the client, or anything else. */
struct judged {
	unsigned long right, wrong, missing;
};

static inline struct sockaddr_in end_of(const char *address, const char *port)
{
	struct sockaddr_in end = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };

	if (!inet_aton(address, &end.sin_addr))
		errx(2, "%s is not an IPv4 address", address);
	return end;
}

static inline bool is_same_end(const struct sockaddr_in *one, const struct sockaddr_in *other)
{
	return one->sin_addr.s_addr == other->sin_addr.s_addr && one->sin_port == other->sin_port;
}

/* Whom an application has to see behind LIP:lport. */
static inline struct sockaddr_in client_behind(const struct sockaddr_in *local)
{
	struct sockaddr_in client = { .sin_family = AF_INET };
	unsigned short lport = ntohs(local->sin_port);

	client.sin_addr.s_addr = htonl(client_address(ntohl(local->sin_addr.s_addr), lport));
	client.sin_port = htons(client_port(lport));
	return client;
}

/* Whether `seen` is as it should be for LIP:lport: the client where it is restored, LIP:lport where not. */
static inline void judge(struct judged *judged, const struct sockaddr_in *seen, const struct sockaddr_in *local,
			 bool is_restored)
{
	struct sockaddr_in client = client_behind(local);

	if (is_same_end(seen, is_restored ? &client : local))
		judged->right++;
	else if (is_restored && is_same_end(seen, local))
		judged->missing++;
	else
		judged->wrong++;
}

static inline unsigned long common_divisor(unsigned long one, unsigned long other)
{
	return other ? common_divisor(other, one % other) : one;
}

/*
 * The step by which `count` places are visited once each, in an order that no cache foresees: near the golden ratio, by which those
 * visited lately lie as far apart as can be.
 */
static inline unsigned long stride_of(unsigned long count)
{
	unsigned long stride = count * 0.618;

	while (common_divisor(stride, count) > 1)
		stride++;
	return stride;
}

static inline double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* Room for as many sockets as this process may have. */
static inline void allow_files(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		err(1, "room for %lu open files", (unsigned long)limit.rlim_max);
}

static volatile sig_atomic_t is_over; /* SIGTERM has come, where a program asked for that */

static inline void end(int signal)
{
	(void)signal;
	is_over = 1;
}

static inline void end_on_sigterm(void)
{
	struct sigaction action = { .sa_handler = end };

	sigaction(SIGTERM, &action, 0);
}

static inline void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

#endif
