<?php

declare(strict_types=1);

namespace LicenseMetering;

use Psr\Http\Message\ResponseFactoryInterface;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\MiddlewareInterface;
use Psr\Http\Server\RequestHandlerInterface;

/** PSR-15 middleware: lets requests through where the license holds; the request's attribute "license" is the Result. */
final class LicenseMiddleware implements MiddlewareInterface
{
    public const ATTRIBUTE = 'license';

    /**
     * @param string|null $domain what to ask about; else it is the request's host
     * @param list<string> $trustedProxies addresses and ranges whose X-Forwarded-Host is believed
     * @param (callable(ServerRequestInterface, Result): ResponseInterface)|null $onDenied answers in place of 403 and 503
     */
    public function __construct(
        private readonly Validator $client,
        private readonly ResponseFactoryInterface $responses,
        private readonly ?string $domain = null,
        private readonly array $trustedProxies = [],
        private readonly mixed $onDenied = null,
    ) {
        foreach ($trustedProxies as $proxy) {
            if (@inet_pton(explode('/', $proxy)[0]) === false) {
                throw new \InvalidArgumentException('trustedProxies must be addresses or ranges: 10.0.0.0/8, fd00::/8');
            }
        }
    }

    public function process(ServerRequestInterface $request, RequestHandlerInterface $handler): ResponseInterface
    {
        $result = $this->client->validate($this->host($request));
        if ($result->valid) {
            return $handler->handle($request->withAttribute(self::ATTRIBUTE, $result));
        }
        if ($this->onDenied !== null) {
            return ($this->onDenied)($request, $result);
        }
        $status = $result->code === 'unreachable' ? 503 : 403;
        $response = $this->responses->createResponse($status)->withHeader('Content-Type', 'application/problem+json');
        $response->getBody()->write((string) json_encode([
            'type' => 'about:blank',
            'title' => $status === 503 ? 'Service Unavailable' : 'Forbidden',
            'status' => $status,
            'code' => $result->code,
            'detail' => $result->explanation ?? 'The license is not valid.',
        ]));
        return $response;
    }

    private function host(ServerRequestInterface $request): string
    {
        if ($this->domain !== null) {
            return $this->domain;
        }
        $forwarded = $request->getHeaderLine('X-Forwarded-Host');
        if ($forwarded !== '' && $this->isTrusted((string) ($request->getServerParams()['REMOTE_ADDR'] ?? ''))) {
            // The last is the trusted proxy's own; what stands before may be the client's.
            $hosts = explode(',', $forwarded);
            return trim(end($hosts));
        }
        return $request->getHeaderLine('Host');
    }

    private function isTrusted(string $peer): bool
    {
        $address = @inet_pton((string) preg_replace('/^::ffff:(?=[0-9.]+$)/i', '', $peer));
        foreach ($address === false ? [] : $this->trustedProxies as $proxy) {
            [$base, $length] = [...explode('/', $proxy, 2), null];
            $range = (string) inet_pton($base);
            $bits = $length === null ? strlen($range) * 8 : (int) $length;
            if (strlen($range) === strlen($address) && self::prefix($range, $bits) === self::prefix($address, $bits)) {
                return true;
            }
        }
        return false;
    }

    private static function prefix(string $address, int $bits): string
    {
        $text = '';
        foreach (str_split($address) as $byte) {
            $text .= sprintf('%08b', ord($byte));
        }
        return substr($text, 0, max(0, $bits));
    }
}
