package licensemetering;

import java.time.Duration;

/** The service gave no answer that can be believed. */
final class NoAnswer extends Exception {
    private static final long serialVersionUID = 1;

    /** timeout, connection, tls, pin_mismatch, too_large, http_503 (or another status) or untrusted. */
    final String problem;
    /** Whether asking again may help. */
    final boolean isTemporary;
    final transient Duration retryAfter;

    NoAnswer(String problem, boolean isTemporary) {
        this(problem, isTemporary, Duration.ZERO);
    }

    private NoAnswer(String problem, boolean isTemporary, Duration retryAfter) {
        super(problem);
        this.problem = problem;
        this.isTemporary = isTemporary;
        this.retryAfter = retryAfter;
    }

    static NoAnswer untrusted() {
        return new NoAnswer("untrusted", false);
    }

    /** What a status means that is no answer. */
    static NoAnswer of(Transport.Answer answer) {
        boolean isTemporary = answer.status() == 408 || answer.status() == 429 || answer.status() >= 500;
        Duration wait = isTemporary ? answer.retryAfter() : Duration.ZERO;
        return new NoAnswer("http_" + answer.status(), isTemporary, wait);
    }
}
