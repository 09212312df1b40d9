using System;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace LicenseMetering
{
    /// <summary>Base64, hexadecimal, hashes, random numbers and times.</summary>
    internal static class Encoded
    {
        private const string Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        private const string TimeFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";

        public static string Base64Url(byte[] bytes) =>
            Convert.ToBase64String(bytes).TrimEnd('=').Replace('+', '-').Replace('/', '_');

        /// <summary>Base64url without padding, in its one spelling; else null.</summary>
        public static byte[] FromBase64Url(string text)
        {
            if (text.Length % 4 == 1)
            {
                return null;
            }
            var bytes = new byte[text.Length * 3 / 4];
            int bits = 0, count = 0, at = 0;
            foreach (var letter in text)
            {
                var value = Alphabet.IndexOf(letter);
                if (value < 0)
                {
                    return null;
                }
                bits = ((bits << 6) | value) & 0xFFFF;
                count += 6;
                if (count >= 8)
                {
                    count -= 8;
                    bytes[at++] = (byte)(bits >> count);
                }
            }
            return (bits & ((1 << count) - 1)) == 0 ? bytes : null;
        }

        /// <summary>Base64 of 32 bytes with its padding, in its one spelling; else null.</summary>
        public static byte[] FromDigest(string text)
        {
            if (text.Length != 44 || text[43] != '=' || text.IndexOfAny(new[] { '-', '_' }) >= 0)
            {
                return null;
            }
            return FromBase64Url(text.Substring(0, 43).Replace('+', '-').Replace('/', '_'));
        }

        public static byte[] Sha256(byte[] data)
        {
            using (var hash = SHA256.Create())
            {
                return hash.ComputeHash(data);
            }
        }

        public static byte[] Sha256(string text) => Sha256(Encoding.UTF8.GetBytes(text));

        public static string Hex(byte[] bytes, int count)
        {
            var text = new StringBuilder();
            for (var i = 0; i < count; i++)
            {
                text.Append(bytes[i].ToString("x2", CultureInfo.InvariantCulture));
            }
            return text.ToString();
        }

        /// <summary>The first half of the SHA-256, in hexadecimal.</summary>
        public static string ShortHash(string text) => Hex(Sha256(text), 16);

        /// <summary>128 bits in hexadecimal.</summary>
        public static string RandomHex()
        {
            var bytes = new byte[16];
            RandomNumberGenerator.Fill(bytes);
            return Hex(bytes, 16);
        }

        public static string Time(long milliseconds) =>
            DateTimeOffset.FromUnixTimeMilliseconds(milliseconds).UtcDateTime.ToString(TimeFormat, CultureInfo.InvariantCulture);

        /// <summary>Takes 2026-11-23T18:40:00.123Z and no other spelling. Milliseconds since 1970; null where it is none.</summary>
        public static long? FromTime(string text)
        {
            const DateTimeStyles Utc = DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal;
            if (text == null || !DateTime.TryParseExact(text, TimeFormat, CultureInfo.InvariantCulture, Utc, out var moment))
            {
                return null;
            }
            var milliseconds = new DateTimeOffset(moment).ToUnixTimeMilliseconds();
            return Time(milliseconds) == text ? milliseconds : (long?)null;
        }
    }
}
