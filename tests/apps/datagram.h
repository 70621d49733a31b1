// SPDX-License-Identifier: GPL-2.0-only
/* A datagram with all that a receive told of it, and the answer to it. */
#pragma once
#include "peer.h"

#include <err.h>
#include <stdio.h>

#define PAYLOAD_MAX 2048

struct datagram {
	struct peer from; /* what the receive returned; length 0 where it does not tell */
	struct peer peeked; /* the same by MSG_PEEK */
	struct peer connected; /* getpeername */
	struct peer local; /* whereto it was sent, by its control message; without a port */
	unsigned together; /* how many datagrams came with one receive; 0 where there is only ever one */
	size_t length;
	char payload[PAYLOAD_MAX]; /* a longer one is cut */
};

struct answer {
	size_t length;
	char text[PAYLOAD_MAX + 512];
};

/* The payload comes last because anything may stand in it. */
static void compose(struct answer *answer, const struct datagram *datagram)
{
	FILE *out = fmemopen(answer->text, sizeof(answer->text), "w");

	if (!out)
		err(1, "fmemopen");
	fputs("from=", out);
	print_peer(out, &datagram->from);
	if (datagram->peeked.length) {
		fputs(" peek=", out);
		print_peer(out, &datagram->peeked);
	}
	if (datagram->connected.length) {
		fputs(" peer=", out);
		print_peer(out, &datagram->connected);
	}
	if (datagram->local.length) {
		fputs(" local=", out);
		print_address(out, &datagram->local);
	}
	if (datagram->together)
		fprintf(out, " together=%u", datagram->together);
	fputs(" payload=", out);
	fwrite(datagram->payload, 1, datagram->length, out);
	answer->length = ftell(out);
	fclose(out);
}
