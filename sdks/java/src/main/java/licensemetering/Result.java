package licensemetering;

import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;

/**
 * Whether the application may run, why, and how this is known. What is not known is null.
 *
 * @param valid whether the license holds
 * @param code one of the service's, or clock_rolled_back or unreachable
 * @param source online, cache, grace (remembered while the service gives no answer), offline (judged from the license token
 *     itself) or none
 * @param age since the service signed it
 * @param licenseId whose it is
 * @param plan the product
 * @param features what it unlocks
 * @param limits by name
 * @param expiresAt the license's end
 * @param grace the license has expired and holds for up to seven days more
 * @param overLimit usage is beyond a limit
 * @param explanation one sentence for a developer; null where the license holds
 * @param problem why the service gave no answer: timeout, connection, tls, pin_mismatch, too_large, untrusted, http_503, …
 */
public record Result(
    boolean valid, String code, String source, Duration age, String licenseId, String plan, Features features,
    Map<String, Long> limits, Instant expiresAt, boolean grace, boolean overLimit, String explanation, String problem) {

    private static final Map<String, String> EXPLANATIONS = Map.of(
        "domain_mismatch", "The license is not valid for this domain.",
        "expired", "The license has expired.",
        "not_yet_valid", "The license is not valid yet.",
        "invalid_signature", "The license key is not accepted: it was not signed by its vendor, or was changed since.",
        "clock_rolled_back", "The clock is behind a time that the license service has signed.",
        "unreachable", "The license service gave no valid answer, and nothing is known about the license.");

    /**
     * A "yes", for tests.
     *
     * @param features what it unlocks
     * @return a result
     */
    public static Result valid(String... features) {
        return new Result(true, "valid", "online", Duration.ZERO, null, null, new Features(List.of(features)), Map.of(),
            null, false, false, null, null);
    }

    /**
     * A "no", for tests.
     *
     * @param code why
     * @return a result
     */
    public static Result denied(String code) {
        return denied(code, "online", null);
    }

    static Result denied(String code, String source, String problem) {
        return new Result(false, code, source, Duration.ZERO, null, null, new Features(List.of()), Map.of(), null, false,
            false, EXPLANATIONS.get(code), problem);
    }

    static Result unknown(boolean isAllowed, String problem) {
        Result no = denied("unreachable", "none", problem);
        return new Result(isAllowed, no.code, no.source, no.age, null, null, no.features, no.limits, null, false, false,
            no.explanation, problem);
    }

    static Result offline(LicenseClaims claims, String code) {
        boolean valid = code.equals("valid") || code.equals("grace");
        return new Result(valid, code, "offline", Duration.ZERO, claims.licenseId(), claims.plan(),
            new Features(valid ? claims.features() : List.of()), claims.limits(),
            Instant.ofEpochMilli(claims.expiresAt()), code.equals("grace"), false, valid ? null : EXPLANATIONS.get(code), null);
    }

    static Result of(Verdict verdict, String source, long now, String problem) {
        Long ends = verdict.expiresAt();
        boolean grace = verdict.grace() || (verdict.valid() && ends != null && now >= ends);
        long age = source.equals("online") ? 0 : Math.max(0, now - verdict.timestamp());
        return new Result(verdict.valid(), grace && verdict.code().equals("valid") ? "grace" : verdict.code(), source,
            Duration.ofMillis(age), verdict.licenseId(), verdict.plan(),
            new Features(verdict.valid() ? verdict.features() : List.of()), Map.copyOf(verdict.limits()),
            ends == null ? null : Instant.ofEpochMilli(ends), grace, verdict.overLimit(), verdict.error(), problem);
    }
}
