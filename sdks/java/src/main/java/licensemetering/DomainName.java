package licensemetering;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * A name in lower case and ASCII without port and trailing dot, or an address.
 *
 * @param text the name or address
 * @param isAddress whether it is an address
 */
public record DomainName(String text, boolean isAddress) {
    private static final Pattern LABEL = Pattern.compile("[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?");
    private static final Pattern QUAD = Pattern.compile("(?:0|[1-9][0-9]{0,2})(?:\\.(?:0|[1-9][0-9]{0,2})){3}");
    private static final Pattern NUMBER = Pattern.compile("[0-9]+|0x[0-9a-f]*");
    private static final Pattern LOOPBACK =
        Pattern.compile("127\\..*|0:0:0:0:0:0:0:1|0:0:0:0:0:ffff:7f[0-9a-f]{2}:.*");
    private static volatile UnaryOperator<String> toAscii;

    private static final class Rules {
        static final Set<String> ALL = load();

        private static Set<String> load() {
            try (InputStream stream = DomainName.class.getResourceAsStream("public_suffixes.txt")) {
                return new String(stream.readAllBytes(), StandardCharsets.US_ASCII).lines()
                    .filter(line -> !line.isEmpty() && !line.startsWith("//")).collect(Collectors.toUnmodifiableSet());
            } catch (IOException missing) {
                throw new UncheckedIOException(missing);
            }
        }
    }

    /**
     * Sets what converts names of other scripts by UTS #46, non-transitional, such as ICU4J's IDNA; it gives null where a
     * name has no ASCII form. Java's own java.net.IDN follows the older IDNA 2003, which makes faß.de another name, and is
     * not used. Without it, such names are refused and have to be given as xn--….
     *
     * @param function null: none
     */
    public static void setToAscii(UnaryOperator<String> function) {
        toAscii = function;
    }

    /**
     * The name or address that a Host header means.
     *
     * @param text what was sent
     * @return null where it is neither
     */
    public static DomainName normalize(String text) {
        if (Json.text(text, 1, 1024) == null) {
            return null;
        }
        String address = address(text);
        if (address != null) {
            return new DomainName(address, true);
        }
        StringBuilder lower = new StringBuilder(withoutPort(text));
        if (lower.length() > 0 && lower.charAt(lower.length() - 1) == '.') {
            lower.setLength(lower.length() - 1);
        }
        boolean isAscii = true;
        for (int i = 0; i < lower.length(); i++) {
            char letter = lower.charAt(i);
            isAscii &= letter < 0x80;
            if (letter >= 'A' && letter <= 'Z') {
                lower.setCharAt(i, (char) (letter | 0x20));
            }
        }
        String name = lower.toString();
        UnaryOperator<String> convert = toAscii;
        if (convert != null && (!isAscii || name.startsWith("xn--") || name.contains(".xn--"))) {
            name = convert.apply(name);
            name = name != null && name.endsWith(".") ? name.substring(0, name.length() - 1) : name;
        }
        return name != null && isName(name) ? new DomainName(name, false) : null;
    }

    /**
     * Whether it is localhost, a name below .localhost or .test, or a loopback address: no license holds there.
     *
     * @return true there
     */
    public boolean isLocal() {
        if (isAddress) {
            return LOOPBACK.matcher(text).matches();
        }
        String last = text.substring(text.lastIndexOf('.') + 1);
        return last.equals("localhost") || last.equals("test");
    }

    /**
     * Whether a license that is bound to these domains holds there: example.com covers itself, *.example.com every name
     * below it. Public suffixes and local names are never covered.
     *
     * @param bound the license's domains
     * @return true where it holds
     */
    public boolean isCoveredBy(Collection<String> bound) {
        return !isLocal() && bound.stream().anyMatch(this::isCoveredBy);
    }

    private boolean isCoveredBy(String pattern) {
        boolean isWildcard = pattern.startsWith("*.");
        DomainName name = normalize(isWildcard ? pattern.substring(2) : pattern);
        if (name == null || (name.isAddress && isWildcard) || (!name.isAddress && isPublicSuffix(name.text))) {
            return false;
        }
        String suffix = "." + name.text;
        return isWildcard ? !isAddress && text.length() > suffix.length() && text.endsWith(suffix) : text.equals(name.text);
    }

    /** Whether anybody may register below the name, by the Public Suffix List that the library brings. */
    static boolean isPublicSuffix(String name) {
        int dot = name.indexOf('.');
        if (dot < 0) {
            return true;
        }
        if (Rules.ALL.contains("!" + name)) {
            return false;
        }
        // Where anybody may have any name below a name, that name is nobody's own either.
        return Rules.ALL.contains(name) || Rules.ALL.contains("*." + name) || Rules.ALL.contains("*" + name.substring(dot));
    }

    private static String withoutPort(String text) {
        int colon = text.indexOf(':');
        return colon >= 0 && isPort(text.substring(colon)) ? text.substring(0, colon) : text;
    }

    /** Nothing, or a colon and a port's digits, or none. */
    private static boolean isPort(String text) {
        if (text.isEmpty()) {
            return true;
        }
        if (!text.matches(":[0-9]*")) {
            return false;
        }
        String digits = text.substring(1).replaceFirst("^0+", "");
        return digits.isEmpty() || (digits.length() <= 5 && Integer.parseInt(digits) <= 65_535);
    }

    private static String address(String text) {
        if (text.startsWith("[")) {
            int close = text.indexOf(']');
            return close > 0 && isPort(text.substring(close + 1)) ? v6(text.substring(1, close)) : null;
        }
        String address = v6(text);
        if (address == null) {
            address = v4(text);
        }
        return address == null ? v4(withoutPort(text)) : address;
    }

    private static String v4(String text) {
        if (!QUAD.matcher(text).matches()) {
            return null;
        }
        for (String part : text.split("\\.")) {
            if (Integer.parseInt(part) > 255) {
                return null;
            }
        }
        return text;
    }

    private static String v6(String text) {
        if (text.length() > 45 || text.indexOf(':') < 0) {
            return null;
        }
        String[] halves = text.split("::", -1);
        if (halves.length > 2) {
            return null;
        }
        List<Integer> head = groups(halves[0], halves.length == 1);
        if (head == null || halves.length == 1) {
            return head != null && head.size() == 8 ? spell(head) : null;
        }
        List<Integer> tail = groups(halves[1], true);
        if (tail == null || head.size() + tail.size() > 7) {
            return null;
        }
        while (head.size() + tail.size() < 8) {
            head.add(0);
        }
        head.addAll(tail);
        return spell(head);
    }

    private static List<Integer> groups(String text, boolean isLast) {
        List<Integer> groups = new ArrayList<>();
        if (text.isEmpty()) {
            return groups;
        }
        String[] parts = text.split(":", -1);
        for (int i = 0; i < parts.length; i++) {
            if (parts[i].indexOf('.') >= 0) {
                if (!isLast || i != parts.length - 1 || v4(parts[i]) == null) {
                    return null;
                }
                String[] bytes = parts[i].split("\\.");
                groups.add(Integer.parseInt(bytes[0]) * 256 + Integer.parseInt(bytes[1]));
                groups.add(Integer.parseInt(bytes[2]) * 256 + Integer.parseInt(bytes[3]));
            } else if (parts[i].matches("[0-9A-Fa-f]{1,4}")) {
                groups.add(Integer.parseInt(parts[i], 16));
            } else {
                return null;
            }
        }
        return groups.size() <= 8 ? groups : null;
    }

    private static String spell(List<Integer> groups) {
        return groups.stream().map(Integer::toHexString).collect(Collectors.joining(":"));
    }

    private static boolean isName(String name) {
        if (name.isEmpty() || name.length() > 253) {
            return false;
        }
        String[] labels = name.split("\\.", -1);
        for (String label : labels) {
            if (!LABEL.matcher(label).matches()) {
                return false;
            }
        }
        // Some readers would take a name that ends in a number for an address.
        return !NUMBER.matcher(labels[labels.length - 1]).matches();
    }
}
