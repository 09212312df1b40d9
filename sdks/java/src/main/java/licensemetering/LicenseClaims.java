package licensemetering;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Function;

/**
 * What a verified license token says of itself. Times are milliseconds since 1970.
 *
 * @param licenseId whose it is
 * @param domains where it holds
 * @param plan empty where it has none
 * @param features what it unlocks
 * @param limits by name
 * @param issuedAt from when it was made
 * @param expiresAt the first moment at which it does not hold
 * @param notBefore null where it has none
 * @param isTrial a trial has no grace
 */
public record LicenseClaims(
    String licenseId, List<String> domains, String plan, List<String> features, Map<String, Long> limits, long issuedAt,
    long expiresAt, Long notBefore, boolean isTrial) {

    static final long GRACE_MILLISECONDS = 7 * 86_400_000L;
    private static final long MAXIMUM_MILLISECONDS = 253_402_300_799_999L;
    private static final int MAXIMUM_ITEMS = 100;

    /**
     * The claims of a token that a license key of the set has signed. It asks no clock.
     *
     * @param token a license token
     * @param keys the keys to trust
     * @return its claims
     * @throws TokenRefusedException where the token is not believed
     */
    public static LicenseClaims verify(String token, KeySet keys) throws TokenRefusedException {
        List<String> types = Arrays.asList(null, "jwt", "license+jwt");
        Json.Members members = Json.members(Token.verify(token, keys.forPurpose("license"), types));
        if (members == null) {
            throw new TokenRefusedException("bad_claims", "claims");
        }
        if (members.isRepeated) {
            throw new TokenRefusedException("bad_claims", "repeated claim");
        }
        String licenseId = Json.plainText(members.get("sub"), 512);
        if (licenseId == null) {
            throw new TokenRefusedException("bad_claims", "sub");
        }
        String plan = read(members, "plan", value -> Json.plainText(value, 256), "");
        List<String> features = read(members, "features", LicenseClaims::texts, List.of());
        String single = read(members, "domain", value -> Json.plainText(value, 256), null);
        List<String> several = read(members, "domains", LicenseClaims::texts, List.of());
        Map<String, Long> limits = read(members, "limits", LicenseClaims::limits, Map.of());
        boolean isTrial = read(members, "trial", value -> value instanceof Boolean is ? is : null, false);
        Long notBefore = read(members, "nbf", LicenseClaims::time, null);
        Long issuedAt = read(members, "iat", LicenseClaims::time, null);
        if (issuedAt == null) {
            throw new TokenRefusedException("bad_claims", "iat");
        }
        Long expiresAt = read(members, "exp", LicenseClaims::time, null);
        if (expiresAt == null || expiresAt <= issuedAt) {
            throw new TokenRefusedException("bad_claims", "exp");
        }
        Set<String> domains = new LinkedHashSet<>(single == null ? List.of() : List.of(single));
        domains.addAll(several);
        return new LicenseClaims(
            licenseId, List.copyOf(domains), plan, features, limits, issuedAt, expiresAt, notBefore, isTrial);
    }

    /**
     * Judges the license.
     *
     * @param domain where the application runs
     * @param now milliseconds since 1970
     * @return not_yet_valid, expired, domain_mismatch, grace or valid; the last two hold
     */
    public String judge(String domain, long now) {
        if (notBefore != null && now < notBefore) {
            return "not_yet_valid";
        }
        boolean isExpired = now >= expiresAt;
        if (isExpired && (isTrial || now >= expiresAt + GRACE_MILLISECONDS)) {
            return "expired";
        }
        DomainName name = DomainName.normalize(domain);
        if (name == null || !name.isCoveredBy(domains)) {
            return "domain_mismatch";
        }
        return isExpired ? "grace" : "valid";
    }

    private static <T> T read(Json.Members members, String claim, Function<Object, T> reader, T absent)
        throws TokenRefusedException {
        if (!members.has(claim)) {
            return absent;
        }
        T value = reader.apply(members.get(claim));
        if (value == null) {
            throw new TokenRefusedException("bad_claims", claim);
        }
        return value;
    }

    private static List<String> texts(Object value) {
        if (!(value instanceof List<?> elements) || elements.size() > MAXIMUM_ITEMS) {
            return null;
        }
        List<String> texts = new ArrayList<>();
        for (Object element : elements) {
            texts.add(Json.plainText(element, 256));
        }
        return texts.contains(null) ? null : List.copyOf(texts);
    }

    private static Map<String, Long> limits(Object value) {
        if (!(value instanceof Json.Members members) || members.isRepeated || members.values.size() > MAXIMUM_ITEMS) {
            return null;
        }
        Map<String, Long> limits = new TreeMap<>();
        for (Map.Entry<String, Object> member : members.values.entrySet()) {
            if (member.getValue() == null) {
                continue;
            }
            Long quantity = member.getValue() instanceof Json.Decimal number ? number.integer() : null;
            if (Json.plainText(member.getKey(), 64) == null || quantity == null || quantity < 0) {
                return null;
            }
            limits.put(member.getKey(), quantity);
        }
        return limits;
    }

    private static Long time(Object value) {
        Long milliseconds = value instanceof Json.Decimal number ? number.scaled(3) : null;
        return milliseconds != null && milliseconds >= 0 && milliseconds <= MAXIMUM_MILLISECONDS ? milliseconds : null;
    }
}
