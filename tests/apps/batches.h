// SPDX-License-Identifier: GPL-2.0-only
/* Several datagrams at once: of many clients by recvmmsg, of one client by GRO. */
#pragma once
#include "datagram.h"
#include "datagram_calls.h"
#include "local.h"
#include "message.h"

#include <err.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH 16
#define COALESCED_MAX 65536

static unsigned receive_batch(int fd, struct datagram *datagrams)
{
	struct mmsghdr headers[BATCH] = { 0 };
	struct message messages[BATCH];
	int count;

	memset(datagrams, 0, BATCH * sizeof(*datagrams));
	for (int i = 0; i < BATCH; i++) {
		describe_receive(&messages[i], &datagrams[i]);
		headers[i].msg_hdr = messages[i].header;
	}
	count = recvmmsg(fd, headers, BATCH, MSG_WAITFORONE, NULL);
	if (count < 0)
		err(1, "recvmmsg");
	for (int i = 0; i < count; i++) {
		datagrams[i].from.length = headers[i].msg_hdr.msg_namelen;
		datagrams[i].length = headers[i].msg_len;
		datagrams[i].together = count;
	}
	return count;
}

/* A message that cannot be sent ends the call before it, or fails it where it is the first: it is left out. */
static void send_batch(int fd, struct mmsghdr *headers, unsigned count)
{
	while (count) {
		int sent = sendmmsg(fd, headers, count, 0);

		if (sent < 0) {
			warn("sendmmsg");
			sent = 1;
		}
		headers += sent;
		count -= sent;
	}
}

static _Noreturn void run_recvmmsg(const struct local *local, int fd)
{
	static struct datagram datagrams[BATCH];
	static struct answer answers[BATCH];

	(void)local;
	for (;;) {
		unsigned count = receive_batch(fd, datagrams);
		struct mmsghdr headers[BATCH] = { 0 };
		struct message messages[BATCH];

		for (unsigned i = 0; i < count; i++) {
			compose(&answers[i], &datagrams[i]);
			describe_answer(&messages[i], &datagrams[i], &answers[i]);
			headers[i].msg_hdr = messages[i].header;
		}
		send_batch(fd, headers, count);
	}
}

/* Coalesced: the control message tells the size of each but the last; without it there is one. */

static void prepare_gro(int fd)
{
	set_option(fd, SOL_UDP, UDP_GRO, 1);
}

static size_t receive_coalesced(int fd, char *bytes, struct peer *from, size_t *each)
{
	struct message message;
	ssize_t length;
	int size;

	from->length = sizeof(from->address);
	describe(&message, from, bytes, COALESCED_MAX);
	expect_control(&message);
	length = recvmsg(fd, &message.header, 0);
	if (length < 0)
		err(1, "recvmsg");
	from->length = message.header.msg_namelen;
	*each = read_control(&message, SOL_UDP, UDP_GRO, &size, sizeof(size)) ? (size_t)size : (size_t)length;
	return length;
}

static void answer_segment(int fd, struct datagram *datagram, const char *bytes, size_t length)
{
	struct answer answer;

	datagram->length = length < PAYLOAD_MAX ? length : PAYLOAD_MAX;
	memcpy(datagram->payload, bytes, datagram->length);
	compose(&answer, datagram);
	if (by_sendto(fd, datagram, &answer) < 0)
		warn("sendto");
}

static _Noreturn void run_gro(const struct local *local, int fd)
{
	static char bytes[COALESCED_MAX];

	(void)local;
	for (;;) {
		struct datagram datagram = { .together = 1 };
		size_t each, length = receive_coalesced(fd, bytes, &datagram.from, &each);

		if (length > each)
			datagram.together = (length + each - 1) / each;
		for (unsigned i = 0; i < datagram.together; i++) {
			size_t left = length - i * each;

			answer_segment(fd, &datagram, bytes + i * each, left < each ? left : each);
		}
	}
}
