// SPDX-License-Identifier: GPL-2.0-only
/*
 * New TCP connections, as many as can be, to a server that tells each whom it takes it for ("... address port\n" before it
 * closes): every one of them is judged.
 *
 *     connections ADDRESS PORT restored|not SECONDS REQUEST [LIP ...]
 *     connections ADDRESS PORT restored|not keep COUNT [LIP ...]
 *
 * The second opens COUNT connections and keeps them until its standard input ends. Sources are taken from the LIPs in turn.
 * Says `right wrong missing failed seconds`; the first on SIGTERM too.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bench.h"

#define AT_ONCE 64
#define ANSWER 512
#define PATIENCE_S 5

struct connection {
	int socket;
	bool is_sent;
	unsigned int length;
	char answer[ANSWER];
};

static struct sockaddr_in server;
static bool is_restored;
static const char *request = "";
static char **lips;
static int lip_count;
static int poller;
static struct judged judged;
static unsigned long failed;

static void open_connection(struct connection *connection)
{
	/* it is closed with a reset, so that no TIME_WAIT on either side makes later rounds differ from earlier ones */
	static const struct linger at_once = { 1, 0 };
	static unsigned int next;
	struct epoll_event wanted = { .events = EPOLLOUT, .data.ptr = connection };
	int on = 1;

	connection->length = connection->is_sent = 0;
	connection->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connection->socket < 0)
		err(1, "socket");
	setsockopt(connection->socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	if (lip_count) {
		struct sockaddr_in local = end_of(lips[next++ % lip_count], "0");

		setsockopt(connection->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
		if (bind(connection->socket, (void *)&local, sizeof(local)))
			err(1, "bind");
	}
	if (connect(connection->socket, (void *)&server, sizeof(server)) && errno != EINPROGRESS)
		err(1, "connect");
	epoll_ctl(poller, EPOLL_CTL_ADD, connection->socket, &wanted);
}

/* The address at the end of an answer. False where there is none. */
static bool read_answer(struct connection *connection, struct sockaddr_in *seen)
{
	char address[INET_ADDRSTRLEN], *line;
	unsigned int port;

	if (!connection->length || connection->answer[connection->length - 1] != '\n')
		return false;
	connection->answer[connection->length - 1] = 0;
	line = strrchr(connection->answer, '\n');
	line = line ? line + 1 : connection->answer;
	*seen = (struct sockaddr_in){ .sin_family = AF_INET };
	if (sscanf(line, "%15s %u", address, &port) != 2 || !inet_aton(address, &seen->sin_addr))
		return false;
	seen->sin_port = htons(port);
	return true;
}

static void judge_answer(struct connection *connection)
{
	struct sockaddr_in local, seen;
	socklen_t size = sizeof(local);

	if (read_answer(connection, &seen) && !getsockname(connection->socket, (void *)&local, &size))
		judge(&judged, &seen, &local, is_restored);
	else
		failed++;
}

static void send_request(struct connection *connection)
{
	struct epoll_event wanted = { .events = EPOLLIN, .data.ptr = connection };

	if (*request)
		send(connection->socket, request, strlen(request), MSG_NOSIGNAL);
	connection->is_sent = true;
	epoll_ctl(poller, EPOLL_CTL_MOD, connection->socket, &wanted);
}

/* True once the server has said everything: closed, or where connections are kept, a whole line. */
static bool is_answered(struct connection *connection, bool is_kept)
{
	ssize_t got =
		recv(connection->socket, connection->answer + connection->length, ANSWER - 1 - connection->length, 0);

	if (got < 0 && errno == EAGAIN)
		return false;
	if (got > 0)
		connection->length += got;
	connection->answer[connection->length] = 0;
	return got <= 0 || (is_kept && connection->answer[connection->length - 1] == '\n');
}

/* 0 where nothing has happened for so long that nothing will. */
static struct connection *next_answered(bool is_kept)
{
	for (;;) {
		struct epoll_event event;
		struct connection *connection;
		int count = epoll_wait(poller, &event, 1, PATIENCE_S * 1000);

		if (count < 0)
			continue;
		if (!count)
			return 0;
		connection = event.data.ptr;
		if (!connection->is_sent && event.events & EPOLLOUT)
			send_request(connection);
		else if (is_answered(connection, is_kept))
			return connection;
	}
}

static struct connection *must_be_answered(bool is_kept)
{
	struct connection *connection = next_answered(is_kept);

	if (!connection)
		errx(1, "no answer for %d seconds", PATIENCE_S);
	return connection;
}

/*
 * Those that are under way at the end are awaited, too, but not for ever: where the ACK got lost of one whose server had sent a
 * SYN cookie, no server has seen it.
 */
static double run_for(double seconds)
{
	static struct connection connections[AT_ONCE];
	double began = now(), until = began + seconds, last = began;
	struct connection *connection;
	int open = AT_ONCE;

	end_on_sigterm();
	for (int n = 0; n < AT_ONCE; n++)
		open_connection(&connections[n]);
	while (!is_over && last < until) {
		connection = must_be_answered(false);
		judge_answer(connection);
		close(connection->socket);
		open_connection(connection);
		last = now();
	}
	while (open && (connection = next_answered(false))) {
		judge_answer(connection);
		close(connection->socket);
		open--;
		last = now();
	}
	return last - began;
}

static double keep(unsigned long count)
{
	unsigned long opened = 0;
	double began = now();

	allow_files();
	for (; opened < AT_ONCE && opened < count; opened++)
		open_connection(malloc(sizeof(struct connection)));
	for (unsigned long n = 0; n < count; n++) {
		struct connection *connection = must_be_answered(true);

		judge_answer(connection);
		epoll_ctl(poller, EPOLL_CTL_DEL, connection->socket, 0);
		if (opened++ < count)
			open_connection(connection);
	}
	return now() - began;
}

int main(int argc, char **argv)
{
	bool is_kept = argc > 4 && !strcmp(argv[4], "keep");
	double seconds;

	if (argc < 6)
		errx(2, "usage: connections ADDRESS PORT restored|not SECONDS REQUEST|keep COUNT [LIP ...]");
	server = end_of(argv[1], argv[2]);
	is_restored = !strcmp(argv[3], "restored");
	lips = argv + 6;
	lip_count = argc - 6;
	poller = epoll_create1(0);
	if (!is_kept)
		request = argv[5];
	seconds = is_kept ? keep(strtoul(argv[5], 0, 10)) : run_for(atof(argv[4]));
	printf("%lu %lu %lu %lu %.4f\n", judged.right, judged.wrong, judged.missing, failed, seconds);
	fflush(stdout);
	if (is_kept)
		while (getchar() != EOF)
			;
	return 0;
}
