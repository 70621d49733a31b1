// SPDX-License-Identifier: GPL-2.0-only
/* The ways to receive one datagram and to answer it. */
#pragma once
#include "datagram.h"
#include "message.h"
#include "ring.h"

#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

#define SEGMENTS 3

/* Returns the payload's length or -1 with errno, like recvfrom. The datagram's fields are 0 before. */
typedef ssize_t receive_call(int fd, struct datagram *datagram);

/* Returns -1 with errno where it fails, like sendto. */
typedef ssize_t answer_call(int fd, const struct datagram *datagram, const struct answer *answer);

static ssize_t receive_from(int fd, void *payload, struct peer *from, int flags)
{
	from->length = sizeof(from->address);
	return recvfrom(fd, payload, PAYLOAD_MAX, flags, (struct sockaddr *)&from->address, &from->length);
}

static ssize_t by_recvfrom(int fd, struct datagram *datagram)
{
	return receive_from(fd, datagram->payload, &datagram->from, 0);
}

static ssize_t by_sendto(int fd, const struct datagram *datagram, const struct answer *answer)
{
	const struct peer *to = &datagram->from;

	return sendto(fd, answer->text, answer->length, 0, (const struct sockaddr *)&to->address, to->length);
}

static ssize_t by_peek(int fd, struct datagram *datagram)
{
	if (receive_from(fd, datagram->payload, &datagram->peeked, MSG_PEEK) < 0)
		return -1;
	return by_recvfrom(fd, datagram);
}

static void describe_receive(struct message *message, struct datagram *datagram)
{
	datagram->from.length = sizeof(datagram->from.address);
	describe(message, &datagram->from, datagram->payload, PAYLOAD_MAX);
}

static void describe_answer(struct message *message, const struct datagram *datagram, const struct answer *answer)
{
	describe(message, &datagram->from, answer->text, answer->length);
}

static ssize_t by_recvmsg(int fd, struct datagram *datagram)
{
	struct message message;
	ssize_t length;

	describe_receive(&message, datagram);
	length = recvmsg(fd, &message.header, 0);
	datagram->from.length = message.header.msg_namelen;
	return length;
}

static ssize_t by_sendmsg(int fd, const struct datagram *datagram, const struct answer *answer)
{
	struct message message;

	describe_answer(&message, datagram, answer);
	return sendmsg(fd, &message.header, 0);
}

static ssize_t by_uring_recvmsg(int fd, struct datagram *datagram)
{
	struct message message;
	ssize_t length;

	describe_receive(&message, datagram);
	io_uring_prep_recvmsg(io_uring_get_sqe(&ring), fd, &message.header, 0);
	length = ring_call();
	datagram->from.length = message.header.msg_namelen;
	return length;
}

static ssize_t by_uring_sendmsg(int fd, const struct datagram *datagram, const struct answer *answer)
{
	struct message message;

	describe_answer(&message, datagram, answer);
	io_uring_prep_sendmsg(io_uring_get_sqe(&ring), fd, &message.header, 0);
	return ring_call();
}

/* The answer as SEGMENTS datagrams, the last of them no longer than the others; joined they are the answer. */
static ssize_t by_segments(int fd, const struct datagram *datagram, const struct answer *answer)
{
	uint16_t segment_size = (answer->length + SEGMENTS - 1) / SEGMENTS;
	struct message message;

	describe_answer(&message, datagram, answer);
	add_control(&message, SOL_UDP, UDP_SEGMENT, &segment_size, sizeof(segment_size));
	return sendmsg(fd, &message.header, 0);
}

static struct peer ipv4_of(const struct in_pktinfo *info)
{
	struct peer peer = { .length = sizeof(struct sockaddr_in) };
	struct sockaddr_in *v4 = (void *)&peer.address;

	*v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = info->ipi_addr };
	return peer;
}

static struct peer ipv6_of(const struct in6_pktinfo *info)
{
	struct peer peer = { .length = sizeof(struct sockaddr_in6) };
	struct sockaddr_in6 *v6 = (void *)&peer.address;

	*v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_addr = info->ipi6_addr };
	return peer;
}

static ssize_t by_recvmsg_pktinfo(int fd, struct datagram *datagram)
{
	struct message message;
	struct in6_pktinfo v6;
	struct in_pktinfo v4;
	ssize_t length;

	describe_receive(&message, datagram);
	expect_control(&message);
	length = recvmsg(fd, &message.header, 0);
	datagram->from.length = message.header.msg_namelen;
	if (length < 0)
		return length;
	if (read_control(&message, IPPROTO_IP, IP_PKTINFO, &v4, sizeof(v4)))
		datagram->local = ipv4_of(&v4);
	else if (read_control(&message, IPPROTO_IPV6, IPV6_PKTINFO, &v6, sizeof(v6)))
		datagram->local = ipv6_of(&v6); /* for IPv4 on a dual-stack socket too, v4-mapped */
	else
		errx(1, "no packet information");
	return length;
}

/* Names the address only, not the interface: that is for the routing table to choose. */
static ssize_t by_sendmsg_pktinfo(int fd, const struct datagram *datagram, const struct answer *answer)
{
	const struct sockaddr_in6 *v6 = (const void *)&datagram->local.address;
	const struct sockaddr_in *v4 = (const void *)&datagram->local.address;
	struct message message;

	describe_answer(&message, datagram, answer);
	if (datagram->local.address.ss_family == AF_INET) {
		struct in_pktinfo info = { .ipi_spec_dst = v4->sin_addr };

		add_control(&message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	} else {
		struct in6_pktinfo info = { .ipi6_addr = v6->sin6_addr };

		add_control(&message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	}
	return sendmsg(fd, &message.header, 0);
}
