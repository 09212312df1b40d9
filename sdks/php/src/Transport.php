<?php

declare(strict_types=1);

namespace LicenseMetering;

/**
 * One bounded HTTPS request: no redirect is followed, no body exceeds its limit, no answer takes longer than its deadline.
 *
 * @internal
 */
final class Transport
{
    private const MAXIMUM_HEADER_BYTES = 65_536;
    private const TLS_ERRORS = [51, 58, 60, 77, 83, 91];
    private const PIN_ERROR = 90;

    /** @param list<string> $pins */
    public function __construct(
        private readonly string $url,
        private readonly float $connectTimeout,
        private readonly array $pins,
        private readonly string $pinMode,
        private readonly ?string $caFile,
        private readonly \Closure $report,
    ) {
        $parts = parse_url($url);
        $scheme = is_array($parts) ? $parts['scheme'] ?? '' : '';
        $isGood = is_array($parts) && in_array($scheme, ['https', 'http'], true) && ($parts['host'] ?? '') !== ''
            && !isset($parts['query']) && !isset($parts['fragment']) && !isset($parts['user'])
            && preg_match('/[\x00-\x20\x7f]/', $url) === 0;
        if (!$isGood) {
            throw new \InvalidArgumentException('url must be https://host[:port][/path]');
        }
        if ($scheme === 'http' && !self::isLoopback((string) ($parts['host'] ?? ''))) {
            throw new \InvalidArgumentException(
                'url must be https: license keys and tokens are secrets (http is for loopback addresses)'
            );
        }
        if (!in_array($pinMode, ['enforce', 'report'], true)) {
            throw new \InvalidArgumentException('pinMode must be enforce or report');
        }
        foreach ($pins as $pin) {
            if (preg_match('#^sha256/[A-Za-z0-9+/]{43}=$#D', $pin) !== 1) {
                throw new \InvalidArgumentException('a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)');
            }
        }
        if ($pins !== [] && count(array_unique($pins)) < 2) {
            throw new \InvalidArgumentException(
                'pins must be at least two: without a spare one, a new key of the service locks every client out'
            );
        }
        if ($pins !== [] && $scheme !== 'https') {
            throw new \InvalidArgumentException('pins need https');
        }
    }

    /** Seconds of a clock that nobody turns. */
    public static function now(): float
    {
        return hrtime(true) / 1e9;
    }

    /**
     * @param array<string, string> $headers
     * @return array{int, int, string} status, seconds of Retry-After, body
     * @throws NoAnswer
     */
    public function request(string $method, string $path, array $headers, float $deadline, int $limit, ?string $body = null): array
    {
        try {
            return $this->send($method, $path, $headers, $deadline, $limit, $body, $this->pins);
        } catch (NoAnswer $failure) {
            if ($failure->problem !== 'pin_mismatch') {
                throw $failure;
            }
            ($this->report)('pin_mismatch');
            if ($this->pinMode === 'enforce') {
                throw $failure;
            }
            // Nothing was sent yet, and the certificate is checked all the same.
            return $this->send($method, $path, $headers, $deadline, $limit, $body, []);
        }
    }

    /**
     * @param array<string, string> $headers
     * @param list<string> $pins
     * @return array{int, int, string}
     */
    private function send(
        string $method,
        string $path,
        array $headers,
        float $deadline,
        int $limit,
        ?string $body,
        array $pins,
    ): array {
        $left = (int) (($deadline - self::now()) * 1000);
        if ($left <= 0) {
            throw new NoAnswer('timeout', true);
        }
        $data = '';
        $retryAfter = $headerBytes = 0;
        $isTooLarge = false;
        $curl = curl_init(rtrim($this->url, '/') . $path);
        curl_setopt_array($curl, [
            CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_HTTPHEADER => [...array_map(
                static fn (string $name, string $value): string => "$name: $value",
                array_keys($headers),
                $headers,
            ), 'Expect:'],
            CURLOPT_PROTOCOLS => CURLPROTO_HTTPS | CURLPROTO_HTTP,
            CURLOPT_HTTP_VERSION => CURL_HTTP_VERSION_1_1,
            CURLOPT_FOLLOWLOCATION => false,
            CURLOPT_PROXY => '',
            CURLOPT_FORBID_REUSE => true,
            CURLOPT_FRESH_CONNECT => true,
            // Without it, timeouts below a second end a process on some systems.
            CURLOPT_NOSIGNAL => true,
            CURLOPT_CONNECTTIMEOUT_MS => min((int) ($this->connectTimeout * 1000), $left),
            CURLOPT_TIMEOUT_MS => $left,
            CURLOPT_SSLVERSION => CURL_SSLVERSION_TLSv1_2,
            CURLOPT_SSL_VERIFYPEER => true,
            CURLOPT_SSL_VERIFYHOST => 2,
            CURLOPT_HEADERFUNCTION => static function ($_, string $line) use (&$retryAfter, &$headerBytes): int {
                $headerBytes += strlen($line);
                if (preg_match('/^retry-after:\s*([0-9]{1,6})\s*$/iD', $line, $found) === 1) {
                    $retryAfter = (int) $found[1];
                }
                return $headerBytes > self::MAXIMUM_HEADER_BYTES ? 0 : strlen($line);
            },
            CURLOPT_WRITEFUNCTION => static function ($_, string $chunk) use (&$data, &$isTooLarge, $limit): int {
                $isTooLarge = strlen($data) + strlen($chunk) > $limit;
                if ($isTooLarge) {
                    return 0;
                }
                $data .= $chunk;
                return strlen($chunk);
            },
        ]);
        if ($body !== null) {
            curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
        }
        if ($this->caFile !== null) {
            curl_setopt($curl, CURLOPT_CAINFO, $this->caFile);
        }
        if ($pins !== []) {
            $keys = array_map(static fn (string $pin): string => str_replace('sha256/', 'sha256//', $pin), $pins);
            curl_setopt($curl, CURLOPT_PINNEDPUBLICKEY, implode(';', $keys));
        }
        curl_exec($curl);
        $error = curl_errno($curl);
        $status = (int) curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        curl_close($curl);
        return match (true) {
            $isTooLarge => throw new NoAnswer('too_large'),
            $error === CURLE_OK => [$status, $retryAfter, $data],
            $error === CURLE_OPERATION_TIMEDOUT => throw new NoAnswer('timeout', true),
            $error === self::PIN_ERROR => throw new NoAnswer('pin_mismatch'),
            in_array($error, self::TLS_ERRORS, true) => throw new NoAnswer('tls'),
            default => throw new NoAnswer('connection', true),
        };
    }

    private static function isLoopback(string $host): bool
    {
        return $host === 'localhost' || $host === '[::1]' || (str_starts_with($host, '127.')
            && filter_var($host, FILTER_VALIDATE_IP, FILTER_FLAG_IPV4) !== false);
    }
}
