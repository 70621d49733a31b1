// SPDX-License-Identifier: GPL-2.0-only
/* A datagram of the bench's own, which says where it comes from. */
#ifndef BENCH_STORM_H
#define BENCH_STORM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

#define MARK "ipvsca bench"
#define LONGEST 512

struct datagram {
	union {
		unsigned char bytes[LONGEST];
		struct {
			unsigned char dns_header[12]; /* all 0; a server marks answers in it */
			char mark[sizeof(MARK)];
			struct sockaddr_in local; /* LIP:lport */
		};
	};
};

#define DATAGRAM_LENGTH (offsetof(struct datagram, local) + sizeof(struct sockaddr_in))

static inline struct datagram datagram_from(const struct sockaddr_in *local)
{
	struct datagram datagram = { .mark = MARK, .local = *local };

	return datagram;
}

static inline bool is_of_storm(const struct datagram *datagram, ssize_t length)
{
	return length == DATAGRAM_LENGTH && !memcmp(datagram->mark, MARK, sizeof(MARK));
}

#endif
