// A UDP server on Node's dgram module that answers each datagram with the address it was shown, and to it.
'use strict';

const dgram = require('node:dgram');
const { parseArgs } = require('node:util');

const { values: options } = parseArgs({
  options: {
    address: { type: 'string', default: '::' },
    port: { type: 'string' },
    v6only: { type: 'boolean', default: false },
  },
});

const socket = dgram.createSocket({
  type: options.address.includes(':') ? 'udp6' : 'udp4',
  ipv6Only: options.v6only,
});

socket.on('message', (payload, { address, port }) => {
  const answer = Buffer.concat([Buffer.from(`from=${address} ${port} payload=`), payload]);
  socket.send(answer, port, address, (error) => error && console.error(error)); // a lost answer ends nothing
});

socket.on('error', (error) => {
  throw error; // bind with a callback would swallow it
});

socket.bind({ address: options.address, port: Number(options.port) }, () => console.log('ready'));
