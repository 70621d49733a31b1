// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a getsockopt costs in processor time. For each line on stdin, CALLS calls of each option below are made on a TCP socket that is not
 * connected, and a line is written: nanoseconds a call, one figure an option, in this order.
 *
 *   getsockopt CALLS
 */
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static const struct {
	int level;
	int name;
	socklen_t size;
} options[] = {
	{ SOL_SOCKET, SO_ERROR, sizeof(int) },
	{ IPPROTO_TCP, TCP_NODELAY, sizeof(int) },
	{ IPPROTO_IP, IP_TOS, sizeof(int) },
	{ IPPROTO_TCP, TCP_INFO, sizeof(struct tcp_info) },
};

static double used_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * 1e9 + used.tv_nsec;
}

int main(int argc, char **argv)
{
	int calls = argc == 2 ? atoi(argv[1]) : 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (calls < 1)
		errx(2, "usage: CALLS");
	if (fd < 0)
		err(1, "socket");
	while (getchar() != EOF) {
		for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
			double start = used_ns();

			for (int call = 0; call < calls; call++) {
				struct tcp_info value;
				socklen_t length = options[i].size;

				if (getsockopt(fd, options[i].level, options[i].name, &value, &length))
					err(1, "getsockopt");
			}
			printf("%.2f ", (used_ns() - start) / calls);
		}
		puts("");
		fflush(stdout);
	}
}
