using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;

namespace LicenseMetering
{
    /// <summary>A name in lower case and ASCII without port and trailing dot, or an address.</summary>
    public sealed class DomainName
    {
        private static readonly Lazy<HashSet<string>> PublicSuffixes = new Lazy<HashSet<string>>(ReadPublicSuffixes);

        private DomainName(string text, bool isAddress)
        {
            Text = text;
            IsAddress = isAddress;
        }

        /// <summary>
        /// Converts a name of another script by UTS #46, non-transitional; null or an exception where it cannot be. Without one,
        /// such names are refused and have to be given in their ASCII form (xn--…). Set it before the first use.
        /// </summary>
        public static Func<string, string> ToAscii { get; set; }

        public string Text { get; }

        public bool IsAddress { get; }

        /// <summary>True of localhost, names below .localhost and .test, and loopback addresses: no license holds there.</summary>
        public bool IsLocal
        {
            get
            {
                if (!IsAddress)
                {
                    var last = Text.Substring(Text.LastIndexOf('.') + 1);
                    return last == "localhost" || last == "test";
                }
                return Text.StartsWith("127.", StringComparison.Ordinal) || Text == "0:0:0:0:0:0:0:1" ||
                    (Text.StartsWith("0:0:0:0:0:ffff:7f", StringComparison.Ordinal) && Text.Split(':')[6].Length == 4);
            }
        }

        /// <summary>The name or address that a Host header means; null where it is neither.</summary>
        public static DomainName Parse(string text)
        {
            var count = Json.Count(text);
            if (count < 1 || count > 1024)
            {
                return null;
            }
            var address = ReadAddress(text);
            if (address != null)
            {
                return new DomainName(address, true);
            }
            var name = WithoutLastDot(WithoutPort(text));
            name = new string(name.Select(letter => letter >= 'A' && letter <= 'Z' ? (char)(letter | 0x20) : letter).ToArray());
            var isEncoded = name.StartsWith("xn--", StringComparison.Ordinal) || name.IndexOf(".xn--", StringComparison.Ordinal) >= 0;
            if (ToAscii != null && (isEncoded || name.Any(letter => letter >= 0x80)))
            {
                name = Converted(name);
            }
            return name != null && IsName(name) ? new DomainName(name, false) : null;
        }

        /// <summary>
        /// Whether a license that is bound to these domains holds here: example.com covers itself, *.example.com every name below
        /// it. Public suffixes and local names are never covered.
        /// </summary>
        public bool IsCoveredBy(IEnumerable<string> bound) => !IsLocal && bound.Any(IsCoveredBy);

        /// <summary>Whether anybody may register below the name, by the Public Suffix List that the package brings.</summary>
        public static bool IsPublicSuffix(string name)
        {
            var dot = name.IndexOf('.');
            if (dot < 0)
            {
                return true;
            }
            var rules = PublicSuffixes.Value;
            if (rules.Contains("!" + name))
            {
                return false;
            }
            // Where anybody may have any name below a name, that name is nobody's own either.
            return rules.Contains(name) || rules.Contains("*." + name) || rules.Contains("*." + name.Substring(dot + 1));
        }

        public override string ToString() => Text;

        private bool IsCoveredBy(string pattern)
        {
            var isWildcard = pattern.StartsWith("*.", StringComparison.Ordinal);
            var name = Parse(isWildcard ? pattern.Substring(2) : pattern);
            if (name == null || (name.IsAddress ? isWildcard : IsPublicSuffix(name.Text)))
            {
                return false;
            }
            if (!isWildcard)
            {
                return name.Text == Text;
            }
            return !IsAddress && Text.Length > name.Text.Length + 1 && Text.EndsWith("." + name.Text, StringComparison.Ordinal);
        }

        private static HashSet<string> ReadPublicSuffixes()
        {
            var rules = new HashSet<string>(StringComparer.Ordinal);
            var assembly = typeof(DomainName).Assembly;
            using (var reader = new StreamReader(assembly.GetManifestResourceStream("LicenseMetering.public_suffixes.txt")))
            {
                for (var line = reader.ReadLine(); line != null; line = reader.ReadLine())
                {
                    if (line.Length > 0 && !line.StartsWith("//", StringComparison.Ordinal))
                    {
                        rules.Add(line);
                    }
                }
            }
            return rules;
        }

        private static string Converted(string name)
        {
            try
            {
                var ascii = ToAscii(name);
                return ascii == null ? null : WithoutLastDot(ascii);
            }
            catch (ArgumentException)
            {
                return null;
            }
        }

        private static string WithoutLastDot(string name) =>
            name.EndsWith(".", StringComparison.Ordinal) ? name.Substring(0, name.Length - 1) : name;

        private static string WithoutPort(string text)
        {
            var colon = text.IndexOf(':');
            return colon < 0 || !IsPort(text.Substring(colon)) ? text : text.Substring(0, colon);
        }

        /// <summary>Nothing, or a colon and a port's digits, or none.</summary>
        private static bool IsPort(string text)
        {
            return text.Length == 0 || (text[0] == ':' && ushort.TryParse(
                "0" + text.Substring(1), NumberStyles.None, CultureInfo.InvariantCulture, out _));
        }

        private static string ReadAddress(string text)
        {
            if (text[0] == '[')
            {
                var end = text.IndexOf(']');
                return end < 0 || !IsPort(text.Substring(end + 1)) ? null : ReadV6(text.Substring(1, end - 1));
            }
            return ReadV6(text) ?? ReadV4(text) ?? ReadV4(WithoutPort(text));
        }

        /// <summary>Four numbers in their one spelling.</summary>
        private static string ReadV4(string text)
        {
            var parts = text.Split('.');
            return parts.Length == 4 && parts.All(part =>
                byte.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var number) &&
                number.ToString(CultureInfo.InvariantCulture) == part) ? text : null;
        }

        /// <summary>Eight groups in hexadecimal, without shortening.</summary>
        private static string ReadV6(string text)
        {
            if (text.IndexOf(':') < 0 || text.Length > 45)
            {
                return null;
            }
            var gap = text.IndexOf("::", StringComparison.Ordinal);
            if (gap < 0)
            {
                var whole = Groups(text, true);
                return whole?.Count == 8 ? string.Join(":", whole) : null;
            }
            List<string> head = Groups(text.Substring(0, gap), false), tail = Groups(text.Substring(gap + 2), true);
            if (head == null || tail == null || head.Count + tail.Count > 7)
            {
                return null;
            }
            var zeros = Enumerable.Repeat("0", 8 - head.Count - tail.Count);
            return string.Join(":", head.Concat(zeros).Concat(tail));
        }

        private static List<string> Groups(string text, bool mayEndInV4)
        {
            var groups = new List<string>();
            if (text.Length == 0)
            {
                return groups;
            }
            var parts = text.Split(':');
            for (var i = 0; i < parts.Length; i++)
            {
                if (mayEndInV4 && i == parts.Length - 1 && ReadV4(parts[i]) != null)
                {
                    var numbers = parts[i].Split('.').Select(int.Parse).ToArray();
                    groups.Add((numbers[0] << 8 | numbers[1]).ToString("x", CultureInfo.InvariantCulture));
                    groups.Add((numbers[2] << 8 | numbers[3]).ToString("x", CultureInfo.InvariantCulture));
                    continue;
                }
                const NumberStyles Hexadecimal = NumberStyles.AllowHexSpecifier;
                if (parts[i].Length > 4 || !ushort.TryParse(parts[i], Hexadecimal, CultureInfo.InvariantCulture, out var group))
                {
                    return null;
                }
                groups.Add(group.ToString("x", CultureInfo.InvariantCulture));
            }
            return groups;
        }

        private static bool IsName(string name)
        {
            var labels = name.Split('.');
            var last = labels[labels.Length - 1];
            if (name.Length > 253 || !labels.All(IsLabel))
            {
                return false;
            }
            // Some readers would take a name that ends in a number for an address.
            var isNumber = last.All(letter => letter >= '0' && letter <= '9');
            return !isNumber && !(last.StartsWith("0x", StringComparison.Ordinal) && last.Substring(2).All(Uri.IsHexDigit));
        }

        private static bool IsLabel(string label)
        {
            return label.Length >= 1 && label.Length <= 63 && label[0] != '-' && label[label.Length - 1] != '-' && label.All(
                letter => (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9') || letter == '_' || letter == '-');
        }
    }
}
