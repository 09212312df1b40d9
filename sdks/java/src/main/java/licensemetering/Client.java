package licensemetering;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.LongSupplier;

/** A client of one validation service, for all threads of a process. */
public final class Client implements Validator, AutoCloseable {
    /** Of this SDK. */
    public static final String VERSION = "0.1.0";

    private static final int MAXIMUM_ANSWER_BYTES = 65_536;
    private static final int MAXIMUM_KEYS_BYTES = 1 << 20;
    private static final int TRIES = 3;
    private static final long KEYS_PAUSE = Duration.ofMinutes(1).toNanos();
    private static final Duration MAXIMUM_PAUSE = Duration.ofMinutes(5);
    private static final long NO_IS_FRESH = 60_000;
    private static final SecureRandom RANDOM = new SecureRandom();

    private final Options options;
    private final Transport transport;
    private final Cache cache;
    private final UsageQueue usage;
    private final ExecutorService asking;
    private final Map<Cache.Key, CompletableFuture<Cache.Entry>> flights = new ConcurrentHashMap<>();
    private volatile KeySet keys;
    private volatile long keysAsked = System.nanoTime() - KEYS_PAUSE;
    private volatile long pausedUntil = System.nanoTime();
    private volatile String problem = "connection";

    /**
     * What became of the usage that was recorded.
     *
     * @param accepted into the queue
     * @param sent and taken by the service
     * @param rejected by the service for good
     * @param dropped here
     * @param pending still in the queue
     */
    public record UsageStatistics(long accepted, long sent, long rejected, long dropped, long pending) {
    }

    /** Options of a client; each method gives the options back. */
    public static final class Options {
        final String url;
        String licenseKey;
        String token;
        KeySet keys;
        List<String> pins = List.of();
        String pinMode = "enforce";
        Path caFile;
        Path cacheDir;
        Duration freshFor = Duration.ofMinutes(5);
        Duration graceFor = Duration.ofDays(7);
        String onUnknown = "graceThenDeny";
        boolean offlineFallback;
        Duration connectTimeout = Duration.ofSeconds(2);
        Duration totalTimeout = Duration.ofSeconds(5);
        Duration pauseAfterFailure = Duration.ofSeconds(10);
        int maxUsageQueue = 10_000;
        Consumer<String> onProblem = problem -> { };
        LongSupplier clock = System::currentTimeMillis;

        /**
         * Options of a client.
         *
         * @param url https://licenses.example.com; plain http is for loopback addresses
         */
        public Options(String url) {
            this.url = url;
        }

        /**
         * A license's id or its token.
         *
         * @param key what validate asks about
         * @return these options
         */
        public Options licenseKey(String key) {
            licenseKey = key;
            return this;
        }

        /**
         * An API token, needed for record (scope usage:write).
         *
         * @param value the token
         * @return these options
         */
        public Options token(String value) {
            token = value;
            return this;
        }

        /**
         * The service's key set, compiled in. Without it, it is fetched from the service over TLS.
         *
         * @param set the keys
         * @return these options
         */
        public Options keys(KeySet set) {
            keys = set;
            return this;
        }

        /**
         * Pins of the service's public key (SPKI).
         *
         * @param values sha256/…, at least two
         * @return these options
         */
        public Options pins(List<String> values) {
            pins = List.copyOf(values);
            return this;
        }

        /**
         * What a key that is not pinned does.
         *
         * @param mode enforce or report
         * @return these options
         */
        public Options pinMode(String mode) {
            pinMode = mode;
            return this;
        }

        /**
         * Authorities to trust in PEM, in place of the system's.
         *
         * @param file their certificates
         * @return these options
         */
        public Options caFile(Path file) {
            caFile = file;
            return this;
        }

        /**
         * Keeps verdicts over a restart.
         *
         * @param folder of this application alone
         * @return these options
         */
        public Options cacheDir(Path folder) {
            cacheDir = folder;
            return this;
        }

        /**
         * How long a verdict is used without asking.
         *
         * @param time 1 minute to 1 hour
         * @return these options
         */
        public Options freshFor(Duration time) {
            freshFor = time;
            return this;
        }

        /**
         * How long a verified "yes" is used while the service gives no answer.
         *
         * @param time at most seven days
         * @return these options
         */
        public Options graceFor(Duration time) {
            graceFor = time;
            return this;
        }

        /**
         * What happens when nothing is known.
         *
         * @param mode graceThenDeny, allow or deny (which uses no grace)
         * @return these options
         */
        public Options onUnknown(String mode) {
            onUnknown = mode;
            return this;
        }

        /**
         * Whether a license token is judged by itself where nothing is known and the service gives no answer.
         *
         * @param isOn true: it is
         * @return these options
         */
        public Options offlineFallback(boolean isOn) {
            offlineFallback = isOn;
            return this;
        }

        /**
         * How long a question may take.
         *
         * @param connect for the connection
         * @param total for all, retries included
         * @return these options
         */
        public Options timeouts(Duration connect, Duration total) {
            connectTimeout = connect;
            totalTimeout = total;
            return this;
        }

        /**
         * How long the service is left alone after a failure.
         *
         * @param time 10 s by default
         * @return these options
         */
        public Options pauseAfterFailure(Duration time) {
            pauseAfterFailure = time;
            return this;
        }

        /**
         * How much usage may wait.
         *
         * @param events 10,000 by default
         * @return these options
         */
        public Options maxUsageQueue(int events) {
            maxUsageQueue = events;
            return this;
        }

        /**
         * Called with the name of each problem, from any thread.
         *
         * @param report must not throw
         * @return these options
         */
        public Options onProblem(Consumer<String> report) {
            onProblem = report;
            return this;
        }

        /**
         * For tests.
         *
         * @param milliseconds since 1970
         * @return these options
         */
        public Options clock(LongSupplier milliseconds) {
            clock = milliseconds;
            return this;
        }

        private void check() {
            if (freshFor.compareTo(Duration.ofMinutes(1)) < 0 || freshFor.compareTo(Duration.ofHours(1)) > 0) {
                throw new IllegalArgumentException("freshFor must be 1 minute to 1 hour");
            }
            if (graceFor.isNegative() || graceFor.compareTo(Duration.ofDays(7)) > 0) {
                throw new IllegalArgumentException("graceFor must be at most seven days");
            }
            if (!List.of("graceThenDeny", "allow", "deny").contains(onUnknown)) {
                throw new IllegalArgumentException("onUnknown must be graceThenDeny, allow or deny");
            }
        }
    }

    /**
     * A client; it asks nothing yet.
     *
     * @param options of which the URL is needed
     * @throws IllegalArgumentException where an option cannot be meant
     */
    public Client(Options options) {
        options.check();
        this.options = options;
        transport = new Transport(options);
        keys = options.keys;
        cache = new Cache(options.cacheDir, this::saved, this::savedTime);
        usage = new UsageQueue(this::sendUsage, options.maxUsageQueue, options.onProblem);
        ThreadPoolExecutor pool = new ThreadPoolExecutor(16, 16, 10, TimeUnit.SECONDS, new LinkedBlockingQueue<>(1000), task -> {
            Thread thread = new Thread(task, "license-metering");
            thread.setDaemon(true);
            return thread;
        });
        pool.allowCoreThreadTimeOut(true);
        asking = pool;
        if (keys == null) {
            keys = savedKeys();
        }
    }

    @Override
    public Result validate(String domain) {
        return validate(domain, options.licenseKey);
    }

    /**
     * As validate, for another license key than the client's.
     *
     * @param domain where the application runs
     * @param licenseKey a license's id or its token
     * @return the verdict
     */
    public Result validate(String domain, String licenseKey) {
        String key = checked(licenseKey);
        DomainName name = DomainName.normalize(domain);
        if (name == null) {
            return Result.denied("domain_mismatch", "offline", null);
        }
        Result remembered = remembered(key, name);
        if (remembered != null) {
            return remembered;
        }
        String reason = problem;
        if (!isPaused()) {
            try {
                return Result.of(ask(key, name).get().verdict(), "online", now(), null);
            } catch (ExecutionException failure) {
                reason = failure.getCause() instanceof NoAnswer none ? none.problem : "connection";
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                reason = "timeout";
            }
        }
        return withoutAnswer(key, name, reason);
    }

    /**
     * The verdict on a license token, by its signature alone. It needs keys, compiled in or fetched before.
     *
     * @param domain where the application runs
     * @param licenseKey a license token; null: the client's
     * @return the verdict
     */
    public Result validateOffline(String domain, String licenseKey) {
        String key = checked(licenseKey == null ? options.licenseKey : licenseKey);
        KeySet known = keys;
        if (isRolledBack()) {
            return Result.denied("clock_rolled_back", "offline", null);
        }
        if (known == null) {
            return Result.denied("unreachable", "offline", "no_keys");
        }
        try {
            LicenseClaims claims = LicenseClaims.verify(key, known);
            return Result.offline(claims, claims.judge(domain, now()));
        } catch (TokenRefusedException refusal) {
            return Result.denied("invalid_signature", "offline", refusal.code());
        }
    }

    /**
     * Queues usage of the client's license, without waiting.
     *
     * @param meter such as exports
     * @param quantity 0 to 10^9
     * @return false where it was dropped: the queue is full, or an argument is wrong
     */
    public boolean record(String meter, long quantity) {
        return record(meter, quantity, null, null, null);
    }

    /**
     * Queues usage, without waiting.
     *
     * @param meter such as exports
     * @param quantity 0 to 10^9
     * @param licenseId whose it is; null: the client's, where its license key is an id
     * @param domain where it happened; may be null
     * @param feature what was used; may be null
     * @return false where it was dropped: the queue is full, or an argument is wrong
     */
    public boolean record(String meter, long quantity, String licenseId, String domain, String feature) {
        String own = options.licenseKey != null && options.licenseKey.indexOf('.') < 0 ? options.licenseKey : null;
        return usage.record(licenseId == null ? own : licenseId, meter, quantity, now(), domain, feature);
    }

    /**
     * Sends the usage that is queued now.
     *
     * @param timeout at most so long
     * @return whether all of it went out
     * @throws InterruptedException where the thread is interrupted
     */
    public boolean flush(Duration timeout) throws InterruptedException {
        return usage.flush(timeout);
    }

    /**
     * What became of the usage so far.
     *
     * @return its counts
     */
    public UsageStatistics usageStatistics() {
        return usage.statistics();
    }

    /** Sends what is queued, for at most 5 s, and takes no usage any more. */
    @Override
    public void close() {
        close(Duration.ofSeconds(5));
    }

    /**
     * As close, for at most so long.
     *
     * @param timeout for the queue
     */
    public void close(Duration timeout) {
        usage.close(timeout);
    }

    // What is remembered.

    private Result remembered(String key, DomainName name) {
        if (isRolledBack()) {
            return Result.denied("clock_rolled_back", "none", null);
        }
        Cache.Entry entry = cache.get(key, name);
        if (entry == null || age(entry) >= freshness(entry)) {
            entry = cache.load(key, name);
        }
        if (entry == null || isOver(entry.verdict())) {
            return null;
        }
        long age = age(entry);
        if (age < freshness(entry)) {
            return Result.of(entry.verdict(), "cache", now(), null);
        }
        if (!entry.verdict().valid() || age >= 2 * options.freshFor.toMillis()) {
            return null;
        }
        if (!isPaused()) {
            ask(key, name);
        }
        return Result.of(entry.verdict(), "cache", now(), null);
    }

    private Result withoutAnswer(String key, DomainName name, String reason) {
        if (isRolledBack()) {
            return Result.denied("clock_rolled_back", "none", reason);
        }
        Cache.Entry entry = cache.load(key, name);
        long now = now();
        if (entry != null && !entry.verdict().valid()) {
            return Result.of(entry.verdict(), "cache", now, reason);
        }
        if (entry != null && !options.onUnknown.equals("deny")) {
            Long ends = entry.verdict().expiresAt();
            if (ends != null && now >= ends + LicenseClaims.GRACE_MILLISECONDS) {
                return Result.denied("expired", "cache", reason);
            }
            if (now - entry.verdict().timestamp() <= options.graceFor.toMillis()) {
                return Result.of(entry.verdict(), "grace", now, reason);
            }
        }
        if (options.offlineFallback) {
            Result offline = validateOffline(name.text(), key);
            if (offline.problem() == null) {
                return offline;
            }
        }
        return Result.unknown(options.onUnknown.equals("allow"), reason);
    }

    private long now() {
        return options.clock.getAsLong();
    }

    private boolean isRolledBack() {
        return now() < cache.highest() - Verdict.TOLERANCE_MILLISECONDS;
    }

    private long age(Cache.Entry entry) {
        return Math.max(0, now() - entry.received());
    }

    private long freshness(Cache.Entry entry) {
        long fresh = options.freshFor.toMillis();
        return entry.verdict().valid() ? fresh : Math.min(fresh, NO_IS_FRESH);
    }

    /** Whether the license has reached an end since: it is asked about then. */
    private boolean isOver(Verdict verdict) {
        Long ends = verdict.expiresAt();
        return ends != null && verdict.valid() && now() >= ends + (verdict.grace() ? LicenseClaims.GRACE_MILLISECONDS : 0);
    }

    // Asking.

    private boolean isPaused() {
        return System.nanoTime() - pausedUntil < 0;
    }

    /** Equal questions that are on their way are one. */
    private CompletableFuture<Cache.Entry> ask(String key, DomainName name) {
        Cache.Key question = new Cache.Key(key, name.text());
        CompletableFuture<Cache.Entry> own = new CompletableFuture<>();
        CompletableFuture<Cache.Entry> known = flights.putIfAbsent(question, own);
        if (known != null) {
            return known;
        }
        try {
            asking.execute(() -> fly(own, question, name));
        } catch (RejectedExecutionException full) {
            flights.remove(question, own);
            own.completeExceptionally(new NoAnswer("timeout", true));
        }
        return own;
    }

    private void fly(CompletableFuture<Cache.Entry> flight, Cache.Key question, DomainName name) {
        Cache.Entry entry = null;
        Exception failure = null;
        try {
            entry = answer(question.licenseKey(), name);
            cache.put(question.licenseKey(), name, entry);
        } catch (NoAnswer none) {
            failure = none;
            Duration asked = none.retryAfter.compareTo(MAXIMUM_PAUSE) < 0 ? none.retryAfter : MAXIMUM_PAUSE;
            Duration pause = asked.compareTo(options.pauseAfterFailure) > 0 ? asked : options.pauseAfterFailure;
            problem = none.problem;
            pausedUntil = System.nanoTime() + pause.toNanos();
            options.onProblem.accept(none.problem);
        } catch (RuntimeException unexpected) {
            failure = unexpected;
        }
        flights.remove(question, flight);
        if (failure == null) {
            flight.complete(entry);
        } else {
            flight.completeExceptionally(failure);
        }
    }

    private Cache.Entry answer(String key, DomainName name) throws NoAnswer {
        long deadline = System.nanoTime() + options.totalTimeout.toNanos();
        String nonce = random();
        Map<String, String> headers = headers("application/json");
        headers.put("Idempotency-Key", random());
        String body = Json.write(Map.of("licenseKey", key, "domain", name.text(), "nonce", nonce));
        byte[] data = retrying("POST", "/v1/licenses/validate", headers, deadline, MAXIMUM_ANSWER_BYTES, body);
        Json.Members members = Json.members(data);
        String signature = members == null ? null : Json.text(members.get("signature"));
        if (signature == null) {
            throw NoAnswer.untrusted();
        }
        return new Cache.Entry(verified(signature, key, name, nonce, deadline), signature, now());
    }

    private Verdict verified(String signature, String key, DomainName name, String nonce, long deadline) throws NoAnswer {
        KeySet known = keys == null ? fetchKeys(deadline) : keys;
        try {
            return Verdict.verify(signature, known, key, name, nonce, now());
        } catch (TokenRefusedException refusal) {
            boolean mayFetch = options.keys == null && System.nanoTime() - keysAsked >= KEYS_PAUSE;
            if (!refusal.code().equals("unknown_key") || !mayFetch) {
                throw NoAnswer.untrusted();
            }
        }
        try {
            // The service may have a new key; it is asked at most once a minute.
            return Verdict.verify(signature, fetchKeys(deadline), key, name, nonce, now());
        } catch (TokenRefusedException refusal) {
            throw NoAnswer.untrusted();
        }
    }

    private KeySet fetchKeys(long deadline) throws NoAnswer {
        keysAsked = System.nanoTime();
        byte[] data = retrying("GET", "/.well-known/jwks.json", headers(null), deadline, MAXIMUM_KEYS_BYTES, null);
        try {
            keys = new KeySet(new String(data, StandardCharsets.UTF_8));
        } catch (InvalidKeySetException invalid) {
            throw NoAnswer.untrusted();
        }
        cache.saveKeys(keys.source());
        return keys;
    }

    private byte[] retrying(
        String method, String path, Map<String, String> headers, long deadline, int limit, String body) throws NoAnswer {
        for (int retry = 0;; retry++) {
            try {
                Transport.Answer answer = transport.request(method, path, headers, deadline, limit, body);
                if (answer.status() == 200) {
                    return answer.body();
                }
                throw NoAnswer.of(answer);
            } catch (NoAnswer failure) {
                long jitter = (long) ((0.5 + ThreadLocalRandom.current().nextDouble() / 2) * (100_000_000L << retry));
                long delay = Math.max(jitter, failure.retryAfter.toNanos());
                if (!failure.isTemporary || retry == TRIES - 1 || System.nanoTime() + delay - deadline >= 0) {
                    throw failure;
                }
                sleep(delay, failure);
            }
        }
    }

    private static void sleep(long nanoseconds, NoAnswer failure) throws NoAnswer {
        try {
            TimeUnit.NANOSECONDS.sleep(nanoseconds);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw failure;
        }
    }

    private Map<String, String> headers(String contentType) {
        Map<String, String> headers = new LinkedHashMap<>();
        headers.put("Accept", "application/json");
        headers.put("User-Agent", "license-metering-java/" + VERSION);
        if (contentType != null) {
            headers.put("Content-Type", contentType);
        }
        if (options.token != null) {
            headers.put("Authorization", "Bearer " + options.token);
        }
        return headers;
    }

    private int sendUsage(List<Map<String, Object>> events, Duration timeout) throws NoAnswer {
        Duration own = timeout.compareTo(options.totalTimeout) < 0 ? timeout : options.totalTimeout;
        Map<String, String> headers = headers("application/cloudevents-batch+json");
        Transport.Answer answer = transport.request(
            "POST", "/v1/events", headers, System.nanoTime() + own.toNanos(), MAXIMUM_KEYS_BYTES, Json.write(events));
        if (answer.status() != 202) {
            throw NoAnswer.of(answer);
        }
        Json.Members members = Json.members(answer.body());
        if (members == null || !(members.get("rejected") instanceof List<?> rejected)) {
            throw new NoAnswer("untrusted", true);
        }
        return Math.min(rejected.size(), events.size());
    }

    private static String checked(String licenseKey) {
        if (Json.plainText(licenseKey, 8192) == null) {
            throw new IllegalArgumentException("licenseKey must be a text of 1 to 8,192 bytes without control characters");
        }
        return licenseKey;
    }

    private static String random() {
        byte[] bytes = new byte[16];
        RANDOM.nextBytes(bytes);
        return HexFormat.of().formatHex(bytes);
    }

    private Verdict saved(String signature, String licenseKey, DomainName domain) {
        KeySet known = keys;
        try {
            return known == null ? null : Verdict.verify(signature, known, licenseKey, domain, null, null);
        } catch (TokenRefusedException changed) {
            return null; // What was changed is not known.
        }
    }

    private long savedTime(String signature) {
        KeySet known = keys;
        return known == null ? 0 : Verdict.signedTime(signature, known);
    }

    private KeySet savedKeys() {
        String source = cache.savedKeys();
        try {
            return source == null ? null : new KeySet(source);
        } catch (InvalidKeySetException invalid) {
            return null; // Keys that cannot be read are fetched.
        }
    }
}
