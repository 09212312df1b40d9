<?php

declare(strict_types=1);

namespace LicenseMetering;

/**
 * Usage on its way to the service: a bounded queue that never makes its caller wait. It is sent at the end of the request,
 * after the response where the server allows that, or by flush. A retry has the same ids, so that each event counts once.
 */
final class UsageQueue
{
    private const BATCH = 500;
    private const METER = '/^[a-z][a-z0-9_]{0,63}$/D';
    private const MAXIMUM_QUANTITY = 1_000_000_000;
    // The service will never take such a batch, however often it comes.
    private const FOR_GOOD = ['http_400', 'http_404', 'http_413', 'http_415', 'http_422'];

    /** @var list<array<string, mixed>> */
    private array $events = [];
    /** @var array{accepted: int, sent: int, rejected: int, dropped: int} */
    private array $counts = ['accepted' => 0, 'sent' => 0, 'rejected' => 0, 'dropped' => 0];
    private readonly string $source;
    private bool $isClosed = false;

    /**
     * @internal
     * @param \Closure(list<array<string, mixed>>, float): int $send gives how many the service refused for good
     * @param \Closure(string): void $report
     */
    public function __construct(
        private readonly \Closure $send,
        private readonly int $maximum,
        private readonly \Closure $report,
    ) {
        $this->source = 'sdk/php/' . bin2hex(random_bytes(16));
    }

    /** @return array{accepted: int, sent: int, rejected: int, dropped: int, pending: int} What became of the events so far. */
    public function statistics(): array
    {
        return [...$this->counts, 'pending' => count($this->events)];
    }

    /** @internal False: it was dropped, and counted. */
    public function record(?string $subject, string $meter, int $quantity, int $now, ?string $domain, ?string $feature): bool
    {
        $isGood = Json::plainText($subject, 512) !== null && preg_match(self::METER, $meter) === 1
            && $quantity >= 0 && $quantity <= self::MAXIMUM_QUANTITY;
        foreach ([$domain, $feature] as $text) {
            $isGood = $isGood && ($text === null || (Json::text($text, 1024) !== null && !str_contains($text, "\0")));
        }
        if (!$isGood || $this->isClosed || count($this->events) >= $this->maximum) {
            $this->counts['dropped']++;
            ($this->report)($isGood ? 'usage_dropped' : 'usage_invalid');
            return false;
        }
        $details = array_filter(['domain' => $domain, 'feature' => $feature], static fn (?string $text): bool => $text !== null);
        $this->events[] = [
            'specversion' => '1.0',
            'id' => self::uuid(),
            'source' => $this->source,
            'type' => 'license.usage.recorded',
            'subject' => $subject,
            'time' => gmdate('Y-m-d\TH:i:s', intdiv($now, 1000)) . sprintf('.%03dZ', $now % 1000),
            'data' => ['meter' => $meter, 'quantity' => $quantity, ...$details],
        ];
        $this->counts['accepted']++;
        return true;
    }

    /** Sends what is queued now, for at most so many seconds. Whether all of it went out. */
    public function flush(float $timeout = 5): bool
    {
        $deadline = Transport::now() + $timeout;
        while ($this->events !== [] && Transport::now() < $deadline) {
            if (!$this->deliver($deadline)) {
                usleep((int) (max(0, min(0.2, $deadline - Transport::now())) * 1e6));
            }
        }
        return $this->events === [];
    }

    /** Flushes, and takes nothing more. What is left is dropped, counted and reported. */
    public function close(float $timeout = 5): void
    {
        if ($this->isClosed) {
            return;
        }
        $this->flush($timeout);
        $this->isClosed = true;
        if ($this->events !== []) {
            $this->counts['dropped'] += count($this->events);
            $this->events = [];
            ($this->report)('usage_dropped');
        }
    }

    /** One batch, whose events stay in the queue until it is known what became of them. Whether that is known. */
    private function deliver(float $deadline): bool
    {
        $batch = array_slice($this->events, 0, self::BATCH);
        $rejected = 0;
        $problem = null;
        try {
            $rejected = ($this->send)($batch, max($deadline - Transport::now(), 0.1));
        } catch (NoAnswer $failure) {
            $problem = $failure->problem;
        }
        if ($problem !== null && !in_array($problem, self::FOR_GOOD, true)) {
            ($this->report)($problem);
            return false;
        }
        array_splice($this->events, 0, count($batch));
        if ($problem !== null) {
            $this->counts['dropped'] += count($batch);
            ($this->report)('usage_dropped');
            return true;
        }
        $this->counts['sent'] += count($batch) - $rejected;
        $this->counts['rejected'] += $rejected;
        if ($rejected > 0) {
            ($this->report)('usage_rejected');
        }
        return true;
    }

    private static function uuid(): string
    {
        $bytes = random_bytes(16);
        $bytes[6] = chr(ord($bytes[6]) & 0x0F | 0x40);
        $bytes[8] = chr(ord($bytes[8]) & 0x3F | 0x80);
        return vsprintf('%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex($bytes), 4));
    }
}
