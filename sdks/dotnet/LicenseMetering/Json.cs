using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace LicenseMetering
{
    /// <summary>The members of an object; repeated where a name stands more than once.</summary>
    internal sealed class JsonObject
    {
        private readonly Dictionary<string, object> values = new Dictionary<string, object>(StringComparer.Ordinal);

        public List<string> Names { get; } = new List<string>();

        public bool IsRepeated { get; private set; }

        /// <summary>Null where there is none, and where it is null.</summary>
        public object this[string name] => values.TryGetValue(name, out var value) ? value : null;

        public bool Has(string name) => values.ContainsKey(name);

        public void Add(string name, object value)
        {
            if (values.ContainsKey(name))
            {
                IsRepeated = true;
            }
            else
            {
                Names.Add(name);
            }
            values[name] = value;
        }

        public string Text(string name, int minimum = 0, int maximum = int.MaxValue) => Json.Text(this[name], minimum, maximum);

        public bool IsTrue(string name) => this[name] is bool value && value;
    }

    /// <summary>A number's own characters, such as 1.9e9.</summary>
    internal sealed class JsonNumber
    {
        private const int MaximumExponent = 1000000;

        private readonly bool isNegative;
        private readonly string digits;
        private readonly long exponent;

        /// <summary>Keeps digits and a power of ten, whatever the number's size and however it is spelled.</summary>
        public JsonNumber(string text)
        {
            isNegative = text.StartsWith("-", StringComparison.Ordinal);
            text = isNegative ? text.Substring(1) : text;
            long power = 0;
            var e = text.IndexOfAny(new[] { 'e', 'E' });
            if (e >= 0)
            {
                power = Power(text.Substring(e + 1));
                text = text.Substring(0, e);
            }
            var point = text.IndexOf('.');
            var fraction = point < 0 ? "" : text.Substring(point + 1);
            var whole = point < 0 ? text : text.Substring(0, point);
            var all = (whole + fraction).TrimStart('0');
            digits = all.TrimEnd('0');
            exponent = digits.Length == 0 ? 0 : power - fraction.Length + all.Length - digits.Length;
        }

        public bool IsWhole => digits.Length == 0 || exponent >= 0;

        /// <summary>The number times 10^decimals, rounded down; null beyond 64 bits.</summary>
        public long? Scaled(int decimals)
        {
            var shift = exponent + decimals;
            var kept = shift >= 0 ? digits : digits.Substring(0, (int)Math.Max(0, digits.Length + shift));
            var zeros = kept.Length == 0 ? 0 : Math.Max(shift, 0);
            if (kept.Length + zeros > 19 ||
                !long.TryParse("0" + kept + new string('0', (int)zeros), NumberStyles.None, CultureInfo.InvariantCulture, out var value))
            {
                return null;
            }
            if (!isNegative)
            {
                return value;
            }
            return shift >= 0 || digits.Length == 0 ? -value : -value - 1;
        }

        /// <summary>Larger exponents are beyond every use, and stand for it.</summary>
        private static long Power(string text)
        {
            const NumberStyles Sign = NumberStyles.AllowLeadingSign;
            if (long.TryParse(text, Sign, CultureInfo.InvariantCulture, out var exact))
            {
                return Math.Max(-MaximumExponent, Math.Min(exact, MaximumExponent));
            }
            return text.StartsWith("-", StringComparison.Ordinal) ? -MaximumExponent : MaximumExponent;
        }
    }

    /// <summary>
    /// JSON by RFC 8259, strictly. Values are JsonObject, List of object, string, JsonNumber, bool and null. A string may have
    /// lone surrogates; <see cref="Text"/> refuses those.
    /// </summary>
    internal sealed class Json
    {
        private const int MaximumDepth = 512;
        private static readonly UTF8Encoding Strict = new UTF8Encoding(false, true);

        private readonly string data;
        private int at;

        private Json(string data) => this.data = data;

        /// <summary>Null where the bytes are no object.</summary>
        public static JsonObject ParseObject(byte[] bytes) => TryParse(bytes, out var value) ? value as JsonObject : null;

        public static bool TryParse(byte[] bytes, out object value)
        {
            value = null;
            try
            {
                var reader = new Json(Strict.GetString(bytes));
                value = reader.Value(1);
                reader.SkipBlanks();
                return reader.at == reader.data.Length;
            }
            catch (FormatException)
            {
                return false;
            }
            catch (DecoderFallbackException)
            {
                return false;
            }
        }

        /// <summary>A string without lone surrogates and of so many bytes of UTF-8; else null.</summary>
        public static string Text(object value, int minimum = 0, int maximum = int.MaxValue)
        {
            if (!(value is string text))
            {
                return null;
            }
            var count = Count(text);
            return count >= minimum && count <= maximum ? text : null;
        }

        /// <summary>As Text, not empty and without control characters.</summary>
        public static string PlainText(object value, int maximum) => value is string text && IsPlain(text, maximum) ? text : null;

        public static bool IsPlain(string text, int maximum)
        {
            var count = Count(text);
            if (count < 1 || count > maximum)
            {
                return false;
            }
            foreach (var letter in text)
            {
                if (letter < 0x20 || letter == 0x7F)
                {
                    return false;
                }
            }
            return true;
        }

        /// <summary>Bytes of UTF-8; -1 where there is a lone surrogate.</summary>
        public static int Count(string text)
        {
            try
            {
                return text == null ? -1 : Strict.GetByteCount(text);
            }
            catch (EncoderFallbackException)
            {
                return -1;
            }
        }

        /// <summary>A number where it is whole, however it is spelled; else null.</summary>
        public static long? Integer(object value) => value is JsonNumber number && number.IsWhole ? number.Scaled(0) : null;

        /// <summary>Adds a text with its quotes.</summary>
        public static StringBuilder Quote(StringBuilder target, string text)
        {
            target.Append('"');
            foreach (var letter in text)
            {
                if (letter == '"' || letter == '\\')
                {
                    target.Append('\\').Append(letter);
                }
                else if (letter < 0x20)
                {
                    target.Append("\\u").Append(((int)letter).ToString("x4", CultureInfo.InvariantCulture));
                }
                else
                {
                    target.Append(letter);
                }
            }
            return target.Append('"');
        }

        /// <summary>An object of names and texts, one after the other.</summary>
        public static string Object(params string[] namesAndTexts)
        {
            var text = new StringBuilder("{");
            for (var i = 0; i < namesAndTexts.Length; i += 2)
            {
                Quote(text.Append(i == 0 ? "" : ","), namesAndTexts[i]).Append(':');
                Quote(text, namesAndTexts[i + 1]);
            }
            return text.Append('}').ToString();
        }

        private char Peek() => at < data.Length ? data[at] : '\0';

        private void SkipBlanks()
        {
            while (Peek() == ' ' || Peek() == '\t' || Peek() == '\n' || Peek() == '\r')
            {
                at++;
            }
        }

        private bool Skip(char letter)
        {
            SkipBlanks();
            if (Peek() != letter)
            {
                return false;
            }
            at++;
            return true;
        }

        private void Require(bool condition)
        {
            if (!condition)
            {
                throw new FormatException("not JSON");
            }
        }

        private object Value(int depth)
        {
            Require(depth <= MaximumDepth);
            SkipBlanks();
            switch (Peek())
            {
                case '{': return Members(depth);
                case '[': return Elements(depth);
                case '"': return Characters();
                case 't': return Word("true", true);
                case 'f': return Word("false", false);
                case 'n': return Word("null", null);
                default: return Number();
            }
        }

        private object Word(string word, object value)
        {
            Require(string.CompareOrdinal(data, at, word, 0, word.Length) == 0);
            at += word.Length;
            return value;
        }

        private JsonObject Members(int depth)
        {
            var members = new JsonObject();
            at++;
            if (Skip('}'))
            {
                return members;
            }
            do
            {
                SkipBlanks();
                Require(Peek() == '"');
                var name = Characters();
                Require(Skip(':'));
                members.Add(name, Value(depth + 1));
            }
            while (Skip(','));
            Require(Skip('}'));
            return members;
        }

        private List<object> Elements(int depth)
        {
            var elements = new List<object>();
            at++;
            if (Skip(']'))
            {
                return elements;
            }
            do
            {
                elements.Add(Value(depth + 1));
            }
            while (Skip(','));
            Require(Skip(']'));
            return elements;
        }

        private string Characters()
        {
            var text = new StringBuilder();
            for (at++; ;)
            {
                Require(at < data.Length && data[at] >= 0x20);
                var letter = data[at++];
                if (letter == '"')
                {
                    return text.ToString();
                }
                text.Append(letter == '\\' ? Escaped() : letter);
            }
        }

        private char Escaped()
        {
            const string Letters = "\"\\/bfnrt", Meanings = "\"\\/\b\f\n\r\t";
            Require(at < data.Length);
            var letter = data[at++];
            if (letter == 'u')
            {
                Require(at + 4 <= data.Length);
                var digits = data.Substring(at, 4);
                at += 4;
                Require(ushort.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var unit));
                return (char)unit;
            }
            var place = Letters.IndexOf(letter);
            Require(place >= 0);
            return Meanings[place];
        }

        private JsonNumber Number()
        {
            var start = at;
            at += Peek() == '-' ? 1 : 0;
            var whole = at;
            var digits = Digits();
            Require(digits == 1 || (digits > 1 && data[whole] != '0'));
            if (Peek() == '.')
            {
                at++;
                Require(Digits() > 0);
            }
            if (Peek() == 'e' || Peek() == 'E')
            {
                at++;
                at += Peek() == '+' || Peek() == '-' ? 1 : 0;
                Require(Digits() > 0);
            }
            return new JsonNumber(data.Substring(start, at - start));
        }

        private int Digits()
        {
            var start = at;
            while (Peek() >= '0' && Peek() <= '9')
            {
                at++;
            }
            return at - start;
        }
    }
}
