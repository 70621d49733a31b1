// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which client the bench puts behind LIP:lport: one for each of them, so that whoever knows LIP:lport knows whom an
 * application has to see. Numbers in host byte order.
 */
#ifndef BENCH_CLIENTS_H
#define BENCH_CLIENTS_H

#define CLIENTS 0x64400000u /* 100.64.0.0/10, as behind a carrier's NAT */
#define LIP_BITS 0x3fu

static inline unsigned int client_address(unsigned int lip, unsigned short lport)
{
	return CLIENTS | (lip & LIP_BITS) << 16 | lport;
}

/* Never 0, because lport is not. */
static inline unsigned short client_port(unsigned short lport)
{
	return lport >> 8 | lport << 8;
}

#endif
