package licensemetering;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * JSON by RFC 8259, strictly: repeated names are noticed, and numbers stay as they are spelled. Values are Members, List,
 * String, Decimal, Boolean and null.
 */
final class Json {
    private static final int MAXIMUM_DEPTH = 512;
    private static final Pattern NUMBER =
        Pattern.compile("(-?)(0|[1-9][0-9]*)(?:\\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?");

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** What is no JSON. */
    static final class Invalid extends Exception {
        private static final long serialVersionUID = 1;
    }

    /** An object; repeated where a name stands more than once. */
    static final class Members {
        final Map<String, Object> values = new LinkedHashMap<>();
        boolean isRepeated;

        boolean has(String name) {
            return values.containsKey(name);
        }

        Object get(String name) {
            return values.get(name);
        }
    }

    /** A number as digits and a power of ten, whatever its size and however it is spelled. */
    static final class Decimal {
        private static final int MAXIMUM_EXPONENT = 1_000_000;

        private final boolean isNegative;
        private final String digits;
        private final int exponent;

        private Decimal(Matcher number) {
            String fraction = number.group(3) == null ? "" : number.group(3);
            String power = number.group(5) == null ? "" : number.group(5).replaceFirst("^0+", "");
            // Larger exponents are beyond every use, and stand for it.
            int magnitude = power.isEmpty() ? 0 : power.length() > 6 ? MAXIMUM_EXPONENT : Integer.parseInt(power);
            String all = (number.group(2) + fraction).replaceFirst("^0+", "");
            int end = all.length();
            while (end > 0 && all.charAt(end - 1) == '0') {
                end--;
            }
            isNegative = "-".equals(number.group(1));
            digits = all.substring(0, end);
            int signed = "-".equals(number.group(4)) ? -magnitude : magnitude;
            exponent = digits.isEmpty() ? 0 : signed - fraction.length() + all.length() - digits.length();
        }

        /** The number times 10^decimals, rounded down; null beyond 64 bits. */
        Long scaled(int decimals) {
            int shift = exponent + decimals;
            String kept = shift >= 0 ? digits : digits.substring(0, Math.max(0, digits.length() + shift));
            int zeros = kept.isEmpty() ? 0 : Math.max(shift, 0);
            if (kept.length() + zeros > 19) {
                return null;
            }
            long value;
            try {
                value = Long.parseLong("0" + kept + "0".repeat(zeros));
            } catch (NumberFormatException beyond) {
                return null;
            }
            if (!isNegative) {
                return value;
            }
            return digits.isEmpty() || shift >= 0 ? -value : -value - 1;
        }

        /** The number where it is whole, however it is spelled. */
        Long integer() {
            return digits.isEmpty() || exponent >= 0 ? scaled(0) : null;
        }
    }

    /** One JSON text. */
    static Object parse(byte[] bytes) throws Invalid {
        String text;
        try {
            text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException malformed) {
            throw new Invalid();
        }
        Json reader = new Json(text);
        Object value = reader.value(1);
        reader.skipBlanks();
        if (reader.at != text.length()) {
            throw new Invalid();
        }
        return value;
    }

    /** The object that a text holds; null where it holds none. */
    static Members members(byte[] bytes) {
        try {
            return parse(bytes) instanceof Members members ? members : null;
        } catch (Invalid invalid) {
            return null;
        }
    }

    /** A string without lone surrogates and of so many bytes of UTF-8; else null. */
    static String text(Object value, int minimum, int maximum) {
        if (!(value instanceof String text) || !StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
            return null;
        }
        int size = text.getBytes(StandardCharsets.UTF_8).length;
        return size >= minimum && size <= maximum ? text : null;
    }

    static String text(Object value) {
        return text(value, 0, 1 << 20);
    }

    /** As text, not empty and without control characters. */
    static String plainText(Object value, int maximum) {
        String text = text(value, 1, maximum);
        return text == null || text.chars().anyMatch(letter -> letter < 0x20 || letter == 0x7F) ? null : text;
    }

    /** A value as JSON: Map, Iterable, String, Number, Boolean and null. */
    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out);
        return out.toString();
    }

    private static void write(Object value, StringBuilder out) {
        if (value instanceof Map<?, ?> map) {
            out.append('{');
            for (Iterator<? extends Map.Entry<?, ?>> i = map.entrySet().iterator(); i.hasNext();) {
                Map.Entry<?, ?> member = i.next();
                quote(String.valueOf(member.getKey()), out);
                out.append(':');
                write(member.getValue(), out);
                out.append(i.hasNext() ? "," : "");
            }
            out.append('}');
        } else if (value instanceof Iterable<?> elements) {
            out.append('[');
            for (Iterator<?> i = elements.iterator(); i.hasNext();) {
                write(i.next(), out);
                out.append(i.hasNext() ? "," : "");
            }
            out.append(']');
        } else if (value instanceof String text) {
            quote(text, out);
        } else {
            out.append(value);
        }
    }

    private static void quote(String text, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char letter = text.charAt(i);
            if (letter == '"' || letter == '\\') {
                out.append('\\').append(letter);
            } else if (letter < 0x20) {
                out.append(String.format("\\u%04x", (int) letter));
            } else {
                out.append(letter);
            }
        }
        out.append('"');
    }

    private char peek() {
        return at < text.length() ? text.charAt(at) : 0;
    }

    private void skipBlanks() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private boolean skips(char letter) {
        skipBlanks();
        if (peek() != letter) {
            return false;
        }
        at++;
        return true;
    }

    private Object value(int depth) throws Invalid {
        if (depth > MAXIMUM_DEPTH) {
            throw new Invalid();
        }
        skipBlanks();
        return switch (peek()) {
            case '{' -> object(depth);
            case '[' -> array(depth);
            case '"' -> string();
            case 't' -> word("true", Boolean.TRUE);
            case 'f' -> word("false", Boolean.FALSE);
            case 'n' -> word("null", null);
            default -> number();
        };
    }

    private Object word(String word, Object value) throws Invalid {
        if (!text.startsWith(word, at)) {
            throw new Invalid();
        }
        at += word.length();
        return value;
    }

    private Decimal number() throws Invalid {
        Matcher number = NUMBER.matcher(text).region(at, text.length());
        if (!number.lookingAt()) {
            throw new Invalid();
        }
        at = number.end();
        return new Decimal(number);
    }

    private Members object(int depth) throws Invalid {
        Members members = new Members();
        at++;
        if (skips('}')) {
            return members;
        }
        do {
            skipBlanks();
            if (peek() != '"') {
                throw new Invalid();
            }
            String name = string();
            if (!skips(':')) {
                throw new Invalid();
            }
            members.isRepeated |= members.has(name);
            members.values.put(name, value(depth + 1));
        } while (skips(','));
        if (!skips('}')) {
            throw new Invalid();
        }
        return members;
    }

    private List<Object> array(int depth) throws Invalid {
        List<Object> elements = new ArrayList<>();
        at++;
        if (skips(']')) {
            return elements;
        }
        do {
            elements.add(value(depth + 1));
        } while (skips(','));
        if (!skips(']')) {
            throw new Invalid();
        }
        return elements;
    }

    private String string() throws Invalid {
        StringBuilder result = new StringBuilder();
        for (at++; at < text.length(); at++) {
            char letter = text.charAt(at);
            if (letter == '"') {
                at++;
                return result.toString();
            } else if (letter < 0x20) {
                throw new Invalid();
            } else if (letter == '\\') {
                at++;
                result.append(escape());
            } else {
                result.append(letter);
            }
        }
        throw new Invalid();
    }

    private char escape() throws Invalid {
        int place = "\"\\/bfnrt".indexOf(peek());
        if (at < text.length() && place >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(place);
        }
        if (peek() != 'u' || at + 5 > text.length()) {
            throw new Invalid();
        }
        int code = 0;
        for (int i = 1; i <= 4; i++) {
            char letter = text.charAt(at + i);
            int digit = letter < 0x80 ? Character.digit(letter, 16) : -1;
            if (digit < 0) {
                throw new Invalid();
            }
            code = code * 16 + digit;
        }
        at += 4;
        return (char) code;
    }
}
