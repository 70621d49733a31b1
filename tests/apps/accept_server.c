// SPDX-License-Identifier: GPL-2.0-only
/*
 * A TCP server that answers each client with the address it was shown; every way to accept is a mode.
 *
 *   accept_server MODE --address ADDRESS --port PORT [--v6only] [--workers N]
 *
 *   accept           accept with an address, then getpeername
 *   accept4          the same with accept4 and SOCK_CLOEXEC
 *   null             accept without an address, then getpeername
 *   uring            accept through io_uring, then getpeername
 *   fork             N processes accept on one listener inherited from their parent
 *   fork-connection  the parent accepts; a child per connection calls getpeername and answers
 *   reuseport        N processes, each with a SO_REUSEPORT listener of its own
 *   defer            TCP_DEFER_ACCEPT: accept returns only once the client has sent something
 *
 * It writes "ready" to stdout once it listens. A client sends a line, gets the line
 * "accept=ADDRESS PORT getpeername=ADDRESS PORT" ("-" for what the mode does not ask) and the connection is closed.
 */
#define _GNU_SOURCE
#include "accept_calls.h"
#include "conversation.h"
#include "listener.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct settings {
	struct listening listening;
	accept_call *accept;
	int workers;
};

struct mode {
	const char *name;
	void (*run)(const struct settings *settings);
	accept_call *accept;
	bool reuseport;
	bool defer;
};

/* Accepting, in one process. */

static void accept_next(int listener, accept_call *call, struct connection *connection)
{
	do
		connection->fd = call(listener, &connection->accepted);
	while (connection->fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (connection->fd < 0)
		err(1, "accept");
}

static _Noreturn void serve(int listener, accept_call *call)
{
	for (;;) {
		struct connection *connection = calloc(1, sizeof(*connection));
		pthread_t thread;

		if (!connection)
			err(1, "calloc");
		accept_next(listener, call, connection);
		errno = pthread_create(&thread, NULL, converse_in_thread, connection);
		if (errno)
			err(1, "pthread_create");
		pthread_detach(thread);
	}
}

/* Processes. */

/* The child ends with its parent, even with one that ended before it could say so. */
static pid_t fork_child(void)
{
	pid_t parent = getpid();
	pid_t child = fork();

	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(1);
	}
	return child;
}

static void start_worker(int listener, accept_call *call)
{
	if (fork_child() == 0)
		serve(listener, call);
}

/* Workers never end by themselves, so the first that does has failed. */
static _Noreturn void wait_for_failure(void)
{
	wait(NULL);
	errx(1, "a worker ended");
}

static void run_alone(const struct settings *settings)
{
	int listener = open_listener(&settings->listening);

	say_ready();
	serve(listener, settings->accept);
}

static void run_uring(const struct settings *settings)
{
	open_ring();
	run_alone(settings);
}

static void run_fork(const struct settings *settings)
{
	int listener = open_listener(&settings->listening);

	for (int i = 0; i < settings->workers; i++)
		start_worker(listener, settings->accept);
	say_ready();
	wait_for_failure();
}

static void run_reuseport(const struct settings *settings)
{
	for (int i = 0; i < settings->workers; i++) {
		int listener = open_listener(&settings->listening);

		start_worker(listener, settings->accept);
		close(listener);
	}
	say_ready();
	wait_for_failure();
}

static void run_fork_connection(const struct settings *settings)
{
	int listener = open_listener(&settings->listening);

	signal(SIGCHLD, SIG_IGN); /* children are reaped by the kernel */
	say_ready();
	for (;;) {
		struct connection connection;

		accept_next(listener, settings->accept, &connection);
		if (fork_child() == 0) {
			close(listener);
			converse(&connection);
			_exit(0);
		}
		close(connection.fd);
	}
}

static const struct mode modes[] = {
	{ .name = "accept", .run = run_alone, .accept = by_accept },
	{ .name = "accept4", .run = run_alone, .accept = by_accept4 },
	{ .name = "null", .run = run_alone, .accept = by_null_accept },
	{ .name = "uring", .run = run_uring, .accept = by_uring },
	{ .name = "fork", .run = run_fork, .accept = by_accept },
	{ .name = "fork-connection", .run = run_fork_connection, .accept = by_accept },
	{ .name = "reuseport", .run = run_reuseport, .accept = by_accept, .reuseport = true },
	{ .name = "defer", .run = run_alone, .accept = by_accept, .defer = true },
};

static const struct mode *find_mode(const char *name)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(modes[i].name, name))
			return &modes[i];
	errx(2, "no mode %s", name);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "address", required_argument, NULL, 'a' },
		{ "port", required_argument, NULL, 'p' },
		{ "v6only", no_argument, NULL, '6' },
		{ "workers", required_argument, NULL, 'w' },
		{ 0 },
	};
	struct settings settings = { .listening.local.reuseaddr = true, .workers = 2 };
	struct local *local = &settings.listening.local;
	const struct mode *mode;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'a': local->address = optarg; break;
		case 'p': local->port = optarg; break;
		case '6': local->v6only = true; break;
		case 'w': settings.workers = atoi(optarg); break;
		default: return 2;
		}
	}
	if (optind != argc - 1 || !local->address || !local->port || settings.workers < 1)
		errx(2, "usage: MODE --address ADDRESS --port PORT [--v6only] [--workers N]");
	mode = find_mode(argv[optind]);
	local->reuseport = mode->reuseport;
	settings.listening.defer = mode->defer;
	settings.accept = mode->accept;
	mode->run(&settings);
}
