package licensemetering;

import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.function.Consumer;
import java.util.regex.Pattern;

/** Usage on its way to the service: a bounded queue that never makes its caller wait. A retry has the same ids. */
final class UsageQueue {
    private static final int BATCH = 500;
    private static final long INTERVAL = 1_000;
    private static final long MAXIMUM_DELAY = 60_000;
    private static final Pattern METER = Pattern.compile("[a-z][a-z0-9_]{0,63}");
    private static final DateTimeFormatter TIME =
        DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);
    // The service will never take such a batch, however often it comes.
    private static final Set<String> FOR_GOOD = Set.of("http_400", "http_404", "http_413", "http_415", "http_422");

    /** Sends a batch, and gives how many the service refused for good. */
    interface Send {
        int send(List<Map<String, Object>> events, Duration timeout) throws NoAnswer;
    }

    private final Send send;
    private final int maximum;
    private final Consumer<String> report;
    private final String source = "sdk/java/" + UUID.randomUUID();
    private final Deque<Map<String, Object>> events = new ArrayDeque<>();
    private long accepted;
    private long sent;
    private long rejected;
    private long dropped;
    private int failures;
    private boolean isSending;
    private boolean isClosed;
    private Thread thread;
    private final Thread atExit = new Thread(() -> close(Duration.ofSeconds(5)), "license-metering-exit");

    UsageQueue(Send send, int maximum, Consumer<String> report) {
        this.send = send;
        this.maximum = maximum;
        this.report = report;
    }

    synchronized Client.UsageStatistics statistics() {
        return new Client.UsageStatistics(accepted, sent, rejected, dropped, events.size());
    }

    boolean record(String subject, String meter, long quantity, long now, String domain, String feature) {
        boolean isGood = Json.plainText(subject, 512) != null && meter != null && METER.matcher(meter).matches()
            && quantity >= 0 && quantity <= 1_000_000_000 && isDetail(domain) && isDetail(feature);
        boolean isTaken = isGood && add(subject, meter, quantity, now, domain, feature);
        if (!isTaken) {
            synchronized (this) {
                dropped++;
            }
            report.accept(isGood ? "usage_dropped" : "usage_invalid");
        }
        return isTaken;
    }

    private static boolean isDetail(String text) {
        return text == null || (Json.text(text, 0, 1024) != null && text.indexOf('\0') < 0);
    }

    private synchronized boolean add(
        String subject, String meter, long quantity, long now, String domain, String feature) {
        if (isClosed || events.size() >= maximum) {
            return false;
        }
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("meter", meter);
        data.put("quantity", quantity);
        if (domain != null) {
            data.put("domain", domain);
        }
        if (feature != null) {
            data.put("feature", feature);
        }
        Map<String, Object> event = new LinkedHashMap<>();
        event.put("specversion", "1.0");
        event.put("id", UUID.randomUUID().toString());
        event.put("source", source);
        event.put("type", "license.usage.recorded");
        event.put("subject", subject);
        event.put("time", TIME.format(Instant.ofEpochMilli(now)));
        event.put("data", data);
        events.add(event);
        accepted++;
        if (thread == null) {
            thread = new Thread(this::run, "license-metering-usage");
            thread.setDaemon(true);
            thread.start();
            Runtime.getRuntime().addShutdownHook(atExit);
        }
        if (events.size() == BATCH) {
            notifyAll();
        }
        return true;
    }

    /** Sends what is queued now. Whether all of it went out in time. */
    boolean flush(Duration timeout) throws InterruptedException {
        long end = System.nanoTime() + timeout.toNanos();
        while (statistics().pending() > 0 && System.nanoTime() - end < 0) {
            if (!deliver(end)) {
                long left = (end - System.nanoTime()) / 1_000_000;
                Thread.sleep(Math.max(0, Math.min(200, left)));
            }
        }
        return statistics().pending() == 0;
    }

    void close(Duration timeout) {
        try {
            flush(timeout);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        boolean isLeft;
        synchronized (this) {
            isLeft = !isClosed && !events.isEmpty();
            isClosed = true;
            dropped += events.size();
            events.clear();
            notifyAll();
        }
        if (isLeft) {
            report.accept("usage_dropped");
        }
        try {
            Runtime.getRuntime().removeShutdownHook(atExit);
        } catch (IllegalStateException ending) {
            // This is the hook, or it runs now.
        }
    }

    private void run() {
        try {
            while (await()) {
                deliver(System.nanoTime() + Duration.ofMinutes(1).toNanos());
            }
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private synchronized boolean await() throws InterruptedException {
        long end = System.currentTimeMillis() + (failures == 0 ? INTERVAL : Math.min(INTERVAL << failures, MAXIMUM_DELAY));
        while (!isClosed && !(failures == 0 && events.size() >= BATCH)) {
            long left = end - System.currentTimeMillis();
            if (left <= 0) {
                break;
            }
            wait(left);
        }
        return !isClosed;
    }

    /** One batch, whose events stay in the queue until it is known what became of them. Whether that is known. */
    private boolean deliver(long end) {
        List<Map<String, Object>> batch = new ArrayList<>();
        synchronized (this) {
            if (isSending) {
                return false;
            }
            events.stream().limit(BATCH).forEach(batch::add);
            if (batch.isEmpty()) {
                return true;
            }
            isSending = true;
        }
        int refused = 0;
        String problem = null;
        try {
            refused = send.send(batch, Duration.ofNanos(Math.max(end - System.nanoTime(), 100_000_000)));
        } catch (NoAnswer failure) {
            problem = failure.problem;
        } catch (RuntimeException failure) {
            problem = "usage_failed";
        }
        String reported = settle(batch.size(), refused, problem);
        if (reported != null) {
            report.accept(reported);
        }
        return problem == null || FOR_GOOD.contains(problem);
    }

    /** What is to be reported; null: nothing. */
    private synchronized String settle(int count, int refused, String problem) {
        isSending = false;
        if (problem != null && !FOR_GOOD.contains(problem)) {
            failures = Math.min(failures + 1, 6);
            return problem;
        }
        failures = 0;
        if (isClosed) {
            return null; // It was counted as dropped, and may count all the same.
        }
        for (int i = 0; i < count; i++) {
            events.remove();
        }
        if (problem != null) {
            dropped += count;
            return "usage_dropped";
        }
        sent += count - refused;
        rejected += refused;
        return refused > 0 ? "usage_rejected" : null;
    }
}
