package licensemetering;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;

/** Compact JWS (RFC 7515). */
final class Token {
    private static final int MAXIMUM_BYTES = 8192;
    private Token() {
    }

    private record Header(String algorithm, String keyId, String type) {
    }

    /** The payload that one of the keys signed. Types is what typ may be, in lower case and without application/; null: absent. */
    static byte[] verify(String token, List<KeySet.Key> keys, List<String> types) throws TokenRefusedException {
        if (token.getBytes(StandardCharsets.UTF_8).length > MAXIMUM_BYTES) {
            throw new TokenRefusedException("too_large");
        }
        String[] parts = token.split("\\.", 4);
        byte[][] decoded = new byte[3][];
        for (int i = 0; i < 3; i++) {
            decoded[i] = parts.length == 3 ? KeySet.decode(parts[i]) : null;
            if (decoded[i] == null) {
                throw new TokenRefusedException("not_compact");
            }
        }
        Header header = header(decoded[0]);
        if (!types.contains(header.type)) {
            throw new TokenRefusedException("wrong_type");
        }
        KeySet.Key key = find(keys, header);
        if (!key.verifies(decoded[2], (parts[0] + "." + parts[1]).getBytes(StandardCharsets.US_ASCII))) {
            throw new TokenRefusedException("bad_signature");
        }
        return decoded[1];
    }

    private static KeySet.Key find(List<KeySet.Key> keys, Header header) throws TokenRefusedException {
        List<KeySet.Key> named =
            keys.stream().filter(key -> header.keyId == null || key.id().equals(header.keyId)).toList();
        if (named.isEmpty()) {
            throw new TokenRefusedException("unknown_key");
        }
        List<KeySet.Key> fitting = named.stream().filter(key -> key.algorithm().equals(header.algorithm)).toList();
        if (fitting.isEmpty()) {
            throw new TokenRefusedException("algorithm_mismatch");
        }
        if (fitting.size() > 1) {
            throw new TokenRefusedException("unknown_key");
        }
        return fitting.get(0);
    }

    private static Header header(byte[] bytes) throws TokenRefusedException {
        Json.Members members = Json.members(bytes);
        String name = members == null || members.isRepeated ? null : Json.text(members.get("alg"));
        if (members == null || name == null) {
            throw new TokenRefusedException("bad_header");
        }
        String algorithm = KeySet.ALGORITHMS.get(name);
        if (algorithm == null) {
            throw new TokenRefusedException("unsupported_algorithm");
        }
        if (members.has("crit") || members.has("b64")) {
            throw new TokenRefusedException("critical");
        }
        String keyId = text(members, "kid", 256);
        String type = text(members, "typ", 1 << 20);
        type = type == null ? null : type.toLowerCase(Locale.ROOT).replaceFirst("^application/", "");
        return new Header(algorithm, keyId, type);
    }

    private static String text(Json.Members members, String name, int maximum) throws TokenRefusedException {
        String text = Json.text(members.get(name), 0, maximum);
        if (members.has(name) && text == null) {
            throw new TokenRefusedException("bad_header");
        }
        return text;
    }
}
