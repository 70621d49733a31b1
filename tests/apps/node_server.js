// A TCP server on Node's net module that answers each client with the address it was shown.
// Node never shows what accept returned: remoteAddress is getpeername.
'use strict';

const net = require('node:net');
const { parseArgs } = require('node:util');

const { values: options } = parseArgs({
  options: {
    address: { type: 'string', default: '::' },
    port: { type: 'string' },
    v6only: { type: 'boolean', default: false },
  },
});

function converse(socket) {
  const named = `${socket.remoteAddress} ${socket.remotePort}`;
  socket.on('error', () => {}); // a client that resets its connection ends only that
  socket.on('data', (data) => {
    if (data.includes('\n')) socket.end(`accept=- getpeername=${named}\n`);
  });
}

net
  .createServer(converse)
  .listen({ host: options.address, port: Number(options.port), ipv6Only: options.v6only }, () => console.log('ready'));
