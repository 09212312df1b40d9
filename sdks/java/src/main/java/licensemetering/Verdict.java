package licensemetering;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.DateTimeException;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.regex.Pattern;

/**
 * What the service has signed. Times are milliseconds since 1970; what is not known is null.
 *
 * @param valid whether the license holds
 * @param code why
 * @param timestamp when it was signed
 * @param licenseId whose it is
 * @param plan the product
 * @param features what it unlocks
 * @param limits by name
 * @param expiresAt the license's end
 * @param grace whether it has expired and still holds
 * @param overLimit whether usage is beyond a limit
 * @param error one sentence
 */
public record Verdict(
    boolean valid, String code, long timestamp, String licenseId, String plan, List<String> features,
    Map<String, Long> limits, Long expiresAt, boolean grace, boolean overLimit, String error) {

    static final long TOLERANCE_MILLISECONDS = 300_000;
    private static final Pattern TIMESTAMP =
        Pattern.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z");

    /**
     * The verdict of a signature, where it answers this very question.
     *
     * @param signature the answer's member
     * @param keys the keys to trust
     * @param licenseKey as it was sent
     * @param domain as normalize gives it; null where what was sent is no name
     * @param nonce null, as now, for an answer that was verified when it came and is read back from a cache
     * @param now milliseconds since 1970
     * @return what was signed
     * @throws TokenRefusedException where it is not believed
     */
    public static Verdict verify(
        String signature, KeySet keys, String licenseKey, DomainName domain, String nonce, Long now)
        throws TokenRefusedException {
        Json.Members members = members(signature, keys);
        if (members == null || members.isRepeated || (nonce != null && !equals(members.get("nonce"), nonce))) {
            throw new TokenRefusedException("other_nonce");
        }
        String hash = KeySet.encode(KeySet.sha256(licenseKey.getBytes(StandardCharsets.UTF_8)));
        if (!equals(members.get("licenseKeyHash"), hash) || !members.has("domain")
            || !Objects.equals(members.get("domain"), domain == null ? null : domain.text())) {
            throw new TokenRefusedException("other_question");
        }
        Long timestamp = milliseconds(members.get("timestamp"));
        if (timestamp == null || (now != null && Math.abs(now - timestamp) > TOLERANCE_MILLISECONDS)) {
            throw new TokenRefusedException("stale");
        }
        return read(members, timestamp);
    }

    /** When the service signed a verdict, whatever it answers; 0 where it is none of the service's. */
    static long signedTime(String signature, KeySet keys) {
        try {
            Json.Members members = members(signature, keys);
            Long time = members == null ? null : milliseconds(members.get("timestamp"));
            return time == null ? 0 : time;
        } catch (TokenRefusedException none) {
            return 0;
        }
    }

    private static Json.Members members(String signature, KeySet keys) throws TokenRefusedException {
        return Json.members(Token.verify(signature, keys.forPurpose("verdict"), Collections.singletonList("verdict+jwt")));
    }

    private static boolean equals(Object value, String expected) {
        String text = Json.text(value);
        // In constant time.
        return text != null && MessageDigest.isEqual(
            text.getBytes(StandardCharsets.UTF_8), expected.getBytes(StandardCharsets.UTF_8));
    }

    private static Long milliseconds(Object value) {
        if (!(value instanceof String text) || !TIMESTAMP.matcher(text).matches()) {
            return null;
        }
        try {
            return LocalDateTime.parse(text.substring(0, 23)).toInstant(ZoneOffset.UTC).toEpochMilli();
        } catch (DateTimeException none) {
            return null;
        }
    }

    private static Verdict read(Json.Members members, long timestamp) throws TokenRefusedException {
        String code = Json.text(members.get("code"));
        Object features = members.has("features") ? members.get("features") : List.of();
        if (!(members.get("valid") instanceof Boolean valid) || code == null || !(features instanceof List<?> names)) {
            throw new TokenRefusedException("bad_claims", "verdict");
        }
        Map<String, Long> limits = new TreeMap<>();
        if (members.get("limits") instanceof Json.Members quantities) {
            quantities.values.forEach((name, value) -> {
                Long quantity = value instanceof Json.Decimal number ? number.integer() : null;
                if (quantity != null) {
                    limits.put(name, quantity);
                }
            });
        }
        return new Verdict(
            valid, code, timestamp, Json.text(members.get("licenseId")), Json.text(members.get("plan")),
            names.stream().map(Json::text).filter(Objects::nonNull).toList(), limits,
            milliseconds(members.get("expiresAt")), Boolean.TRUE.equals(members.get("grace")),
            Boolean.TRUE.equals(members.get("overLimit")), Json.text(members.get("error")));
    }
}
