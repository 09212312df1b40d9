#!/usr/bin/env php
<?php

// Lets the conformance runner try this SDK: a JSON object a line in, one a line out.

declare(strict_types=1);

namespace LicenseMetering\Conformance;

use LicenseMetering\Client;
use LicenseMetering\DomainName;
use LicenseMetering\FakeClient;
use LicenseMetering\InvalidKeySet;
use LicenseMetering\KeySet;
use LicenseMetering\LicenseClaims;
use LicenseMetering\LicenseMiddleware;
use LicenseMetering\Result;
use LicenseMetering\TokenRefused;
use LicenseMetering\Verdict;

spl_autoload_register(static function (string $class): void {
    $file = __DIR__ . '/../src/' . str_replace('\\', '/', substr($class, strlen('LicenseMetering\\'))) . '.php';
    if (str_starts_with($class, 'LicenseMetering\\') && is_file($file)) {
        require $file;
    }
});
if (is_file('/usr/share/php/Nyholm/Psr7/autoload.php')) {
    require '/usr/share/php/Nyholm/Psr7/autoload.php';
}
set_error_handler(static function (int $level, string $message, string $file, int $line): bool {
    if ((error_reporting() & $level) === 0) {
        return false;
    }
    throw new \ErrorException($message, 0, $level, $file, $line);
});

final class Driver
{
    private ?Client $client = null;
    private int $offset = 0;
    /** @var list<string> */
    private array $problems = [];

    /** @param array<string, mixed> $q */
    public function answer(array $q): mixed
    {
        return match ($q['op']) {
            'hello' => [
                'idna' => function_exists('idn_to_ascii'),
                'frameworks' => self::hasPsr15() ? ['psr-15'] : [],
            ],
            'keyset' => $this->keySet($q),
            'license' => $this->license($q),
            'verdict' => $this->verdict($q),
            'domain' => $this->domain($q),
            'covers' => ['covers' => DomainName::normalize($q['domain'])?->isCoveredBy($q['bound']) ?? false],
            'offline' => $this->offline($q),
            'open' => $this->open($q['options']),
            'validate' => self::shown($this->client->validate($q['domain'], $q['licenseKey'] ?? null)),
            'validateOffline' => self::shown($this->client->validateOffline($q['domain'], $q['licenseKey'] ?? null)),
            'validateMany' => ['results' => array_map(
                fn (): array => self::shown($this->client->validate($q['domain'])),
                range(1, $q['count']),
            )],
            'clock' => ['offset' => $this->offset = $q['offset']],
            'record' => ['accepted' => count(array_filter(array_map(
                fn (): bool => $this->client->record($q['meter'], $q['quantity'] ?? 1),
                range(1, $q['count'] ?? 1),
            )))],
            'flush' => ['flushed' => $this->client->usage->flush($q['timeout'] ?? 5), ...$this->statistics()],
            'statistics' => $this->statistics(),
            'problems' => ['problems' => array_splice($this->problems, 0)],
            'close' => $this->close($q['timeout'] ?? 5),
            'middleware' => $this->middleware($q),
        };
    }

    /** What a worker does between requests. Usage is left to flush, so that a scenario can look at the queue. */
    public function afterwards(array $q): void
    {
        if ($this->client?->usage->statistics()['pending'] === 0) {
            $this->client->runDeferred();
        }
    }

    private static function hasPsr15(): bool
    {
        return interface_exists(\Psr\Http\Server\MiddlewareInterface::class) && class_exists(\Nyholm\Psr7\ServerRequest::class);
    }

    private function keySet(array $q): array
    {
        try {
            return ['keys' => array_map(static fn ($key) => "$key->keyId $key->algorithm $key->purpose", (new KeySet($q['set']))->keys)];
        } catch (InvalidKeySet) {
            return ['invalid' => true];
        }
    }

    private function license(array $q): array
    {
        try {
            $claims = LicenseClaims::verify($q['token'], new KeySet($q['keys']));
        } catch (TokenRefused $refusal) {
            return array_filter(['refusal' => $refusal->rule, 'claim' => $refusal->claim]);
        }
        $members = [
            'licenseId' => $claims->licenseId, 'domains' => $claims->domains, 'plan' => $claims->plan,
            'features' => $claims->features, 'limits' => (object) $claims->limits, 'issuedAt' => $claims->issuedAt,
            'expiresAt' => $claims->expiresAt, 'trial' => $claims->isTrial,
        ];
        return ['claims' => $claims->notBefore === null ? $members : [...$members, 'notBefore' => $claims->notBefore]];
    }

    private function verdict(array $q): array|object
    {
        try {
            $domain = DomainName::normalize($q['domain']);
            Verdict::verify($q['token'], new KeySet($q['keys']), $q['licenseKey'], $domain, $q['nonce'], $q['now']);
        } catch (TokenRefused $refusal) {
            return ['refusal' => $refusal->rule];
        }
        return new \stdClass();
    }

    private function domain(array $q): array
    {
        $name = DomainName::normalize($q['text']);
        return ['name' => $name?->text, 'local' => $name?->isLocal() ?? false];
    }

    private function offline(array $q): array
    {
        try {
            $code = LicenseClaims::verify($q['token'], new KeySet($q['keys']))->judge($q['domain'], $q['now']);
        } catch (TokenRefused) {
            $code = 'invalid_signature';
        }
        return ['code' => $code, 'valid' => $code === 'valid' || $code === 'grace'];
    }

    private function open(array $options): array|object
    {
        $this->offset = 0;
        $this->problems = [];
        try {
            $this->client = new Client(
                ...$options,
                onProblem: function (string $problem): void {
                    $this->problems[] = $problem;
                },
                clock: fn (): int => (int) (microtime(true) * 1000) + $this->offset,
            );
        } catch (\InvalidArgumentException $error) {
            return ['error' => $error->getMessage()];
        }
        return new \stdClass();
    }

    private function statistics(): array
    {
        return ['statistics' => $this->client->usage->statistics()];
    }

    private function close(float $timeout): array
    {
        $this->client->close($timeout);
        return $this->statistics();
    }

    private function middleware(array $q): array
    {
        $fake = $q['valid'] ? FakeClient::valid(...$q['features'] ?? []) : FakeClient::denied($q['code']);
        $handler = new class () implements \Psr\Http\Server\RequestHandlerInterface {
            public ?bool $feature = null;

            public function handle(\Psr\Http\Message\ServerRequestInterface $request): \Psr\Http\Message\ResponseInterface
            {
                $this->feature = $request->getAttribute('license')->features->has('analytics');
                return new \Nyholm\Psr7\Response(200);
            }
        };
        $request = new \Nyholm\Psr7\ServerRequest('GET', '/', ['Host' => $q['host']], serverParams: ['REMOTE_ADDR' => $q['peer']]);
        if (isset($q['forwarded'])) {
            $request = $request->withHeader('X-Forwarded-Host', $q['forwarded']);
        }
        $factory = new \Nyholm\Psr7\Factory\Psr17Factory();
        $response = (new LicenseMiddleware($fake, $factory, $q['domain'] ?? null, $q['trusted']))->process($request, $handler);
        $body = json_decode((string) $response->getBody(), true);
        return [
            'status' => $response->getStatusCode(), 'asked' => $fake->asked[0], 'feature' => $handler->feature,
            'code' => $body['code'] ?? null,
        ];
    }

    private static function shown(Result $result): array
    {
        $features = iterator_to_array($result->features);
        sort($features);
        return [
            'valid' => $result->valid, 'code' => $result->code, 'source' => $result->source, 'age' => (int) $result->age,
            'features' => $features, 'grace' => $result->grace, 'problem' => $result->problem,
        ];
    }
}

$driver = new Driver();
while (($line = fgets(STDIN)) !== false) {
    $question = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    fwrite(STDOUT, json_encode($driver->answer($question), JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE) . "\n");
    $driver->afterwards($question);
}
