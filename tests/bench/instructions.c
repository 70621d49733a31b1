// SPDX-License-Identifier: GPL-2.0-only
/*
 * TCP connections and UDP flows, packet by packet, and how far the time stamp counter went in each step. Under qemu's icount
 * that is the number of instructions. `instructions TIMES ack|syn|none restored|not`, to be run where the device `tap0` leads to
 * the server's address: a write to it is the whole way of a received packet. Says `step median`, one a line.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <x86intrin.h>
#include "bench.h"

#define DEVICE "tap0"
#define ETHERNET 14
#define MOST_TIMES 100000
#define REQUESTS 6
#define LENGTH 100 /* of a request, and of an answer */
#define FIRST_LPORT 1024
#define LPORTS 60000

enum step {
	SYN,
	ACK,
	ACCEPT,
	GETPEERNAME,
	SEGMENT,
	RECV,
	SEND,
	PURE_ACK,
	FIN,
	CLOSE,
	LAST_ACK,
	CONNECTION,
	ANNOUNCEMENT,
	DATAGRAM,
	RECVFROM,
	SENDTO,
	STEPS,
};

static const char *const names[] = {
	"SYN",
	"ACK that ends the handshake",
	"accept",
	"getpeername",
	"segment with a request",
	"recv",
	"send",
	"pure ACK",
	"FIN",
	"close",
	"last ACK, frees the socket",
	"whole connection, 6 requests",
	"announcement",
	"UDP datagram",
	"recvfrom",
	"sendto",
};

struct tcp_segment {
	struct iphdr ip;
	struct tcphdr tcp;
	unsigned char rest[40 + LENGTH];
};

struct connection {
	struct sockaddr_in local;
	unsigned int sequence, acknowledged;
	int socket;
	unsigned long ticks;
};

static unsigned long samples[STEPS][MOST_TIMES], counts[STEPS];
static unsigned long reading; /* what it takes to read the counter twice */
static struct sockaddr_in server = { .sin_family = AF_INET };
static int tap;
static bool in_syn, in_ack, is_restored;
static unsigned char frame[2048];

#define TICKS(step, connection, call) \
	do { \
		unsigned long began_ = __rdtsc(), took_; \
		call; \
		took_ = __rdtsc() - began_ - reading; \
		keep(step, connection, took_); \
	} while (0)

static void keep(enum step step, struct connection *connection, unsigned long took)
{
	if (counts[step] < MOST_TIMES)
		samples[step][counts[step]++] = took;
	if (connection)
		connection->ticks += took;
}

static unsigned int sum_of(const void *data, unsigned int length)
{
	const unsigned short *word = data;
	unsigned int sum = 0;

	for (; length > 1; length -= 2)
		sum += *word++;
	return sum;
}

static unsigned short folded(unsigned int sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static void make_ip(struct iphdr *ip, const struct sockaddr_in *from, unsigned char protocol, unsigned int length)
{
	*ip = (struct iphdr){ .version = 4,
			      .ihl = 5,
			      .ttl = 64,
			      .protocol = protocol,
			      .tot_len = htons(sizeof(*ip) + length),
			      .saddr = from->sin_addr.s_addr,
			      .daddr = server.sin_addr.s_addr };
	ip->check = folded(sum_of(ip, sizeof(*ip)));
}

/* Of a TCP segment or UDP datagram of even length. */
static unsigned short transport_checksum(const struct iphdr *ip, unsigned int length)
{
	unsigned int sum = htons(length) + htons(ip->protocol) + sum_of(&ip->saddr, 8);

	return folded(sum + sum_of(ip + 1, length));
}

static void write_frame(unsigned int length)
{
	if (write(tap, frame, ETHERNET + length) != (ssize_t)(ETHERNET + length))
		err(1, "writing to " DEVICE);
}

/* What the server has sent since; gives the sequence number behind its last byte, or what it was. */
static unsigned int drain(unsigned int sequence)
{
	static unsigned char sent[2048];
	ssize_t length;

	while ((length = read(tap, sent, sizeof(sent))) > 0) {
		const struct iphdr *ip = (void *)(sent + ETHERNET);
		const struct tcphdr *tcp = (void *)(ip + 1);

		if (sent[12] == 8 && sent[13] == 0 && ip->protocol == IPPROTO_TCP)
			sequence = ntohl(tcp->seq) + tcp->syn + tcp->fin + ntohs(ip->tot_len) - sizeof(*ip) -
				   tcp->doff * 4;
	}
	return sequence;
}

static unsigned int put_option(unsigned char *options, const struct sockaddr_in *local)
{
	struct sockaddr_in client = client_behind(local);

	options[0] = 254;
	options[1] = 8;
	memcpy(options + 2, &client.sin_port, 2);
	memcpy(options + 4, &client.sin_addr, 4);
	return 8;
}

/* Makes a segment of this connection in `frame`; gives the packet's length. */
static unsigned int make_segment(struct connection *connection, bool is_syn, bool is_fin, bool has_option,
				 unsigned int payload)
{
	static const unsigned char syn_options[] = { 2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7 };
	struct tcp_segment *segment = (void *)(frame + ETHERNET);
	unsigned int options = has_option ? put_option(segment->rest, &connection->local) : 0;
	unsigned int length;

	if (is_syn) {
		memcpy(segment->rest + options, syn_options, sizeof(syn_options));
		options += sizeof(syn_options);
	}
	length = sizeof(segment->tcp) + options + payload;
	segment->tcp = (struct tcphdr){ .source = connection->local.sin_port,
					.dest = server.sin_port,
					.seq = htonl(connection->sequence),
					.ack_seq = htonl(connection->acknowledged),
					.doff = (sizeof(segment->tcp) + options) / 4,
					.syn = is_syn,
					.ack = !is_syn,
					.psh = payload > 0,
					.fin = is_fin,
					.window = htons(65535) };
	make_ip(&segment->ip, &connection->local, IPPROTO_TCP, length);
	segment->tcp.check = transport_checksum(&segment->ip, length);
	connection->sequence += is_syn + is_fin + payload;
	return sizeof(segment->ip) + length;
}

static void check_seen(const struct sockaddr_in *seen, const struct sockaddr_in *local, bool can_be_restored)
{
	struct judged judged = {};

	judge(&judged, seen, local, is_restored && can_be_restored);
	if (!judged.right)
		errx(1, "%s:%u was seen for port %u", inet_ntoa(seen->sin_addr), ntohs(seen->sin_port),
		     ntohs(local->sin_port));
}

static void shake_hands(struct connection *connection, int listener)
{
	bool is_named = in_syn || in_ack;
	struct sockaddr_in seen;
	socklen_t size = sizeof(seen);
	unsigned int length = make_segment(connection, true, false, in_syn, 0);

	TICKS(SYN, connection, write_frame(length));
	connection->acknowledged = drain(0);
	length = make_segment(connection, false, false, in_ack, 0);
	TICKS(ACK, connection, write_frame(length));
	TICKS(ACCEPT, connection, connection->socket = accept4(listener, (void *)&seen, &size, SOCK_CLOEXEC));
	if (connection->socket < 0)
		err(1, "accept");
	check_seen(&seen, &connection->local, is_named);
	TICKS(GETPEERNAME, connection, getpeername(connection->socket, (void *)&seen, &size));
	check_seen(&seen, &connection->local, is_named);
}

static void exchange(struct connection *connection)
{
	unsigned int length = make_segment(connection, false, false, false, LENGTH);
	char request[LENGTH];

	TICKS(SEGMENT, connection, write_frame(length));
	TICKS(RECV, connection, length = recv(connection->socket, request, sizeof(request), MSG_DONTWAIT));
	if (length != LENGTH)
		errx(1, "a request did not arrive");
	TICKS(SEND, connection, send(connection->socket, request, sizeof(request), 0));
	connection->acknowledged = drain(connection->acknowledged);
	length = make_segment(connection, false, false, false, 0);
	TICKS(PURE_ACK, connection, write_frame(length));
}

static void part(struct connection *connection)
{
	unsigned int length = make_segment(connection, false, true, false, 0);

	TICKS(FIN, connection, write_frame(length));
	TICKS(CLOSE, connection, close(connection->socket));
	connection->acknowledged = drain(connection->acknowledged);
	length = make_segment(connection, false, false, false, 0);
	TICKS(LAST_ACK, connection, write_frame(length));
	drain(0);
}

static struct sockaddr_in local_of(unsigned long number)
{
	struct sockaddr_in local = end_of("10.90.0.1", "0");

	local.sin_port = htons(FIRST_LPORT + number % LPORTS);
	return local;
}

static void connect_and_part(unsigned long number, int listener)
{
	struct connection connection = { .local = local_of(number), .sequence = number * 100003 };

	shake_hands(&connection, listener);
	for (int n = 0; n < REQUESTS; n++)
		exchange(&connection);
	part(&connection);
	keep(CONNECTION, 0, connection.ticks);
}

struct announcement {
	struct iphdr ip;
	struct icmphdr icmp;
	unsigned char magic, protocol;
	unsigned short lport, rport;
	unsigned char option[8];
} __attribute__((packed));

static void announce(const struct sockaddr_in *local)
{
	struct announcement *announcement = (void *)(frame + ETHERNET);
	unsigned int length = sizeof(*announcement) - sizeof(announcement->ip);

	announcement->icmp = (struct icmphdr){ .type = ICMP_ECHO, .un.echo.id = 0x1234 };
	announcement->magic = 123;
	announcement->protocol = IPPROTO_UDP;
	announcement->lport = local->sin_port;
	announcement->rport = server.sin_port;
	put_option(announcement->option, local);
	make_ip((void *)(frame + ETHERNET), local, IPPROTO_ICMP, length);
	announcement->icmp.checksum = folded(sum_of(&announcement->icmp, length));
	TICKS(ANNOUNCEMENT, 0, write_frame(sizeof(*announcement)));
	drain(0);
}

static void ask(unsigned long number, int socket)
{
	struct iphdr *ip = (void *)(frame + ETHERNET);
	struct udphdr *udp = (void *)(ip + 1);
	struct sockaddr_in local = local_of(number), seen;
	socklen_t size = sizeof(seen);
	char request[LENGTH];
	bool is_named = in_syn || in_ack;

	if (is_named)
		announce(&local);
	*udp = (struct udphdr){ .source = local.sin_port,
				.dest = server.sin_port,
				.len = htons(sizeof(*udp) + LENGTH) };
	make_ip(ip, &local, IPPROTO_UDP, sizeof(*udp) + LENGTH);
	udp->check = transport_checksum(ip, sizeof(*udp) + LENGTH);
	for (int n = 0; n < REQUESTS; n++) {
		ssize_t got;

		TICKS(DATAGRAM, 0, write_frame(sizeof(*ip) + sizeof(*udp) + LENGTH));
		TICKS(RECVFROM, 0, got = recvfrom(socket, request, LENGTH, MSG_DONTWAIT, (void *)&seen, &size));
		if (got != LENGTH)
			errx(1, "a datagram did not arrive");
		check_seen(&seen, &local, is_named);
		TICKS(SENDTO, 0, sendto(socket, request, LENGTH, 0, (void *)&seen, size));
		drain(0);
	}
}

static void open_tap(void)
{
	struct ifreq request = { .ifr_name = DEVICE, .ifr_flags = IFF_TAP | IFF_NO_PI };

	tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (tap < 0 || ioctl(tap, TUNSETIFF, &request))
		err(1, DEVICE);
	if (ioctl(tap, SIOCGIFHWADDR, &request))
		err(1, "the address of " DEVICE);
	memcpy(frame, request.ifr_hwaddr.sa_data, 6);
	frame[6] = 2; /* the other end's address: locally administered */
	frame[12] = 8; /* IPv4 */
}

static int open_server(int type)
{
	int socket_ = socket(AF_INET, type, 0);

	if (bind(socket_, (void *)&server, sizeof(server)) || (type == SOCK_STREAM && listen(socket_, 128)))
		err(1, "a server");
	return socket_;
}

static int is_more(const void *one, const void *other)
{
	unsigned long a = *(const unsigned long *)one, b = *(const unsigned long *)other;

	return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
	unsigned long times;
	int listener, datagrams;

	if (argc != 4)
		errx(2, "usage: instructions TIMES ack|syn|none restored|not");
	times = strtoul(argv[1], 0, 10);
	in_ack = !strcmp(argv[2], "ack");
	in_syn = !strcmp(argv[2], "syn");
	is_restored = !strcmp(argv[3], "restored");
	server = end_of("10.80.0.10", "80");
	open_tap();
	listener = open_server(SOCK_STREAM);
	datagrams = open_server(SOCK_DGRAM);
	reading = __rdtsc();
	reading = __rdtsc() - reading;
	for (unsigned long n = 0; n < times; n++)
		connect_and_part(n, listener);
	for (unsigned long n = 0; n < times; n++)
		ask(n, datagrams);
	for (enum step step = 0; step < STEPS; step++) {
		qsort(samples[step], counts[step], sizeof(samples[step][0]), is_more);
		if (counts[step])
			printf("%s\t%lu\n", names[step], samples[step][counts[step] / 2]);
	}
	return 0;
}
