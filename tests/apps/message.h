// SPDX-License-Identifier: GPL-2.0-only
/* One message as recvmsg and sendmsg want it: an address, one buffer, at most one control message. */
#pragma once
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "peer.h"

struct message {
	struct msghdr header;
	struct iovec buffer;
	union {
		struct cmsghdr first;
		char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control;
};

static void describe(struct message *message, const struct peer *peer, const void *text, size_t length)
{
	message->buffer = (struct iovec){ .iov_base = (void *)text, .iov_len = length };
	message->header = (struct msghdr){
		.msg_name = (void *)&peer->address,
		.msg_namelen = peer->length,
		.msg_iov = &message->buffer,
		.msg_iovlen = 1,
	};
}

/* For a receive: it may bring a control message. */
static void expect_control(struct message *message)
{
	message->header.msg_control = &message->control;
	message->header.msg_controllen = sizeof(message->control);
}

/* After a receive: copies what the control message says. Returns whether there is one of this type and size. */
static bool read_control(struct message *message, int level, int type, void *data, size_t size)
{
	const struct cmsghdr *control = CMSG_FIRSTHDR(&message->header);

	if (!control || control->cmsg_level != level || control->cmsg_type != type ||
	    control->cmsg_len != CMSG_LEN(size))
		return false;
	memcpy(data, CMSG_DATA(control), size);
	return true;
}

/* For a send. */
static void add_control(struct message *message, int level, int type, const void *data, size_t size)
{
	struct cmsghdr *control = &message->control.first;

	message->header.msg_control = control;
	message->header.msg_controllen = CMSG_SPACE(size);
	control->cmsg_level = level;
	control->cmsg_type = type;
	control->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(control), data, size);
}
