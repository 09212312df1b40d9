package licensemetering;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.AlgorithmParameters;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECParameterSpec;
import java.security.spec.ECPoint;
import java.security.spec.ECPublicKeySpec;
import java.security.spec.RSAPublicKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/** The keys of GET /.well-known/jwks.json (RFC 7517). */
public final class KeySet {
    static final Map<String, String> ALGORITHMS =
        Map.of("EdDSA", "EdDSA", "Ed25519", "EdDSA", "ES256", "ES256", "RS256", "RS256");
    private static final int MAXIMUM_BYTES = 1 << 20;
    private static final int MAXIMUM_KEYS = 100;
    // SubjectPublicKeyInfo of Ed25519 up to the key.
    private static final byte[] ED25519_PREFIX = HexFormat.of().parseHex("302a300506032b6570032100");
    private static final BigInteger P256_PRIME =
        new BigInteger("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff", 16);
    private static final BigInteger P256_B =
        new BigInteger("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b", 16);
    private static final BigInteger P256_ORDER =
        new BigInteger("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16);

    private final List<Key> keys = new ArrayList<>();
    private final String source;

    /**
     * A public key of a set. The algorithm is the key's, never the token's.
     *
     * @param id names the key in headers
     * @param algorithm EdDSA, ES256 or RS256
     * @param purpose license or verdict
     * @param material the key itself
     * @param signatureBytes how long its signatures are
     * @param thumbprint by RFC 7638
     */
    public record Key(
        String id, String algorithm, String purpose, PublicKey material, int signatureBytes, String thumbprint) {

        boolean verifies(byte[] signature, byte[] data) {
            if (signature.length != signatureBytes || (algorithm.equals("ES256") && !isInOrder(signature))) {
                return false;
            }
            try {
                Signature verifier = Signature.getInstance(switch (algorithm) {
                    case "EdDSA" -> "Ed25519";
                    case "ES256" -> "SHA256withECDSAinP1363Format";
                    default -> "SHA256withRSA";
                });
                verifier.initVerify(material);
                verifier.update(data);
                return verifier.verify(signature);
            } catch (GeneralSecurityException none) {
                return false; // What is no signature is not valid, for whichever reason.
            }
        }

        private static boolean isInOrder(byte[] signature) {
            for (int start : new int[] {0, 32}) {
                BigInteger number = new BigInteger(1, signature, start, 32);
                if (number.signum() == 0 || number.compareTo(P256_ORDER) >= 0) {
                    return false;
                }
            }
            return true;
        }
    }

    /**
     * Reads a JSON Web Key Set. Keys of kinds that are not known are left out.
     *
     * @param source the JSON
     * @throws InvalidKeySetException where a key is malformed
     */
    public KeySet(String source) {
        byte[] bytes = source.getBytes(StandardCharsets.UTF_8);
        if (bytes.length > MAXIMUM_BYTES) {
            throw new InvalidKeySetException("more than 1 MiB");
        }
        Json.Members members = Json.members(bytes);
        if (members == null || members.isRepeated || !(members.get("keys") instanceof List<?> elements)) {
            throw new InvalidKeySetException("not a JSON Web Key Set");
        }
        if (elements.size() > MAXIMUM_KEYS) {
            throw new InvalidKeySetException("more than 100 keys");
        }
        this.source = source;
        int number = 0;
        for (Object element : elements) {
            number++;
            if (!(element instanceof Json.Members key)) {
                throw new InvalidKeySetException("key " + number + ": not an object");
            }
            try {
                if (isOfUse(key)) {
                    add(read(key));
                }
            } catch (InvalidKeySetException invalid) {
                throw new InvalidKeySetException("key " + number + ": " + invalid.getMessage());
            }
        }
    }

    /**
     * The keys that are used.
     *
     * @return in the order of the set
     */
    public List<Key> keys() {
        return List.copyOf(keys);
    }

    String source() {
        return source;
    }

    List<Key> forPurpose(String purpose) {
        return keys.stream().filter(key -> key.purpose.equals(purpose)).toList();
    }

    private void add(Key key) {
        for (Key other : keys) {
            if (other.id.equals(key.id) && other.purpose.equals(key.purpose) && other.algorithm.equals(key.algorithm)) {
                if (!other.thumbprint.equals(key.thumbprint)) {
                    throw new InvalidKeySetException("kid stands twice");
                }
                return;
            }
        }
        keys.add(key);
    }

    /** Keys of other kinds, curves, uses and algorithms are left out, as RFC 7517 asks; what is malformed stays. */
    private static boolean isOfUse(Json.Members members) {
        String kind = Json.text(members.get("kty"));
        if (kind == null) {
            return true;
        }
        boolean isKnown = switch (kind) {
            case "OKP" -> isOneOf(members, "crv", List.of("Ed25519"));
            case "EC" -> isOneOf(members, "crv", List.of("P-256"));
            case "RSA" -> true;
            default -> false;
        };
        if (members.get("key_ops") instanceof List<?> operations) {
            isKnown &= operations.contains("verify") || operations.contains("sign");
        }
        return isKnown && isOneOf(members, "use", List.of("sig")) && isOneOf(members, "alg", ALGORITHMS.keySet())
            && isOneOf(members, "purpose", List.of("license", "verdict"));
    }

    private static boolean isOneOf(Json.Members members, String name, java.util.Collection<String> known) {
        String text = Json.text(members.get(name));
        return text == null || known.contains(text);
    }

    private static Key read(Json.Members members) {
        if (members.isRepeated) {
            throw new InvalidKeySetException("a member stands twice");
        }
        if (members.has("use") && !"sig".equals(members.get("use"))) {
            throw new InvalidKeySetException("use must be sig");
        }
        if (members.has("key_ops") && !(members.get("key_ops") instanceof List<?> operations
            && operations.stream().allMatch(operation -> Json.text(operation) != null))) {
            throw new InvalidKeySetException("key_ops must be an array of texts");
        }
        Object purpose = members.has("purpose") ? members.get("purpose") : "license";
        if (!"license".equals(purpose) && !"verdict".equals(purpose)) {
            throw new InvalidKeySetException("purpose must be license or verdict");
        }
        String id = members.has("kid") ? Json.text(members.get("kid"), 1, 256) : null;
        if (members.has("kid") && id == null) {
            throw new InvalidKeySetException("kid must be a text of 1 to 256 bytes");
        }
        Key key = material(members, (String) purpose);
        Object name = members.get("alg");
        if (members.has("alg") && !(name instanceof String text && key.algorithm.equals(ALGORITHMS.get(text)))) {
            throw new InvalidKeySetException("alg does not fit the key");
        }
        String own = Objects.requireNonNullElse(id, key.thumbprint);
        return new Key(own, key.algorithm, key.purpose, key.material, key.signatureBytes, key.thumbprint);
    }

    private static Key material(Json.Members members, String purpose) {
        Object kind = members.get("kty");
        Object curve = members.get("crv");
        try {
            if ("OKP".equals(kind) && "Ed25519".equals(curve)) {
                byte[] x = bytes(members, "x", 32);
                byte[] info = Arrays.copyOf(ED25519_PREFIX, ED25519_PREFIX.length + 32);
                System.arraycopy(x, 0, info, ED25519_PREFIX.length, 32);
                PublicKey key = KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(info));
                String required = "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"" + encode(x) + "\"}";
                return new Key("", "EdDSA", purpose, key, 64, thumbprint(required));
            }
            if ("EC".equals(kind) && "P-256".equals(curve)) {
                byte[] x = bytes(members, "x", 32);
                byte[] y = bytes(members, "y", 32);
                String required = "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" + encode(x) + "\",\"y\":\"" + encode(y) + "\"}";
                return new Key("", "ES256", purpose, point(new BigInteger(1, x), new BigInteger(1, y)), 64, thumbprint(required));
            }
            if ("RSA".equals(kind)) {
                byte[] n = bytes(members, "n", 0);
                byte[] e = bytes(members, "e", 0);
                int bits = new BigInteger(1, n).bitLength();
                if (n[0] == 0 || bits < 2048 || bits > 8192 || e.length > 8) {
                    throw new InvalidKeySetException("n and e are no RSA key of 2,048 to 8,192 bits");
                }
                RSAPublicKeySpec numbers = new RSAPublicKeySpec(new BigInteger(1, n), new BigInteger(1, e));
                String required = "{\"e\":\"" + encode(e) + "\",\"kty\":\"RSA\",\"n\":\"" + encode(n) + "\"}";
                PublicKey key = KeyFactory.getInstance("RSA").generatePublic(numbers);
                return new Key("", "RS256", purpose, key, n.length, thumbprint(required));
            }
        } catch (GeneralSecurityException none) {
            throw new InvalidKeySetException("the members are no key");
        }
        throw new InvalidKeySetException("kty and crv must be OKP with Ed25519, EC with P-256, or RSA");
    }

    /** Java takes points that are not on the curve, which would be an attack. */
    private static PublicKey point(BigInteger x, BigInteger y) throws GeneralSecurityException {
        BigInteger right = x.pow(3).subtract(x.multiply(BigInteger.valueOf(3))).add(P256_B).mod(P256_PRIME);
        if (x.compareTo(P256_PRIME) >= 0 || y.compareTo(P256_PRIME) >= 0 || !y.pow(2).mod(P256_PRIME).equals(right)) {
            throw new InvalidKeySetException("x and y are no point of P-256");
        }
        AlgorithmParameters parameters = AlgorithmParameters.getInstance("EC");
        parameters.init(new ECGenParameterSpec("secp256r1"));
        ECParameterSpec curve = parameters.getParameterSpec(ECParameterSpec.class);
        return KeyFactory.getInstance("EC").generatePublic(new ECPublicKeySpec(new ECPoint(x, y), curve));
    }

    private static byte[] bytes(Json.Members members, String name, int count) {
        String text = Json.text(members.get(name), 0, 2048);
        byte[] bytes = text == null ? null : decode(text);
        if (bytes == null || bytes.length == 0 || (count != 0 && bytes.length != count)) {
            throw new InvalidKeySetException(name + " must be base64url of the right length");
        }
        return bytes;
    }

    /** Base64url without padding, in its one spelling; null for all else. */
    static byte[] decode(String text) {
        if (text.contains("=")) {
            return null;
        }
        try {
            byte[] bytes = Base64.getUrlDecoder().decode(text);
            return encode(bytes).equals(text) ? bytes : null;
        } catch (IllegalArgumentException none) {
            return null;
        }
    }

    static String encode(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    static byte[] sha256(byte[] data) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(data);
        } catch (GeneralSecurityException missing) {
            throw new IllegalStateException("every Java has SHA-256", missing);
        }
    }

    private static String thumbprint(String required) {
        return encode(sha256(required.getBytes(StandardCharsets.UTF_8)));
    }
}
