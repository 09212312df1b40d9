<?php

declare(strict_types=1);

namespace LicenseMetering;

/** A client of one validation service. */
final class Client implements Validator
{
    public const VERSION = '0.1.0';

    private const MAXIMUM_ANSWER_BYTES = 65_536;
    private const MAXIMUM_KEYS_BYTES = 1 << 20;
    private const TRIES = 3;
    private const KEYS_PAUSE = 60;
    private const NO_IS_FRESH = 60_000;
    private const EXPLANATIONS = [
        'domain_mismatch' => 'The license is not valid for this domain.',
        'expired' => 'The license has expired.',
        'not_yet_valid' => 'The license is not valid yet.',
        'invalid_signature' => 'The license key is not accepted: it was not signed by its vendor, or was changed since.',
        'clock_rolled_back' => 'The clock is behind a time that the license service has signed.',
        'unreachable' => 'The license service gave no valid answer, and nothing is known about the license.',
    ];

    /** The queue of usage: flush, statistics. */
    public readonly UsageQueue $usage;

    private readonly Transport $transport;
    private readonly Cache $cache;
    private readonly bool $isCompiled;
    private ?KeySet $keys;
    private float $keysAsked = -INF;
    private float $pausedUntil = -INF;
    private string $problem = 'connection';
    private readonly \Closure $report;
    private readonly \Closure $clock;
    /** @var array<string, array{string, DomainName}> what is asked for after the response */
    private array $deferred = [];
    private bool $isShutdownRegistered = false;

    /**
     * @param string $url https://licenses.example.com; plain http is for loopback addresses
     * @param string|null $licenseKey what validate asks about unless it is told another: a license's id or its token
     * @param string|null $token an API token, needed for record (scope usage:write)
     * @param KeySet|string|null $keys the service's key set, shipped with the application; without it, it is fetched over TLS
     * @param list<string> $pins sha256/… of the service's public key (SPKI), at least two
     * @param string $pinMode enforce or report
     * @param string|null $caFile authorities to trust in PEM, in place of the system's
     * @param string|null $cacheDir keeps verdicts from one request to the next; without it, each request asks the service
     * @param float $freshFor seconds for which a verdict is used without asking: 60 to 3,600
     * @param float $graceFor seconds for which a verified "yes" is used while the service gives no answer; at most seven days
     * @param string $onUnknown graceThenDeny, allow or deny (which uses no grace)
     * @param bool $offlineFallback judge a license token itself where nothing is known and the service gives no answer
     * @param float $pauseAfterFailure seconds for which the service is left alone after a failure
     * @param (callable(string): void)|null $onProblem called with the name of each problem; must not throw
     * @param (callable(): int)|null $clock milliseconds since 1970; for tests
     */
    public function __construct(
        string $url,
        private readonly ?string $licenseKey = null,
        #[\SensitiveParameter] private readonly ?string $token = null,
        KeySet|string|null $keys = null,
        array $pins = [],
        string $pinMode = 'enforce',
        ?string $caFile = null,
        ?string $cacheDir = null,
        private readonly float $freshFor = 300,
        private readonly float $graceFor = LicenseClaims::GRACE_MILLISECONDS / 1000,
        private readonly string $onUnknown = 'graceThenDeny',
        private readonly bool $offlineFallback = false,
        float $connectTimeout = 2,
        private readonly float $totalTimeout = 5,
        private readonly float $pauseAfterFailure = 10,
        int $maxUsageQueue = 10_000,
        ?callable $onProblem = null,
        ?callable $clock = null,
    ) {
        if ($freshFor < 60 || $freshFor > 3600) {
            throw new \InvalidArgumentException('freshFor must be 60 to 3,600 seconds');
        }
        if ($graceFor < 0 || $graceFor > LicenseClaims::GRACE_MILLISECONDS / 1000) {
            throw new \InvalidArgumentException('graceFor must be 0 to 604,800 seconds: seven days');
        }
        if (!in_array($onUnknown, ['graceThenDeny', 'allow', 'deny'], true)) {
            throw new \InvalidArgumentException('onUnknown must be graceThenDeny, allow or deny');
        }
        $this->report = \Closure::fromCallable($onProblem ?? static function (string $problem): void {
        });
        $this->clock = \Closure::fromCallable($clock ?? static fn (): int => (int) (microtime(true) * 1000));
        $this->transport = new Transport($url, $connectTimeout, $pins, $pinMode, $caFile, $this->report);
        $this->cache = new Cache($cacheDir, $this->saved(...), $this->savedTime(...));
        $this->isCompiled = $keys !== null;
        $this->keys = is_string($keys) ? new KeySet($keys) : $keys ?? $this->savedKeys();
        $this->usage = new UsageQueue($this->sendUsage(...), $maxUsageQueue, $this->report);
    }

    /** Whether the license holds for a domain. Throws for wrong arguments alone, never for a "no". */
    public function validate(string $domain, ?string $licenseKey = null): Result
    {
        $key = $this->key($licenseKey);
        $name = DomainName::normalize($domain);
        if ($name === null) {
            return self::denied('domain_mismatch', 'offline');
        }
        $remembered = $this->remembered($key, $name);
        if ($remembered !== null) {
            return $remembered;
        }
        if (!$this->isPaused()) {
            try {
                return $this->result($this->ask($key, $name), 'online');
            } catch (NoAnswer) {
                // It is remembered as the problem.
            }
        }
        return $this->withoutAnswer($key, $name, $this->problem);
    }

    /** The verdict on a license token, by its signature alone. Needs keys, shipped or fetched before. */
    public function validateOffline(string $domain, ?string $licenseKey = null): Result
    {
        $key = $this->key($licenseKey);
        if ($this->isRolledBack()) {
            return self::denied('clock_rolled_back', 'offline');
        }
        if ($this->keys === null) {
            return self::denied('unreachable', 'offline', 'no_keys');
        }
        try {
            $claims = LicenseClaims::verify($key, $this->keys);
        } catch (TokenRefused $refusal) {
            return self::denied('invalid_signature', 'offline', $refusal->rule);
        }
        $code = $claims->judge($domain, ($this->clock)());
        $valid = $code === 'valid' || $code === 'grace';
        return new Result(
            $valid,
            $code,
            'offline',
            licenseId: $claims->licenseId,
            plan: $claims->plan,
            features: new Features($valid ? $claims->features : []),
            limits: $claims->limits,
            expiresAt: $claims->expiresAt,
            grace: $code === 'grace',
            explanation: $valid ? null : self::EXPLANATIONS[$code] ?? null,
        );
    }

    /** Queues usage, without waiting. False where it was dropped: the queue is full, or an argument is wrong. */
    public function record(
        string $meter,
        int $quantity = 1,
        ?string $licenseId = null,
        ?string $domain = null,
        ?string $feature = null,
    ): bool {
        $own = $this->licenseKey !== null && !str_contains($this->licenseKey, '.') ? $this->licenseKey : null;
        $isTaken = $this->usage->record($licenseId ?? $own, $meter, $quantity, ($this->clock)(), $domain, $feature);
        $this->registerShutdown();
        return $isTaken;
    }

    /** Sends what is queued, for at most so many seconds. */
    public function close(float $timeout = 5): void
    {
        $this->usage->close($timeout);
    }

    /**
     * Refreshes what was answered from the cache, and sends usage. It is called after the response by itself; a worker that
     * answers many requests in one process calls it between them.
     */
    public function runDeferred(): void
    {
        $deferred = $this->deferred;
        $this->deferred = [];
        foreach ($deferred as [$key, $name]) {
            try {
                $this->ask($key, $name);
            } catch (NoAnswer) {
                // It was reported.
            }
        }
        $this->usage->flush();
    }

    // --- What is remembered -------------------------------------------------------------------------------------------

    private function remembered(string $key, DomainName $name): ?Result
    {
        if ($this->isRolledBack()) {
            return self::denied('clock_rolled_back', 'none');
        }
        $entry = $this->cache->get($key, $name);
        if ($entry === null || $this->age($entry) >= $this->freshness($entry)) {
            $entry = $this->cache->load($key, $name);
        }
        if ($entry === null || $this->isOver($entry[0])) {
            return null;
        }
        $age = $this->age($entry);
        if ($age < $this->freshness($entry)) {
            return $this->result($entry, 'cache');
        }
        if (!$entry[0]->valid || $age >= 2 * $this->freshFor * 1000) {
            return null;
        }
        if (!$this->isPaused()) {
            $this->deferred["$key\0$name->text"] = [$key, $name];
            $this->registerShutdown();
        }
        return $this->result($entry, 'cache');
    }

    private function withoutAnswer(string $key, DomainName $name, string $problem): Result
    {
        if ($this->isRolledBack()) {
            return self::denied('clock_rolled_back', 'none', $problem);
        }
        $entry = $this->cache->load($key, $name);
        if ($entry !== null && !$entry[0]->valid) {
            return $this->result($entry, 'cache', $problem);
        }
        if ($entry !== null && $this->onUnknown !== 'deny') {
            $now = ($this->clock)();
            $ends = $entry[0]->expiresAt;
            if ($ends !== null && $now >= $ends + LicenseClaims::GRACE_MILLISECONDS) {
                return self::denied('expired', 'cache', $problem);
            }
            if ($now - $entry[0]->timestamp <= $this->graceFor * 1000) {
                return $this->result($entry, 'grace', $problem);
            }
        }
        if ($this->offlineFallback && $this->keys !== null) {
            $offline = $this->validateOffline($name->text, $key);
            if ($offline->problem === null) {
                return $offline;
            }
        }
        $explanation = self::EXPLANATIONS['unreachable'];
        return new Result($this->onUnknown === 'allow', 'unreachable', 'none', explanation: $explanation, problem: $problem);
    }

    private function isRolledBack(): bool
    {
        return ($this->clock)() < $this->cache->highest() - Verdict::TOLERANCE_MILLISECONDS;
    }

    /** @param array{Verdict, string, int} $entry */
    private function age(array $entry): int
    {
        return max(0, ($this->clock)() - $entry[2]);
    }

    /** @param array{Verdict, string, int} $entry */
    private function freshness(array $entry): float
    {
        $fresh = $this->freshFor * 1000;
        return $entry[0]->valid ? $fresh : min($fresh, self::NO_IS_FRESH);
    }

    /** Whether the license has reached an end since: it is asked about then. */
    private function isOver(Verdict $verdict): bool
    {
        return $verdict->expiresAt !== null && $verdict->valid
            && ($this->clock)() >= $verdict->expiresAt + ($verdict->grace ? LicenseClaims::GRACE_MILLISECONDS : 0);
    }

    /** @param array{Verdict, string, int} $entry */
    private function result(array $entry, string $source, ?string $problem = null): Result
    {
        [$verdict] = $entry;
        $now = ($this->clock)();
        $grace = $verdict->grace || ($verdict->valid && $verdict->expiresAt !== null && $now >= $verdict->expiresAt);
        return new Result(
            $verdict->valid,
            $grace && $verdict->code === 'valid' ? 'grace' : $verdict->code,
            $source,
            $source === 'online' ? 0 : max(0, $now - $verdict->timestamp) / 1000,
            $verdict->licenseId,
            $verdict->plan,
            new Features($verdict->valid ? $verdict->features : []),
            $verdict->limits,
            $verdict->expiresAt,
            $grace,
            $verdict->overLimit,
            $verdict->error,
            $problem,
        );
    }

    private static function denied(string $code, string $source, ?string $problem = null): Result
    {
        return new Result(false, $code, $source, explanation: self::EXPLANATIONS[$code] ?? null, problem: $problem);
    }

    // --- Asking -------------------------------------------------------------------------------------------------------

    private function isPaused(): bool
    {
        if (Transport::now() < $this->pausedUntil) {
            return true;
        }
        if ($this->pauseAfterFailure <= 0) {
            return false;
        }
        [$until, $problem] = $this->cache->savedPause();
        $left = $until - (int) (microtime(true) * 1000);
        // A file of a clock that was turned back holds up nothing.
        if ($left <= 0 || $left > 300_000) {
            return false;
        }
        $this->problem = $problem;
        return true;
    }

    /**
     * @return array{Verdict, string, int}
     * @throws NoAnswer
     */
    private function ask(string $key, DomainName $name): array
    {
        try {
            $entry = $this->answer($key, $name);
        } catch (NoAnswer $failure) {
            $pause = max($this->pauseAfterFailure, min($failure->retryAfter, 300));
            $this->problem = $failure->problem;
            $this->pausedUntil = Transport::now() + $pause;
            if ($pause > 0) {
                $this->cache->savePause((int) ((microtime(true) + $pause) * 1000), $failure->problem);
            }
            ($this->report)($failure->problem);
            throw $failure;
        }
        $this->cache->put($key, $name, $entry);
        return $entry;
    }

    /** @return array{Verdict, string, int} */
    private function answer(string $key, DomainName $name): array
    {
        $deadline = Transport::now() + $this->totalTimeout;
        $nonce = bin2hex(random_bytes(16));
        $headers = [...$this->headers('application/json'), 'Idempotency-Key' => bin2hex(random_bytes(16))];
        $body = json_encode(['licenseKey' => $key, 'domain' => $name->text, 'nonce' => $nonce], JSON_THROW_ON_ERROR);
        $answer = $this->retrying('POST', '/v1/licenses/validate', $headers, $deadline, self::MAXIMUM_ANSWER_BYTES, $body);
        $signature = Json::text(Json::object($answer)?->get('signature')) ?? throw new NoAnswer('untrusted');
        return [$this->verified($signature, $key, $name, $nonce, $deadline), $signature, ($this->clock)()];
    }

    private function verified(string $signature, string $key, DomainName $name, string $nonce, float $deadline): Verdict
    {
        $keys = $this->keys ?? $this->fetchKeys($deadline);
        try {
            return Verdict::verify($signature, $keys, $key, $name, $nonce, ($this->clock)());
        } catch (TokenRefused $refusal) {
            $isFetched = $this->isCompiled || Transport::now() < $this->keysAsked + self::KEYS_PAUSE;
            if ($refusal->rule !== 'unknown_key' || $isFetched) {
                throw new NoAnswer('untrusted');
            }
        }
        try {
            // The service may have a new key; it is asked at most once a minute.
            return Verdict::verify($signature, $this->fetchKeys($deadline), $key, $name, $nonce, ($this->clock)());
        } catch (TokenRefused) {
            throw new NoAnswer('untrusted');
        }
    }

    private function fetchKeys(float $deadline): KeySet
    {
        $this->keysAsked = Transport::now();
        $body = $this->retrying('GET', '/.well-known/jwks.json', $this->headers(), $deadline, self::MAXIMUM_KEYS_BYTES);
        try {
            $keys = new KeySet($body);
        } catch (InvalidKeySet) {
            throw new NoAnswer('untrusted');
        }
        $this->cache->saveKeys($body);
        return $this->keys = $keys;
    }

    /** @param array<string, string> $headers */
    private function retrying(
        string $method,
        string $path,
        array $headers,
        float $deadline,
        int $limit,
        ?string $body = null,
    ): string {
        for ($retry = 0;; $retry++) {
            try {
                [$status, $retryAfter, $answer] = $this->transport->request($method, $path, $headers, $deadline, $limit, $body);
                return $status === 200 ? $answer : throw NoAnswer::ofStatus($status, $retryAfter);
            } catch (NoAnswer $failure) {
                $delay = max(random_int(50, 100) / 1000 * 2 ** $retry, $failure->retryAfter);
                if (!$failure->isTemporary || $retry === self::TRIES - 1 || Transport::now() + $delay >= $deadline) {
                    throw $failure;
                }
                usleep((int) ($delay * 1e6));
            }
        }
    }

    /** @return array<string, string> */
    private function headers(?string $contentType = null): array
    {
        return array_filter([
            'Accept' => 'application/json',
            'User-Agent' => 'license-metering-php/' . self::VERSION,
            'Content-Type' => $contentType,
            'Authorization' => $this->token === null ? null : "Bearer $this->token",
        ], static fn (?string $value): bool => $value !== null);
    }

    /** @param list<array<string, mixed>> $events */
    private function sendUsage(array $events, float $timeout): int
    {
        $deadline = Transport::now() + min($timeout, $this->totalTimeout);
        $headers = $this->headers('application/cloudevents-batch+json');
        $body = json_encode($events, JSON_THROW_ON_ERROR);
        [$status, $retryAfter, $answer] = $this->transport->request(
            'POST',
            '/v1/events',
            $headers,
            $deadline,
            self::MAXIMUM_KEYS_BYTES,
            $body,
        );
        if ($status !== 202) {
            throw NoAnswer::ofStatus($status, $retryAfter);
        }
        $members = json_decode($answer, true, 16);
        $rejected = is_array($members) ? $members['rejected'] ?? null : null;
        return is_array($rejected) ? min(count($rejected), count($events)) : throw new NoAnswer('untrusted', true);
    }

    private function registerShutdown(): void
    {
        if ($this->isShutdownRegistered) {
            return;
        }
        $this->isShutdownRegistered = true;
        $client = \WeakReference::create($this);
        register_shutdown_function(static function () use ($client): void {
            if (function_exists('fastcgi_finish_request')) {
                fastcgi_finish_request();
            }
            $client->get()?->runDeferred();
            $client->get()?->close(0);
        });
    }

    /** What nobody refers to any more is sent all the same. */
    public function __destruct()
    {
        if (isset($this->usage)) {
            $this->usage->close();
        }
    }

    private function key(?string $licenseKey): string
    {
        return Json::plainText($licenseKey ?? $this->licenseKey, 8192) ?? throw new \InvalidArgumentException(
            'licenseKey must be a text of 1 to 8,192 bytes without control characters'
        );
    }

    private function saved(string $signature, string $key, DomainName $name): ?Verdict
    {
        try {
            return $this->keys === null ? null : Verdict::verify($signature, $this->keys, $key, $name, null, null);
        } catch (TokenRefused) {
            return null; // What was changed is not known.
        }
    }

    private function savedTime(string $signature): int
    {
        return $this->keys === null ? 0 : Verdict::signedTime($signature, $this->keys);
    }

    private function savedKeys(): ?KeySet
    {
        $keys = $this->cache->savedKeys();
        try {
            return $keys === null ? null : new KeySet($keys);
        } catch (InvalidKeySet) {
            return null; // Keys that cannot be read are fetched.
        }
    }
}
