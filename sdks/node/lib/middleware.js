'use strict';
// Middleware of Express, Connect and Fastify.

const net = require('node:net');

/** The host that a request was meant for: what a proxy says counts only where the proxy is trusted. */
class HostReader {
  constructor({ domain, trustedProxies = [] }) {
    this.domain = domain;
    this.proxies = new net.BlockList();
    for (const proxy of trustedProxies) {
      const [address, length] = proxy.split('/');
      const family = net.isIPv6(address) ? 'ipv6' : 'ipv4';
      if (!net.isIP(address)) throw new TypeError('trustedProxies must be addresses or ranges: 10.0.0.0/8, fd00::/8');
      if (length === undefined) this.proxies.addAddress(address, family);
      else this.proxies.addSubnet(address, Number(length), family);
    }
  }

  host(request) {
    if (this.domain !== undefined && this.domain !== null) return this.domain;
    const forwarded = request.headers['x-forwarded-host'];
    // The last is the trusted proxy's own; what stands before may be the client's.
    if (forwarded && this.#isTrusted(request.socket.remoteAddress)) return String(forwarded).split(',').pop().trim();
    return request.headers.host ?? '';
  }

  #isTrusted(peer) {
    const address = /^::ffff:([0-9.]+)$/i.exec(peer ?? '')?.[1] ?? peer;
    return net.isIP(address) !== 0 && this.proxies.check(address, net.isIPv6(address) ? 'ipv6' : 'ipv4');
  }
}

function problem(result) {
  const status = result.code === 'unreachable' ? 503 : 403;
  return {
    type: 'about:blank', title: status === 503 ? 'Service Unavailable' : 'Forbidden', status, code: result.code,
    detail: result.explanation ?? 'The license is not valid.',
  };
}

/** Middleware of Express and Connect: `request.license` is the result. */
function express(client, options = {}) {
  const reader = new HostReader(options);
  return (request, response, next) => {
    client.validate(reader.host(request)).then((result) => {
      request.license = result;
      if (result.valid) return next();
      if (options.onDenied !== undefined) return options.onDenied(request, response, next, result);
      const body = problem(result);
      response.statusCode = body.status;
      response.setHeader('Content-Type', 'application/problem+json');
      response.end(JSON.stringify(body));
      return undefined;
    }).catch(next);
  };
}

/** A plugin of Fastify: `fastify.register(licenseMetering.fastify, { client })`; `request.license` is the result. */
async function fastify(instance, options) {
  const reader = new HostReader(options);
  instance.decorateRequest('license', null);
  instance.addHook('onRequest', async (request, reply) => {
    const result = await options.client.validate(reader.host(request.raw));
    request.license = result;
    if (result.valid) return undefined;
    if (options.onDenied !== undefined) return options.onDenied(request, reply, result);
    const body = problem(result);
    return reply.code(body.status).type('application/problem+json').send(JSON.stringify(body));
  });
}
// For the whole server, and not for the plugin's own routes alone.
fastify[Symbol.for('skip-override')] = true;
fastify[Symbol.for('fastify.display-name')] = 'license-metering';

module.exports = { express, fastify };
