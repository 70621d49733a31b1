// SPDX-License-Identifier: GPL-2.0-only
/* Connected UDP sockets: one for each client beside the one that takes first datagrams, or one for one client. */
#pragma once
#include "datagram.h"
#include "datagram_calls.h"
#include "local.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 64

/* sockets[0] is the one for all; the others belong to the client at the same place. */
struct clients {
	const struct local *local;
	struct pollfd sockets[1 + CLIENTS_MAX];
	struct peer address[1 + CLIENTS_MAX];
	unsigned opened;
};

static void open_clients(struct clients *clients, const struct local *local, int fd)
{
	memset(clients, 0, sizeof(*clients));
	clients->local = local;
	for (int i = 0; i <= CLIENTS_MAX; i++)
		clients->sockets[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
	clients->sockets[0].fd = fd;
}

/* Bytes that are no address, as padding, are the kernel's zeros. */
static bool is_same(const struct peer *one, const struct peer *other)
{
	return one->length == other->length && !memcmp(&one->address, &other->address, one->length);
}

/*
 * The socket connected to this client, opened where there is none. The oldest makes room for it. Returns -1 with a
 * warning where it cannot be connected.
 */
static int socket_of(struct clients *clients, const struct peer *client)
{
	int fd, place;

	for (int i = 1; i <= CLIENTS_MAX; i++)
		if (clients->sockets[i].fd >= 0 && is_same(&clients->address[i], client))
			return clients->sockets[i].fd;
	fd = open_bound(clients->local, SOCK_DGRAM);
	if (connect(fd, (const struct sockaddr *)&client->address, client->length)) {
		warn("connect");
		close(fd);
		return -1;
	}
	place = 1 + clients->opened++ % CLIENTS_MAX;
	if (clients->sockets[place].fd >= 0)
		close(clients->sockets[place].fd);
	clients->sockets[place].fd = fd;
	clients->address[place] = *client;
	return fd;
}

static void ask_peer(int fd, struct datagram *datagram)
{
	struct peer *peer = &datagram->connected;

	peer->length = sizeof(peer->address);
	if (getpeername(fd, (struct sockaddr *)&peer->address, &peer->length))
		err(1, "getpeername");
}

/*
 * A datagram may reach the socket of another client, in the moment in which that is bound but not yet connected. So
 * each is answered by the socket of the client it is from, wherever it was received.
 */
static void converse(struct clients *clients, int fd)
{
	struct datagram datagram = { 0 };
	ssize_t length = receive_from(fd, datagram.payload, &datagram.from, MSG_DONTWAIT);
	struct answer answer;

	if (length < 0) { /* a client that is gone, or a socket that was another client's when poll looked */
		warn("recvfrom");
		return;
	}
	datagram.length = length;
	fd = socket_of(clients, &datagram.from);
	if (fd < 0)
		return;
	ask_peer(fd, &datagram);
	compose(&answer, &datagram);
	if (send(fd, answer.text, answer.length, 0) < 0)
		warn("send");
}

static _Noreturn void run_connect(const struct local *local, int fd)
{
	static struct clients clients;

	open_clients(&clients, local, fd);
	for (;;) {
		if (poll(clients.sockets, 1 + CLIENTS_MAX, -1) < 0 && errno != EINTR)
			err(1, "poll");
		for (int i = 0; i <= CLIENTS_MAX; i++)
			if (clients.sockets[i].revents)
				converse(&clients, clients.sockets[i].fd);
	}
}

static _Noreturn void run_read(const struct local *local, int fd)
{
	struct datagram datagram = { 0 };
	struct answer answer;
	struct peer first;
	ssize_t length;

	(void)local;
	if (receive_from(fd, datagram.payload, &first, MSG_PEEK) < 0)
		err(1, "recvfrom");
	if (connect(fd, (struct sockaddr *)&first.address, first.length))
		err(1, "connect");
	for (;;) {
		length = read(fd, datagram.payload, PAYLOAD_MAX);
		if (length < 0) { /* the client was gone, and may come back */
			warn("read");
			continue;
		}
		datagram.length = length;
		ask_peer(fd, &datagram);
		compose(&answer, &datagram);
		if (write(fd, answer.text, answer.length) < 0)
			warn("write");
	}
}
